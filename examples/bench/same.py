#!/usr/bin/env python3
"""Do two builds of `cones` give the same files? Runs the same commands with both and compares every output.

    python examples/bench/same.py OLD NEW [--only WORD]

OLD and NEW are binaries. Pictures, indices and scores must be equal to the last bit; of --json the times and the
memory may differ. Indices that differ in their metadata alone are named as such. Exit status 1 if anything differs.
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
S = str(ROOT / "examples/pocket/subjects")
DOG, CLASS, PANDA = f"{S}/blue-guide-dog", ["--class-images", f"{S}/poodle"], f"{S}/purple-panda"
GOLDEN = str(ROOT / "tests/golden/models")
FIND = ["find", "--subject", "dog", "--steps", "12", "--batch", "2"]
PAPER = ["find", "--subject", "dog", "--method", "paper", "--steps", "6"]
TIMES = {"seconds", "seconds_per_step", "peak_memory_bytes"}

# name, commands; each is run in one fresh folder, in this order
RUNS = [
    ("find learned", [[*FIND, "--scores", "s.safetensors", DOG]]),
    ("find learned, keys too", [[*FIND, "--sites", "cross", DOG]]),
    ("find learned, whole prompt", [[*FIND, "--scope", "prompt", "--class-count", "4", DOG]]),
    ("find paper", [[*PAPER, "--class-count", "4", "--scores", "s.safetensors", DOG]]),
    ("find paper, rho", [[*PAPER, "--rho", "20", *CLASS, DOG]]),
    ("find paper, words", [[*PAPER, "--scope", "words", *CLASS, DOG]]),
    ("find paper, importance sampling", [[*PAPER, "--accelerated", *CLASS, DOG]]),
    ("find paper, all sites", [[*PAPER, "--sites", "all", "--threshold", "0", *CLASS, DOG]]),
    ("find, little memory", [[*FIND, "--memory", "88MB", DOG]]),
    *[(f"generate {name}", [["generate", "--sampler", name, "--steps", "6", "--count", "2", "a dog in a park"]])
      for name in ("dpm++2m", "ddim", "euler", "euler-a", "pndm")],
    ("generate, concept", [
        [*FIND, DOG],
        ["generate", "--concepts", "dog.idx", "--heatmap", "dog", "--steps", "6", "a photo in a park"],
        ["generate", "--concepts", "dog.idx", "--layers", "up_blocks.*", "--steps", "6", "-o", "up.png", "a park"]]),
    ("generate, attend-and-excite", [
        ["generate", "--attend-excite=dog,crown", "--steps", "4", "a dog and a crown"]]),
    ("generate, wide, negative", [
        ["generate", "--size", "96x64", "--negative", "blue", "--guidance", "4", "--steps", "6", "--seed", "7",
         "a red car in the snow"]]),
    ("merge and tune", [
        [*FIND, DOG],
        ["find", "--subject", "bear", "--steps", "12", "--batch", "2", PANDA],
        ["merge", "dog.idx", "bear.idx", "-o", "pair.idx"],
        ["merge", "dog.idx", "bear.idx", "-o", "tuned.idx", "--tune", "4", "--batch", "2",
         "--images", f"dog={DOG}", "--images", f"bear={PANDA}"],
        ["generate", "--concepts", "tuned.idx", "--steps", "6", "a photo in a park"],
        ["inspect", "--json", "dog.idx", "bear.idx"]]),
    ("eval", [
        [*FIND, DOG],
        ["eval", "dog.idx", "--images", DOG, "--count", "8", "--steps", "6", "--loss-draws", "4", *CLASS,
         "--sheet", "sheet.png", "--json"]]),
    ("models: SD 1 in f32", [["generate", "--model", f"{GOLDEN}/sd1-f32", "--steps", "6", "a photo of a dog"]]),
    ("models: SD 2 in f16", [
        ["generate", "--model", f"{GOLDEN}/sd2-f16", "--steps", "6", "--count", "2", "a dog! a cat"],
        [*FIND, "--model", f"{GOLDEN}/sd2-f16", str(ROOT / "tests/golden/photos/subject")]]),
]


def timeless(value):
    """JSON without what may differ."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def tensors(data):
    """The part of a safetensors file behind its header."""
    return data[8 + int.from_bytes(data[:8], "little"):]


def results(binary, commands):
    """What the commands leave: files by name, and JSON by number."""
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for number, command in enumerate(commands):
            run = subprocess.run([binary, *command], cwd=folder, capture_output=True)
            found[f"status {number}"] = str(run.returncode).encode()
            if "--json" in command:
                value = timeless(json.loads(run.stdout or b"null"))
                found[f"json {number}"] = json.dumps(value, sort_keys=True).encode()
            elif run.returncode:
                found[f"error {number}"] = run.stderr
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes()
        return found


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("old", type=pathlib.Path)
    ap.add_argument("new", type=pathlib.Path)
    ap.add_argument("--only", default="", help="runs whose name has this word")
    args = ap.parse_args()
    differing = 0
    chosen = [run for run in RUNS if args.only in run[0]]
    for name, commands in chosen:
        old, new = (results(binary.resolve(), commands) for binary in (args.old, args.new))
        notes = []
        for key in sorted(old.keys() | new.keys()):
            a, b = old.get(key), new.get(key)
            if a == b:
                continue
            if a is None or b is None:
                notes.append(f"{key} only in the {'new' if a is None else 'old'}")
            elif key.endswith((".idx", ".safetensors")) and tensors(a) == tensors(b):
                notes.append(f"{key}: metadata alone")
            else:
                notes.append(f"{key}: {hashlib.sha256(a).hexdigest()[:8]} is {hashlib.sha256(b).hexdigest()[:8]}")
        differing += bool(notes)
        print(f"{'DIFFER' if notes else 'same  '} {name}, {len(new)} results", *notes, sep="\n    ", flush=True)
    print(f"{len(chosen)} runs, {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
