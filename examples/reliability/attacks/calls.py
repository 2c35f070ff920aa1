"""Calls of the system that fail, or at which the program is killed: by `strace`, exactly at renames and syncs too."""

import re
import shutil
import subprocess

from .harness import MINI, QUICK
from .places import writers

RENAMES, SYNCS = "rename,renameat,renameat2", "fsync,fdatasync"
ERRORS = {RENAMES: ("EIO", "ENOSPC", "EACCES"), SYNCS: ("EIO", "ENOSPC", "EDQUOT")}


def can_trace():
    tried = shutil.which("strace") and subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True)
    return bool(tried) and tried.returncode == 0


def all_writers(world):
    found = writers(world, "o", steps="2")
    class_pictures = ["find", "--subject", "dog", "--method", "paper", *QUICK, "--model", str(MINI), "--class-count",
                      "2", "--force", "-o", "o.idx", world.mini_photos]
    return {**found, "find with class pictures": (class_pictures, [".idx"])}


def traced(world, arguments, calls, what, environment):
    """A run in which calls fail; how it ended, and the calls that were made to fail."""
    trace = world.at / "trace"
    wrap = ["strace", "-f", "-y", "-qq", "-s", "300", "-o", str(trace), "-e", f"trace={RENAMES},{SYNCS},{calls}", "-e",
            f"inject={calls}:{what}"]
    ended = world.run(arguments, limit=60, wrap=wrap, environment=environment)
    return ended, [line for line in trace.read_text(errors="replace").splitlines() if "resumed" not in line]


def injected(lines):
    """What each failed call was for: a state of unfinished work, or else; of a folder, what was renamed in it."""
    before, found = {}, []
    for line in lines:
        thread = line.split(" ", 1)[0]
        if "(INJECTED)" in line:
            folder = "sync(" in line and ".cones-" not in line and ".part" not in line
            about = before.get(thread, "") if folder else line
            found.append("state" if ".part" in about else "output")
        elif "rename" in line:
            before[thread] = line
    return found


def failing(world, calls):
    """Every rename, or every sync, of every command fails once."""
    if not can_trace():
        return "no strace that may trace"
    for what, (arguments, files) in all_writers(world).items():
        for error in ERRORS[calls][:max(1, round(3 * world.many))]:
            for old in (False, True) if world.many >= 1 else (world.chance.randrange(2) == 1,):
                for number in range(1, 40):
                    world.clear()
                    for ending in files if old else ():
                        (world.out / f"o{ending}").write_bytes(b"old")
                    often = {"CONES_STATE_SECONDS": "0"} if number % 2 else {}
                    ended, lines = traced(world, arguments, calls, f"error={error}:when={number}", often)
                    failed = injected(lines)
                    if not failed:
                        break
                    for ending in files:
                        path = world.out / f"o{ending}"
                        if path.is_file() and path.read_bytes() == b"old":
                            path.unlink()
                    for path in world.out.glob("*.part"):
                        path.unlink() if ended.status else None

                    def named(ended):
                        if "output" in failed and not any(f"o{ending}" in ended.error for ending in files):
                            return None if "class" in ended.error else "no file is named"
                        if "output" not in failed and "would be lost" not in ended.error:
                            return "a state that is not kept, and no word of it"

                    answers = {0, 1} if what == "eval" or "class" in what else {0}
                    want = {1} if "output" in failed and "class" not in what else answers
                    name = f"{what}: {error} at call {number}{', an old file' if old else ''}"
                    world.judge(name, ended, want=want, check=named)


def renames(world):
    return failing(world, RENAMES)


def syncs(world):
    return failing(world, SYNCS)


def others(world):
    """Writing, closing, modes, locks, opening, memory: any of them fails."""
    if not can_trace():
        return "no strace that may trace"
    calls = {"write": "ENOSPC", "openat": "EMFILE", "close": "EIO", "fchmod": "EPERM", "flock": "ENOLCK",
             "statx": "EACCES", "read": "EIO", "getrandom": "ENOSYS", "lseek": "EINVAL", "unlink": "EACCES",
             "mkdir": "ENOSPC", "clone3": "EAGAIN", "mmap": "ENOMEM", "sigaltstack": "EINVAL", "ioctl": "ENOTTY",
             "sched_getaffinity": "ENOSYS", "prlimit64": "EPERM", "getcwd": "ENOENT", "poll": "EINTR"}
    often = {"CONES_STATE_SECONDS": "0"}
    for call, error in calls.items():
        for what, (arguments, _) in world.some(all_writers(world).items(), 4):
            # The dynamic linker has its own words for what it cannot read.
            first = [1] if call in ("flock", "clone3", "mkdir", "unlink", "fchmod") else []
            for number in first + sorted(world.chance.sample(range(12, 120), 4)):
                world.clear()
                ended, lines = traced(world, arguments, call, f"error={error}:when={number}", often)
                if any("INJECTED" in line for line in lines):
                    early = ended.status == 127 and "shared libraries" in ended.error
                    world.judge(f"{what}: {call} {number} is {error}", ended, want=(0, 1, 127) if early else (0, 1),
                                killed="unlink" in call)


def killed(world):
    """Killed on entry to a call: nothing half, the old file as it was, and the same command ends well."""
    if not can_trace():
        return "no strace that may trace"
    for what, (arguments, files) in all_writers(world).items():
        for call in ("write", RENAMES, SYNCS, "unlink", "openat"):
            for number in (1, 2, 3, *world.chance.sample(range(4, 80), 2)):
                world.clear()
                for ending in files:
                    (world.out / f"o{ending}").write_bytes(b"old")
                ended, _ = traced(world, arguments, call, f"signal=KILL:when={number}", {"CONES_STATE_SECONDS": "0"})
                for ending in files:
                    path = world.out / f"o{ending}"
                    if path.is_file() and path.read_bytes() == b"old":
                        path.unlink()
                world.judge(f"{what}: killed at {re.split(',', call)[0]} {number}", ended, want=(0, 1, -9), killed=True)
                if ended.status == -9:
                    world.judge(f"{what}: again", world.run(arguments), killed=True)


KINDS = {"calls: every rename fails": renames, "calls: every sync fails": syncs, "calls: others fail": others,
         "calls: killed at one": killed}
