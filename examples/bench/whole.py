"""How long whole jobs take on one model, from a few steps of each: find, generate, merge --tune.

    python make_model.py sd15                   # or any model that cones reads
    cargo build --release
    python whole.py sd15 --cones ../../target/release/cones [--batch 8] [--dtype bf16]

`find` measures one step itself (`--dry-run`); `generate` and `merge --tune` are run for a few steps, of which they tell
the time, and the rest of the job is added in such steps. Prints a Markdown table: the whole job with its defaults, in
hours where it is hours, the memory that was planned and the peak of the process. Two subjects of
examples/pocket/subjects stand for photos: the time is that of any.
"""
import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

SUBJECTS = Path(__file__).resolve().parent.parent / "pocket/subjects"
PHOTOS = {"dog": SUBJECTS / "blue-guide-dog", "bear": SUBJECTS / "purple-panda"}
FEW = 3  # steps
SAMPLING_STEPS, TUNING_STEPS = 25, 50


class Runner:
    def __init__(self, options, folder):
        self.cones, self.folder = Path(options.cones).resolve(), folder
        self.shared = ["--model", str(Path(options.model).resolve() if Path(options.model).exists() else options.model),
                       *(["--dtype", options.dtype] if options.dtype else [])]

    def __call__(self, *arguments):
        """The report, the seconds and the peak memory of one command."""
        command = [self.cones, *map(str, arguments), *self.shared, "--json", "--quiet"]
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True)
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command}: exit status {process.returncode}")
        return json.loads(output), time.monotonic() - start, usage.ru_maxrss * 1024

    def whole(self, steps, step_of, *arguments):
        """Seconds a step, of all, and the peak memory, from a run of few steps; `step_of` a report is a step's time."""
        report, seconds, peak = self(*arguments, FEW)
        step = step_of(report)
        return step, seconds + (steps - FEW) * step, peak


def told(seconds):
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def row(title, planned, step, whole, peak):
    gib = lambda size: f"{size / 2**30:.2f} GiB"
    print(f"| {title} | {told(step)} | {told(whole)} | {gib(planned)} | {gib(peak)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--cones", default="cones")
    parser.add_argument("--batch", type=int, default=8, help="of merge --tune, whose time is scaled to its default 8")
    parser.add_argument("--dtype")
    options = parser.parse_args()
    print("| | a step | the whole job | planned | peak |\n| --- | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run = Runner(options, folder)
        find = ["find", "--subject", "dog", PHOTOS["dog"]]
        needs, _, peak = run(*find, "--dry-run")
        title, step = f"find, {needs['steps']} steps of 4", needs["seconds_per_step"]
        row(title, needs["memory_bytes"], step, needs["seconds"], peak)
        prompt = "a photo of a dog"
        needs, _, _ = run("generate", "--dry-run", prompt)
        row(f"generate, {SAMPLING_STEPS} steps", needs["memory_bytes"],
            *run.whole(SAMPLING_STEPS, lambda report: report["seconds_per_step"], "generate", prompt, "-o", "out.png",
                       "--steps"))
        for noun, token in (("dog", "sks"), ("bear", "zwx")):
            run("find", "--subject", noun, "--token", token, "--steps", 1, "--batch", 1, "-o", f"{noun}.idx",
                PHOTOS[noun])
        tune = ["merge", "dog.idx", "bear.idx", "--batch", options.batch, "--force", "-o", "pair.idx",
                *(f"--images={noun}={folder}" for noun, folder in PHOTOS.items()), "--tune"]
        needs, _, _ = run(*tune, TUNING_STEPS, "--dry-run")
        mean = lambda report: sum(step["seconds"] for step in report["steps"]) / len(report["steps"])
        step, whole, peak = run.whole(TUNING_STEPS, mean, *tune)
        scale = 8 / options.batch
        row(f"merge --tune {TUNING_STEPS}, two subjects", needs["memory_bytes"], step * scale, whole * scale, peak)


if __name__ == "__main__":
    main()
