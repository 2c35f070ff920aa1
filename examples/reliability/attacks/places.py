"""Where outputs go: names, links, folders, disks that are full or read-only, what vanishes."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import time

from .harness import MINI, PHOTOS, QUICK


def writers(world, out, steps="1"):
    """Every command that writes, to `out` without an ending: arguments and the files that it writes."""
    mini, class_images = ["--model", str(MINI)], ["--class-images", world.mini_photos]
    find = ["find", "--subject", "dog", "--batch", "1", "--steps", steps, "--force"]
    draw = ["--steps", steps, "--size", "16", *mini]
    return {
        "find": ([*find, *mini, "-o", f"{out}.idx", "--scores", f"{out}.scores", world.mini_photos],
                 [".idx", ".scores"]),
        "find paper": ([*find[:3], "--method", "paper", "--force", "--steps", steps, *mini, *class_images, "-o",
                        f"{out}.idx", world.mini_photos], [".idx"]),
        "find part": (["find", "--subject", "dog", "--method", "paper", "--rho", "0", "--steps", "4", "--shard", "1/2",
                       "--scores", f"{out}.scores", *mini, *class_images, world.mini_photos], [".scores"]),
        "find from scores": (["find", "--density", "0.01", "--force", "-o", f"{out}.idx", "--from-scores",
                              *world.parts], [".idx"]),
        "merge": (["merge", world.index, world.other, "--force", "-o", f"{out}.idx"], [".idx"]),
        "merge --tune": (["merge", world.index, "--force", "--tune", steps, "--batch", "1", "--images", f"dog={PHOTOS}",
                          "-o", f"{out}.idx"], [".idx"]),
        "generate": (["generate", "a dog", *draw, "-o", f"{out}.png", "--heatmap", "dog"], [".png", "-heat-dog.png"]),
        "generate --count": (["generate", "a dog", *draw, "-o", f"{out}.png", "--count", "3", "--grid"],
                             ["-0.png", "-1.png", "-2.png", "-grid.png"]),
        "generate jpeg": (["generate", "a dog", *draw, "-o", f"{out}.jpg"], [".jpg"]),
        "inspect": (["inspect", world.index, "--indices", f"{out}.safetensors"], [".safetensors"]),
        "eval": (["eval", world.index, "--images", world.photos, "--class-images", world.photos, "--count", "1",
                  "--steps", steps, "--loss-draws", "0", "--sheet", f"{out}.png"], [".png"]),
        "export": (["export", world.prompt_index, "--as", "delta", "-o", f"{out}.safetensors"], [".safetensors"]),
        "export diffusers": (["export", world.prompt_index, "--as", "diffusers", "-o", f"{out}-unet.safetensors"],
                             ["-unet.safetensors"]),
    }


ODD_NAMES = ["\x1b[2J", "a\nb", "\u202egnp", "-x", "--help", "a b", "'", "\"", "a,b", "{}", "%s", "é", "🐩",
             "a" * 200, "a" * 245, ".", "..x", "~", "$HOME", "a\\b", "a:b", "*", "\t", "x.part", "#", "con", " x", "x "]


def odd_names(world):
    for name in [*map(os.fsencode, ODD_NAMES), b"\xff", b"\xff\xfe\xfd", b"a\x80b", b"\xed\xa0\x80", b"\xc0\x80"]:
        text = os.fsdecode(name)
        photo = world.at / f"{text}.png"
        with contextlib.suppress(OSError):
            shutil.copy(sorted(PHOTOS.iterdir())[0], photo)
            shutil.copy(world.index, world.at / f"{text}.idx")
            shutil.copy(world.index, world.at / f"{text}x.idx")
        for as_json in ([], ["--json"]):
            for what, (arguments, _) in world.some(writers(world, f"./{text}").items(), 4):
                world.case(f"{name!r}: {what}", [*arguments, *as_json], want=(0, 1, 2))
            for command in (["inspect", str(world.at / f"{text}.idx")],
                            ["find", "--subject", "dog", *QUICK, "--batch", "1", "-o", "o.idx", str(photo)],
                            ["generate", "dog", *QUICK, "--concepts", f"{world.at}/{text}.idx"],
                            ["generate", "dog", *QUICK, "--model", f"{world.at}/{text}"]):
                world.case(f"{name!r} read: {command[0]}", [*command, *as_json], want=(0, 1, 2))
        for option in ("--subject", "--token"):
            other = ["--token", "sks"] if option == "--subject" else ["--subject", "dog"]
            command = ["find", f"{option}={text}", *other, *QUICK, "--batch", "1", world.mini_photos, "--model",
                       str(MINI)]
            outside = lambda _: "a file outside" if list(world.folder.glob("*.idx")) else None
            world.case(f"{option}={name!r}", command, want=(0, 1, 2), check=outside)


def no_files(world):
    """Folders, links, devices, pipes in the place of outputs."""
    precious = world.at / "precious"
    for what, (arguments, files) in writers(world, "o").items():
        for kind in ("a folder", "a link", "a dangling link", "a loop", "/dev/full", "/dev/null", "a socket",
                     "a link to a folder", "read-only", "a link away"):
            world.clear()
            precious.write_bytes(b"precious")
            for ending in files:
                path = world.out / f"o{ending}"
                match kind:
                    case "a folder":
                        (path / "x").mkdir(parents=True)
                    case "a link":
                        path.symlink_to(f"real{ending}")
                        (world.out / f"real{ending}").touch()
                    case "a dangling link":
                        path.symlink_to("no/where")
                    case "a loop":
                        path.symlink_to(path)
                    case "a socket":
                        with contextlib.closing(socket.socket(socket.AF_UNIX)) as one:
                            one.bind(str(path))
                    case "a link to a folder":
                        path.symlink_to(world.at)
                    case "read-only":
                        path.write_bytes(b"old")
                        path.chmod(0o400)
                    case "a link away":
                        path.symlink_to(precious)
                    case device:
                        path.symlink_to(device)
            want = {"a link": (0, 1), "/dev/null": (0, 1), "read-only": (0, 1), "a link away": (0, 1)}.get(kind, (1,))
            ended = world.run(arguments)
            kept = {path.name for path in world.out.iterdir() if ".saved" in path.name}
            for path in [*world.out.glob("real*"), *world.out.glob("o*")]:
                old = path.is_file() and path.read_bytes() in (b"old", b"", b"precious")
                if old or path.is_symlink() or path.is_socket() or path.is_dir():
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            world.judge(f"{what} into {kind} {kept or ''}", ended, want=want)


def vanishing(world):
    """The folder of the output, of the photos, or the current one goes away during the run."""
    for _ in range(max(1, round(3 * world.many))):
        for what, (arguments, _) in writers(world, "d/o", steps="20").items():
            for how in ("removed", "moved", "replaced by a file", "replaced by a link"):
                world.clear()
                folder = world.out / "d"
                folder.mkdir()
                run = world.start(arguments, environment={"CONES_STATE_SECONDS": "0"})
                time.sleep(world.chance.uniform(0, 0.5))
                away = world.at / "moved"
                shutil.rmtree(away, ignore_errors=True)
                with contextlib.suppress(OSError):
                    folder.rename(away)
                    match how:
                        case "removed":
                            shutil.rmtree(away)
                        case "replaced by a file":
                            folder.write_bytes(b"")
                        case "replaced by a link":
                            folder.symlink_to(away)
                world.judge(f"{what}: the folder is {how}", run.end(), killed=False)
    gone = world.at / "gone"
    for what, (arguments, _) in writers(world, "o").items():
        gone.mkdir()
        run = world.start(arguments, cwd=gone, before=lambda: os.rmdir(gone))
        world.judge(f"{what}: no current folder", run.end(), want=(1,))
        shutil.rmtree(gone, ignore_errors=True)


@contextlib.contextmanager
def disk(at, options):
    at.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(at)], capture_output=True)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(at)], check=True)


def full(world):
    """Disks with some pages free: the result whole, or an error and the file that was there."""
    for kilobytes in (4, 8, 12, 16, 20, 24, 32, 48, 64, 100, 200, 400):
        for what, (arguments, files) in writers(world, "d/o").items():
            world.clear()
            with disk(world.out / "d", f"size={kilobytes}k") as mounted:
                if not mounted:
                    return "may not mount"
                old = world.chance.randrange(2) == 1
                with contextlib.suppress(OSError):
                    for ending in files if old else ():
                        (world.out / f"d/o{ending}").write_bytes(b"old")
                    if kilobytes == 4 and not old:
                        (world.out / "d/filler").write_bytes(bytes(4096))
                ended = world.run(arguments, environment={"CONES_STATE_SECONDS": "0"})
                def lost(ended):
                    return next((f"{ending}: not there" for ending in files
                                 if ended.status == 0 and not (world.out / f"d/o{ending}").is_file()), None)
                for ending in files:
                    path = world.out / f"d/o{ending}"
                    if old and path.is_file() and path.read_bytes() in (b"old", b"") and ended.status != 0:
                        path.unlink()
                world.judge(f"{what}, {kilobytes} kB{', an old file' if old else ''}", ended, check=lost)


def read_only(world):
    for what, (arguments, files) in writers(world, "d/o").items():
        for old in (False, True):
            world.clear()
            with disk(world.out / "d", "size=1m") as mounted:
                if not mounted:
                    return "may not mount"
                for ending in files if old else ():
                    (world.out / f"d/o{ending}").write_bytes(b"old")
                subprocess.run(["mount", "-o", "remount,ro", str(world.out / "d")], check=True)
                ended = world.run(arguments)
                late = lambda ended: "refused after the work" if "saved" in ended.error else None
                problem = late(ended)
            world.clear()
            world.judge(f"{what}{', an old file' if old else ''}", ended, want=(1,), check=lambda _: problem)


def at_once(world):
    """Several runs on one output: each ends well or says that another is at work, and the file is whole."""
    for _ in range(max(1, round(2 * world.many))):
        for what, (arguments, files) in writers(world, "o", steps="10").items():
            world.clear()
            runs = [world.start(arguments, environment={"CONES_STATE_SECONDS": "0"}) for _ in range(4)]
            ended = [run.end() for run in runs]
            missing = lambda _: next((ending for ending in files if not (world.out / f"o{ending}").is_file()), None)
            for one in ended:
                refused = one.status == 1 and "locked" in one.error
                world.judge(f"{what}: four at once", one, want=(0, 1), check=lambda one: missing(one) or (
                    None if one.status == 0 or refused or "CLIP-I" in one.out else "failed for another reason"))


def privacy(world):
    """No output holds the folders, the user or the host."""
    secret = world.folder / "SecretFolder7"
    secret.mkdir(exist_ok=True)
    photos = secret / "photos"
    shutil.copytree(PHOTOS, photos, dirs_exist_ok=True)
    words = [b"SecretFolder7", bytes(pathlib.Path.home()) + b"/", b"SecretUser7", socket.gethostname().encode()]
    for what, (arguments, files) in writers(world, str(secret / "o")).items():
        arguments = [str(photos) if argument == world.mini_photos else argument for argument in arguments]
        world.clear()
        ended = world.run(arguments, environment={"USER": "SecretUser7", "LOGNAME": "SecretUser7"})
        def told(_):
            for ending in files:
                data = (secret / f"o{ending}").read_bytes() if (secret / f"o{ending}").is_file() else b""
                for word in words:
                    if len(word) > 3 and word in data:
                        return f"o{ending} holds {word}"
        world.judge(what, ended, check=told)


KINDS = {"outputs: odd names": odd_names, "outputs: no files": no_files, "outputs: vanishing": vanishing,
         "outputs: full disk": full, "outputs: read-only disk": read_only, "outputs: four at once": at_once,
         "outputs: privacy": privacy}
