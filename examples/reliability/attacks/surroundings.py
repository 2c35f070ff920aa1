"""Limits, environments, streams, clocks, signals; and options with extreme values."""

import os
import pathlib
import pty
import resource
import shutil
import signal
import time

from .harness import MINI, QUICK
from .places import writers


def limits(world):
    """`ulimit -f`, `-v`, `-n`, `-u`, `-s`: an error, or it goes well."""
    commands = writers(world, "o").items()
    sizes = [0, 1, 99, 512, 1000, 1500, 2048, 3000, 4096, 6000, 8192, 12_288, 20_000, 32_768, 65_536]
    for most in world.some(sizes, 15):
        for what, (arguments, _) in commands:
            # Its messages go into files, too, which have no more room.
            world.case(f"{what}: files of {most}", arguments, limits=[(resource.RLIMIT_FSIZE, most)], told=most > 99)
    megabytes = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 120, 140, 160, 180, 200, 250, 300, 400, 600, 1000, 2000]
    for most in world.some(megabytes, 21):
        for what, (arguments, _) in world.some(commands, 5):
            # Below what the system needs to start the program, it is the system that ends it.
            early = (127, -9, -11) if most <= 40 else ()
            world.case(f"{what}: {most} MB", arguments, want=(0, 1, *early), limits=[(resource.RLIMIT_AS, most << 20)])
    for most in (3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 24, 32, 64):
        for what, (arguments, _) in world.some(commands, 6):
            early = (127,) if most == 3 else ()
            limit = [(resource.RLIMIT_NOFILE, most)]
            world.case(f"{what}: {most} open files", arguments, want=(0, 1, *early), limits=limit)
    for most in (8192, 65_536, 131_072, 262_144, 1 << 20):
        for what, (arguments, _) in world.some(commands, 4):
            limit = [(resource.RLIMIT_STACK, most)]
            world.case(f"{what}: a stack of {most}", arguments, want=(0, 1, -11, -9), limits=limit)
    if os.geteuid() == 0:
        pathlib.Path(world.out).chmod(0o777)
        for parent in (world.folder, world.at):
            parent.chmod(0o755)
        copy = shutil.copy(world.binary, world.at / "cones")
        for most in (1, 2, 3, 4, 5, 8, 16):
            for what, (arguments, _) in world.some(commands, 4):
                user = str(20_000 + most)
                wrap = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "prlimit", f"--nproc={most}",
                        str(copy)]
                world.clear()
                ended = run_as(world, wrap, arguments)
                world.judge(f"{what}: {most} processes", ended)


def run_as(world, wrap, arguments):
    """A run of another binary, named by the last word of `wrap`."""
    binary, world.binary = world.binary, wrap[0]
    try:
        return world.run([*wrap[1:], *arguments])
    finally:
        world.binary = binary


def environments(world):
    values = ["", " ", "0", "-1", "nan", "inf", "1e999", "100000", "18446744073709551616", "x", "\x1b[2J", "/nowhere",
              "/dev/null", "a" * 100_000, "\udcff", "auto", "never", ":", "C"]
    keys = ("HOME TMPDIR LANG LC_ALL TERM COLUMNS LINES NO_COLOR CLICOLOR_FORCE RUST_BACKTRACE RUST_MIN_STACK RUST_LOG "
            "RAYON_NUM_THREADS RAYON_RS_NUM_CPUS CONES_MODEL CONES_DEVICE CONES_DTYPE CONES_STATE_SECONDS HF_HOME "
            "HF_HUB_CACHE HF_ENDPOINT HF_TOKEN XDG_CACHE_HOME HTTPS_PROXY TZ PATH USER SSL_CERT_FILE OMP_NUM_THREADS "
            "MKL_NUM_THREADS LD_BIND_NOW").split()
    commands = {"generate": ["generate", "x", *QUICK, "-o", "o.png"], "inspect": ["inspect", world.index],
                "find": ["find", "--subject", "dog", *QUICK, "--batch", "1", "-o", "o.idx", world.photos],
                "hub": ["generate", "x", "--model", "owner/name"], "doctor": ["doctor"], "help": ["--help"]}
    for key, value in world.some([(key, value) for key in keys for value in [*values, None]], 250):
        what, arguments = world.chance.choice(list(commands.items()))
        if key == "CLICOLOR_FORCE" and what == "help":
            continue  # whoever sets it wants what a terminal acts on
        world.case(f"{what}: {key}={value!r:.20}", arguments, want=(0, 1, 2), environment={key: value}, limit=60)
    for what, arguments in commands.items():
        nothing = dict.fromkeys(os.environ)
        world.case(f"{what}: nothing at all", arguments, want=(0, 1), environment=nothing)
    for what, (arguments, _) in writers(world, "o").items():
        nowhere = {"TMPDIR": "/nowhere", "HOME": None}
        world.case(f"{what}: no folder for temporary files", arguments, environment=nowhere)


