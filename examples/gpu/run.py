"""Checks and measures cones on a GPU, on a bare machine: what build.sh packed is all that it needs beside PyTorch.

    python run.py PACK OUT [--device cuda] [--size full] [--minutes 8] [--only tests,pocket,speed,jobs,profile]

Runs from anywhere in the checkout. Writes OUT/gpu.json, OUT/gpu.md, a log of each part and the pictures. Parts that do
not fit into the minutes are left out and named. `--device cpu --size tiny` tries its logic without a GPU.
"""
import argparse
import collections
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "examples/bench"
SUBJECT = ROOT / "examples/pocket/subjects/blue-guide-dog"
# Modules of the library's tests that compute on the device that CONES_TEST_DEVICE names.
TESTS = [f"golden::{name}::" for name in ("models", "devices", "training", "attend", "clip")]
# f32 means f32 in the tests: without this the card's libraries round products to 10 bits.
EXACT = {"NVIDIA_TF32_OVERRIDE": "0"}


class Run:
    def __init__(self, options):
        self.options, self.out, self.pack = options, options.out, options.pack
        self.deadline = time.monotonic() + 60 * options.minutes
        self.results, self.markdown, self.left_out = {}, [], []

    def left(self):
        return self.deadline - time.monotonic()

    def call(self, name, command, at_most=120.0, **environment):
        """Runs a program; returns its exit status, output and seconds. The output is kept in OUT/NAME.log."""
        seconds = min(at_most, self.left())
        if seconds < 3:
            self.left_out.append(name)
            return None, "", 0.0
        begun = time.monotonic()
        try:
            done = subprocess.run([str(part) for part in command], cwd=ROOT, text=True, timeout=seconds,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **environment})
            status, output = done.returncode, done.stdout
        except subprocess.TimeoutExpired as stopped:
            status, output = 124, (stopped.stdout or b"").decode(errors="replace")
        took = time.monotonic() - begun
        (self.out / f"{name}.log").write_text(output)
        print(f"[{self.left():4.0f} s left] {name}: status {status}, {took:.1f} s", flush=True)
        return status, output, took

    def say(self, text):
        self.markdown.append(text)
        (self.out / "gpu.md").write_text("\n".join(self.markdown) + "\n")
        (self.out / "gpu.json").write_text(json.dumps({**self.results, "left_out": self.left_out}, indent=1) + "\n")

    # The parts.

    def card(self):
        query = "--query-gpu=name,memory.total,driver_version,compute_cap"
        output = "CPU"
        if self.gpu():
            _, output, _ = self.call("card", ["nvidia-smi", query, "--format=csv,noheader"])
        import torch
        self.results["card"], self.results["pytorch"] = output.strip(), torch.__version__
        self.say(f"# {output.strip()}, PyTorch {torch.__version__}\n")

    def gpu(self):
        return self.options.device != "cpu"

    def tests(self):
        """Everything that is held against PyTorch's values, computed on the device."""
        # Tests know the paths at which they were built.
        root, cones = (self.pack / "built-at").read_text().split("\n")[:2]
        for there, here in [(Path(root), ROOT), (Path(cones), self.pack / "cones")]:
            if not there.exists():
                there.parent.mkdir(parents=True, exist_ok=True)
                there.symlink_to(here)
        for name, environment in [("tests", EXACT), ("tests-tf32", {})][: 1 + self.gpu()]:
            status, output, seconds = self.call(
                name, [self.pack / "golden", *TESTS, "--test-threads=4", "--nocapture"], 150,
                CONES_TEST_DEVICE=self.options.device, **environment)
            counts = [int(n) for found in re.findall(r"(\d+) passed; (\d+) failed", output) for n in found]
            worst = re.findall(r"^thread '([^']+)'.*panicked at [^\n]*\n([^\n]*)", output, re.M)
            self.results[name] = {"status": status, "passed_failed": counts, "seconds": seconds, "panics": worst}
            self.say(f"\n{name}: status {status}, passed and failed {counts}, {seconds:.0f} s")
            for test, message in worst:
                self.say(f"- `{test}`: {message}")

    def pocket(self):
        """The first run of the README, there and on the CPU: the same neurons and pictures but for rounding."""
        cones, rows = self.pack / "cones", {}
        for device, dtype in [("cpu", "f32")] + [(self.options.device, t) for t in ("f32", "f16", "bf16")] * self.gpu():
            name = f"pocket-{device}-{dtype}"
            where = ["--device", device] + (["--dtype", dtype] if device != "cpu" else [])
            index, picture = self.out / f"{name}.idx", self.out / f"{name}.png"
            subject = ["--subject", "dog", "--steps", "100", "-o", index, SUBJECT]
            found, _, find_seconds = self.call(f"{name}-find", [cones, "find", *where, *subject], **EXACT)
            prompt = ["--concepts", index, "--seed", "1", "--count", "4", "a photo of a dog in a park"]
            drawn, _, draw_seconds = self.call(
                f"{name}-generate", [cones, "generate", *where, "-o", picture, *prompt], **EXACT)
            judged, output, _ = self.call(f"{name}-eval", [cones, "eval", *where, "--count", "4", index, SUBJECT])
            rows[name] = {"find": [found, find_seconds], "generate": [drawn, draw_seconds], "eval": [judged, output]}
            self.say(f"\n{name}: find {find_seconds:.1f} s (status {found}), generate of 4 {draw_seconds:.1f} s "
                     f"(status {drawn}), eval status {judged}")
        if self.gpu():
            first = self.out / "pocket-cpu-f32.idx"
            for dtype in ("f32", "f16", "bf16"):
                index = self.out / f"pocket-{self.options.device}-{dtype}.idx"
                _, output, _ = self.call(f"overlap-{dtype}", [cones, "inspect", "--json", first, index])
                rows[f"overlap-{dtype}"] = output
        self.results["pocket"] = rows

    def start_model(self):
        """Random weights of the size to measure, written by the CPU while the card is tested."""
        self.folder = self.out.parent / f"cones-{self.options.size}"
        command = [sys.executable, BENCH / "make_model.py", self.folder, "--size", self.options.size]
        self.making = subprocess.Popen([str(part) for part in command]) if not self.folder.exists() else None

    def model(self):
        if self.making and self.making.wait(timeout=max(self.left(), 1)) != 0:
            sys.exit("make_model.py failed")
        self.making = None
        return self.folder

    def speed(self):
        """A find step, a sampling step and a decode against PyTorch on the same card."""
        folder, device = self.model(), self.options.device
        for dtype in ["f16", "f32", "bf16"] if self.gpu() else ["f32"]:
            parts = {"f16": "forward,step,decode", "f32": "forward,step", "bf16": "step"}[dtype]
            file = self.out / f"speed-{dtype}.json"
            status, output, _ = self.call(
                f"speed-{dtype}",
                [sys.executable, BENCH / "compare.py", folder, "--bench", self.pack / "bench", "--rounds", "1",
                 "--repeats", "5", "--device", device, "--dtype", dtype, "--parts", parts, "--json", file], 90)
            self.results[f"speed-{dtype}"] = json.loads(file.read_text()) if file.exists() else status
            self.say(f"\nIn {dtype}:\n\n{output.strip()}")

    def jobs(self):
        """Whole commands at full size."""
        folder, cones, where = self.model(), self.pack / "cones", ["--device", self.options.device]
        where += ["--dtype", "f16"] if self.gpu() else []
        picture, index = self.out / "job.png", self.out / "job.idx"
        generate = ["generate", *where, "--model", folder, "--steps", "25", "-o", picture, "--json", "a photo of a dog"]
        find = ["find", *where, "--model", folder, "--subject", "dog", "--steps", "20", "-o", index, "--json", SUBJECT]
        for name, command in [("generate", generate), ("find", find)]:
            status, _, seconds = self.call(f"job-{name}", [cones, *command], 90)
            self.results[f"job-{name}"] = {"status": status, "seconds": seconds}
            self.say(f"\n{name}: status {status}, {seconds:.1f} s of wall time with loading")

    def profile(self):
        """Which kernels take the time of a find step, as ncu counts it."""
        if not self.gpu() or not shutil.which("ncu"):
            return
        for dtype in ("f16",):
            command = ["ncu", "--csv", "--metrics", "gpu__time_duration.sum", "--clock-control", "none",
                       self.pack / "bench", self.model(), "step", "1", self.options.device, dtype]
            _, output, _ = self.call(f"profile-{dtype}", command, 100)
            lines = [line for line in output.splitlines() if line.startswith('"')]
            times, counts = collections.Counter(), collections.Counter()
            for row in csv.DictReader(lines):
                if row.get("Metric Value"):
                    unit = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "nsecond": 1e-3, "usecond": 1.0}[row["Metric Unit"]]
                    times[row["Kernel Name"]] += float(row["Metric Value"].replace(",", "")) * unit
                    counts[row["Kernel Name"]] += 1
            total = sum(times.values()) or 1.0
            self.results[f"profile-{dtype}"] = [[n, t, counts[n]] for n, t in times.most_common(40)]
            launches = sum(counts.values())
            self.say(f"\nKernels of one find step in {dtype}, {total / 1e3:.1f} ms in {launches} launches:\n")
            self.say("| kernel | ms | share | launches |\n| --- | ---: | ---: | ---: |")
            for name, t in times.most_common(16):
                self.say(f"| `{name[:70]}` | {t / 1e3:.2f} | {t / total:.0%} | {counts[name]} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--size", default="full", choices=["full", "tiny"])
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--only", default="tests,pocket,speed,jobs,profile")
    options = parser.parse_args()
    options.pack, options.out = options.pack.resolve(), options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    run.card()
    run.start_model()
    for part in options.only.split(","):
        getattr(run, part)()
    run.say("\nLeft out for want of time: " + (", ".join(run.left_out) or "nothing"))


if __name__ == "__main__":
    main()
