"""Kills `cones` at random moments and goes on until it is done: every result has the bytes of a run never stopped.

    python3 examples/reliability/kills.py [--seed 1] [--kills 50] [--cones target/release/cones] [--only find]

Plain Python 3, on the model inside the program. For each command one run is left alone; then runs of it are killed
(SIGKILL) after a random time, until so many have been, and what the last one wrote is compared. Exit status 1 if a byte
differs, anything is left over, or a run ends otherwise than by the kill or with its result.
"""

import argparse
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PHOTOS = ROOT / "examples/pocket/subjects"


def commands(folder):
    """Name, arguments, and the files that are the result beside stdout."""
    small = ["--batch", "2"]
    dog, cat = str(PHOTOS / "poodle"), str(PHOTOS / "blue-guide-dog")
    find = ["find", "--subject", "dog", dog]
    return {
        "find": ([*find, *small, "--steps", "30", "-o", "o.idx", "--scores", "o.scores"], ["o.idx", "o.scores"]),
        "find --method paper": (
            [*find, "--method", "paper", "--steps", "40", "--class-count", "2", "-o", "o.idx"], ["o.idx"]),
        "merge --tune": (
            ["merge", "a.idx", "b.idx", "--tune", "20", *small, "--images", f"dog={dog}", "--images", f"cat={cat}",
             "-o", "o.idx"], ["o.idx"]),
        "generate --count": (
            ["generate", "--concepts", "a.idx", "--count", "12", "--steps", "5", "--heatmap", "dog", "a photo of a dog",
             "-o", "o.png"],
            [f"o-{seed}{map}.png" for seed in range(12) for map in ("", "-heat-dog")]),
        "eval": (
            ["eval", "a.idx", "--images", dog, "--count", "4", "--steps", "4", "--loss-draws", "4", "--controls", "2",
             "--sheet", "o.png"], ["o.png"]),
    }


class Run:
    """`cones` in a folder, its state written as often as it can be."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder

    def start(self, arguments):
        environment = {**os.environ, "CONES_STATE_SECONDS": "0"}
        environment.pop("CONES_MODEL", None)
        return subprocess.Popen([self.binary, *arguments], cwd=self.folder, env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def whole(self, arguments):
        run = self.start(arguments)
        out, error = run.communicate()
        if run.returncode not in (0, 1) or b"error" in error:
            sys.exit(f"{arguments}: {run.returncode}: {error.decode()}")
        return out, error


def killed(process, seconds):
    """Whether a run was killed after some seconds, and not over before; and what it said."""
    try:
        out, error = process.communicate(timeout=seconds)
        return False, out, error
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, error = process.communicate()
        return process.returncode == -signal.SIGKILL, out, error


def results(folder, files):
    return {file: (folder / file).read_bytes() for file in files}


def seconds_left_out(name, out):
    """A result on stdout, but for how long it took."""
    return out if name == "eval" else b""


def check(name, arguments, files, binary, kills, chance, ready):
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for index in ready:
            shutil.copy(index, folder)
        run = Run(binary, folder)
        start = time.time()
        out, _ = run.whole(arguments)
        took = time.time() - start
        want = (seconds_left_out(name, out), results(folder, files))
        # Class pictures stay: they are kept for every run of the folder.
        names = {path.name for path in folder.iterdir()}
        done = resumed = rounds = 0
        while done < kills:
            rounds += 1
            for path in folder.iterdir():
                if path.name not in {pathlib.Path(index).name for index in ready}:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            while True:
                after = chance.uniform(0, took) if done < kills else 600
                was_killed, out, error = killed(run.start(arguments), after)
                resumed += b"going on at" in error
                if was_killed:
                    done += 1
                    continue
                break
            if (seconds_left_out(name, out), results(folder, files)) != want:
                print(f"{name}: other bytes after {done} kills, in round {rounds}: {error.decode()}")
                return False
            left = {path.name for path in folder.iterdir()} - names
            # A result that was on its way to its name; nothing takes that for a result.
            left = {one for one in left if not one.startswith(".cones-")}
            if left:
                print(f"{name}: left over: {sorted(left)}")
                return False
    print(f"{name}: {done} kills in {rounds} rounds, {resumed} went on, every result as the one of {took:.1f} s",
          flush=True)
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--cones", default=str(ROOT / "target/release/cones"))
    parser.add_argument("--only", help="commands whose name has this in it")
    options = parser.parse_args()
    binary = str(pathlib.Path(options.cones).resolve())
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        run, ready = Run(binary, folder), []
        for index, noun, token, photos in (("a", "dog", "sks", "poodle"), ("b", "cat", "zwx", "blue-guide-dog")):
            run.whole(["find", "--subject", noun, "--token", token, "--steps", "10", "--batch", "2", "-o",
                       f"{index}.idx", str(PHOTOS / photos)])
            ready.append(str(folder / f"{index}.idx"))
        fine = True
        for name, (arguments, files) in commands(folder).items():
            if options.only is None or options.only in name:
                chance = random.Random(f"{options.seed} {name}")
                fine &= check(name, arguments, files, binary, options.kills, chance, ready)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