def streams(world):
    """Output that nobody takes: closed, full, a pipe without a reader, a terminal that hangs up."""
    full = open("/dev/full", "w")
    others = {"doctor": (["doctor"], []), "help": (["--help"], [])}
    for what, (arguments, _) in {**writers(world, "o"), **others}.items():
        ends_well = lambda ended: None if ended.status == 0 or what == "eval" else f"status {ended.status}"
        for as_json in ([], ["--json"]) if what != "help" else ([],):
            for name, streams, want in (("stderr full", {2: full}, (0, 1)), ("stdout full", {1: full}, (0, 1)),
                                        ("both full", {1: full, 2: full}, (0, 1))):
                world.case(f"{what} {as_json}: {name}", [*arguments, *as_json], want=want, streams=streams,
                           told=2 not in streams, check=None if 1 in streams else ends_well)
            for closed in ([1], [2], [0], [0, 1, 2]):
                close = lambda: [os.close(number) for number in closed]
                world.case(f"{what} {as_json}: closed {closed}", [*arguments, *as_json], before=close,
                           told=what != "eval", check=ends_well)
            for number in (1, 2):
                read, write = os.pipe()
                os.close(read)
                world.clear()
                ended = world.run([*arguments, *as_json], streams={number: write})
                os.close(write)
                world.judge(f"{what} {as_json}: stream {number} into a closed pipe", ended, told=what != "eval")
        world.clear()
        master, slave = pty.openpty()
        run = world.start(arguments, streams={1: slave, 2: slave})
        os.close(slave)
        time.sleep(world.chance.uniform(0, 0.1))
        os.close(master)
        world.judge(f"{what}: a terminal that hangs up", run.end(), want=(0, 1, 130), told=False)


def clocks(world):
    """Before 1970, and long after: of files, and of the machine where `faketime` is there."""
    model = world.model()
    for seconds in (-10**10, -10**9, -1, 0, 2**31 - 1, 2**31, 2**32, 253_402_300_799):
        for path in [*model.rglob("*"), pathlib.Path(world.index)]:
            os.utime(path, (seconds, seconds))
        for what, (arguments, _) in writers(world, "o").items():
            arguments = [str(model) if argument == str(MINI) else argument for argument in arguments]
            fails = lambda ended: None if ended.status == 0 or what == "eval" else "fails"
            world.case(f"{what}: files of {seconds}", arguments, check=fails)
    if shutil.which("faketime"):
        for moment in ("1901-12-14 00:00:00", "1969-12-31 00:00:00", "1970-01-01 00:00:00", "2038-01-19 03:14:07",
                       "2262-01-01 00:00:00", "2500-01-01 00:00:00"):
            for what, (arguments, _) in writers(world, "o").items():
                fails = lambda ended: None if ended.status == 0 or what == "eval" else "fails"
                world.case(f"{what}: at {moment}", arguments, wrap=["faketime", "-f", moment], check=fails)
    else:
        return "without faketime, files alone"


def signals(world):
    """Each signal at a random moment of each command."""
    ending = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    others = [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE, signal.SIGXFSZ,
              signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGXCPU, signal.SIGVTALRM, signal.SIGKILL]
    commands = {**writers(world, "o", steps="30"), "find, many photos": (
        ["find", "--subject", "dog", *QUICK, "-o", "o.idx", *[world.photos] * 20], [])}
    for _ in range(max(1, round(3 * world.many))):
        for what, (arguments, _) in commands.items():
            for number in [*ending, *world.some(others, 3)]:
                world.clear()
                run = world.start(arguments, environment={"CONES_STATE_SECONDS": "0"})
                time.sleep(world.chance.uniform(0, 0.8))
                run.signal(number)
                sent = time.time()
                ended = run.end()
                late = time.time() - sent
                # Before the program has said what it does with a signal, the system does.
                first = sent - run.start < 0.1
                want = {0, 1, 130} | ({-number} if first else set()) if number in ending else {0, 1, -number}
                slow = lambda ended: f"heard after {late:.1f} s" if ended.status == 130 and late > 3 else None
                world.judge(f"{what}: {number.name} after {sent - run.start:.2f} s", ended, want=want,
                            killed=ended.status < 0, check=slow)
    for what, (arguments, files) in commands.items():
        world.clear()
        run = world.start(arguments)
        for _ in range(20):
            time.sleep(0.02)
            run.signal(signal.SIGSTOP)
            run.signal(signal.SIGCONT)
        world.judge(f"{what}: stopped and continued", run.end())


def numbers(world):
    """Options with extreme values."""
    values = ("0 -0 -1 1 2 3 0.5 1e-300 1e300 1e999 -1e999 nan inf -inf x 2147483648 4294967296 9223372036854775807 "
              "18446744073709551615 18446744073709551616 1e3 0x10 1_000 \u0661 100% 0% -1% 101% 1,2 7:8 1x1 8x16 "
              "99999x8 2x99999999999 1/2 0/0 33/32 1KB 1e30GB cross mid_block:k *").split() + ["", " ", "a" * 10_000]
    find = (["find", "--subject", "dog", "--dry-run", "--model", str(MINI), "-o", "o.idx", world.mini_photos],
            "steps prior-weight density threshold rho until-stable learning-rate sites batch class-count scope method "
            "memory seed threads token dtype".split())
    paper = ([*find[0], "--method", "paper"], find[1])
    quick = (["find", "--subject", "dog", "--model", str(MINI), "-o", "o.idx", "--batch", "1", world.mini_photos],
             "density learning-rate seed threads sites token subject memory".split())
    draw = (["generate", "a dog", "--model", str(MINI), "--concepts", world.mini_index],
            "strength guidance-scale size zoom seed preview layers attend-excite heatmap sampler memory "
            "negative-prompt init-strength threads".split())
    drawn = (["generate", "a dog", "--model", str(MINI), "--dry-run"],
             "steps count size memory seed threads dtype".split())
    tune = (["merge", world.index, "-o", "o.idx", "--images", f"dog={world.photos}", "--tune", "1", "--batch", "1"],
            "learning-rate prior-weight class-count memory seed".split())
    measure = (["eval", world.index, "--images", world.photos, "--class-images", world.photos, "--count", "1"],
               "controls loss-draws sweep guidance-scale sampler subject seed".split())
    for arguments, options in (find, paper, quick, draw, drawn, tune, measure):
        steps = [] if "--dry-run" in arguments or arguments[0] == "merge" else QUICK
        for option, value in world.some([(option, value) for option in options for value in values], 130):
            big = value.isdigit() and len(value) > 3 or value in ("1e3",)
            if arguments[0] == "eval" and big and option in ("controls", "loss-draws"):
                continue  # may be asked for, and takes its time
            world.case(f"{arguments[0]} --{option}={value[:25]}", [*arguments, *steps, f"--{option}={value}"],
                       want=(0, 1, 2), limit=60)
    nouns = "dog " * 3000
    for text in ("", " ", nouns, "(" * 3000, "(dog:" * 500, "\x1b[2J", "\u202edog", "é" * 5000, "🐩" * 2000,
                 "[]" * 2000, "a photo of a " + "(((dog))):1e999", "<lora:a:1>", "BREAK " * 500, "\\(" * 2000,
                 "dog\n" * 500):
        world.case(f"prompt {text[:20]!r}", ["generate", *QUICK, "--size", "16", "--model", str(MINI), "--concepts",
                                            world.mini_index, "--", text], limit=20)


KINDS = {"around: limits": limits, "around: environments": environments, "around: streams": streams,
         "around: clocks": clocks, "around: signals": signals, "around: numbers": numbers}
