"""The whole recipe in one go, on one GPU: draw the world, train everything, pack it, and measure what it draws.

    python train_gpu.py --work DIR --out DIR [--seconds 400] [--processes 16]
    python train_gpu.py --work DIR --out DIR --smoke

Each part is a script of its own that waits for the files of those before it, so that compilers run while the world is
drawn and the judge gets ready while networks train. Everything ends by the clock. OUT gets a handful of files:
model.tar (the packed model and the subjects' photos), figures.json, weights.0 and weights.1 (sd.pt, the float32
weights, cut in two), and sheets.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import world

HERE = Path(__file__).parent
PART = 15 * 2**20


def say(*what):
    print(f"{time.strftime('%H:%M:%S')} train_gpu +{time.time() - BEGUN:.0f}s", *what, flush=True)


BEGUN = time.time()
STARTED = []


def start(script, *arguments, **environment):
    command = [sys.executable, "-u", str(HERE / script), *map(str, arguments)]
    STARTED.append(subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True))
    return STARTED[-1]


def end(process):
    """With the processes that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def wait(process, name, until):
    try:
        code = process.wait(max(1, until - time.time()))
    except subprocess.TimeoutExpired:
        end(process)
        code = process.returncode
        say(f"{name} STOPPED by the clock")
    if code:
        say(f"{name} FAILED: {code}")
    return code == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--after", type=float, help="seconds of these for what comes after training (100)")
    parser.add_argument("--vae-seconds", type=float, help="of training the autoencoder (65)")
    parser.add_argument("--clip-seconds", type=float, help="of training the CLIP (25)")
    parser.add_argument("--pictures", type=int, default=200000)
    parser.add_argument("--pairs", type=int, default=60000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, help="of text encoder and UNet")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--smoke", action="store_true", help="a little of everything")
    parser.add_argument("--tiny", action="store_true", help="with --smoke: still less, for a slow machine")
    options = parser.parse_args()
    work, out, smoke = options.work, options.out, options.smoke
    work.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    if smoke:
        options.pictures, options.pairs = min(options.pictures, 8000), min(options.pairs, 3000)
    until = BEGUN + options.seconds
    after = options.after or (30 if smoke else 100)
    vae_seconds = options.vae_seconds or (5 if smoke else 65)
    clip_seconds = options.clip_seconds or (3 if smoke else 25)
    few = dict(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    torch_threads = dict(OMP_NUM_THREADS="4") if options.processes > 4 else dict(OMP_NUM_THREADS="1")
    batch = ["--batch", options.batch] if options.batch else []

    drawing = start("world.py", "--work", work, "--pictures", options.pictures, "--pairs", options.pairs,
                    "--processes", options.processes, **few)
    vae = start("train_vae.py", "--work", work, "--minutes", vae_seconds / 60, "--patience", options.seconds,
                **torch_threads)
    sd = start("train_sd.py", "--work", work, "--until", until - after, "--patience", options.seconds,
               "--rate", options.rate, *batch, **torch_threads)
    alive = {"drawing": drawing, "autoencoder": vae, "diffusion": sd}
    # A failure of an early part is final: nothing is won by waiting.
    while sd.poll() is None and time.time() < until - after + 20:
        if not (work / "world.png").exists() and drawing.poll() not in (None, 0) or vae.poll() not in (None, 0):
            say("an early part FAILED:", {name: process.poll() for name, process in alive.items()})
            sys.exit(1)
        if drawing.poll() == 0 and "judging" not in alive:
            alive["judging"] = start("evaluate.py", "--work", work, "--out", out, "--processes", options.processes,
                                     "--until", until, *(["--smoke"] if smoke else []),
                                     *(["--tiny"] if options.tiny else []), **few)
            alive["clip"] = start("train_clip.py", "--work", work, "--minutes", clip_seconds / 60, "--start",
                                  work / "sd.json", "--patience", options.seconds, **torch_threads)
        time.sleep(0.2)
    if not wait(sd, "diffusion", time.time() + 1) and not (work / "sd.pt").exists():
        sys.exit(1)
    if not (work / "sd.json").exists():  # it was stopped: what it last saved is what there is
        (work / "sd.json").write_text(json.dumps({"stopped": True}))
    say("trained")
    weights = (work / "sd.pt").read_bytes()
    for i in range(0, len(weights), PART):
        (out / f"weights.{i // PART}").write_bytes(weights[i:i + PART])
    wait(alive["clip"], "CLIP", until - 15)
    wait(start("pack.py", "--work", work, "--out", work / "model", **few), "packing", until + 20)
    world.write_subjects(work / "subjects")
    with tarfile.open(out / "model.tar", "w") as archive:
        for name in ("model", "subjects"):
            archive.add(work / name, name)
    say(f"model.tar: {(out / 'model.tar').stat().st_size / 2**20:.2f} MiB")
    wait(alive["judging"], "judging", until + 30)
    figures = {}
    for name in ("vae", "sd", "clip"):
        if (work / f"{name}.json").exists():
            figures[name] = json.loads((work / f"{name}.json").read_text())
    path = out / "figures.json"
    path.write_text(json.dumps(figures | (json.loads(path.read_text()) if path.exists() else {}), indent=1))
    (out / "bind.json").unlink(missing_ok=True)  # its content is in figures.json, unless judging was stopped
    if (work / "vae.png").exists():
        (out / "vae.png").write_bytes((work / "vae.png").read_bytes())
    say("files:", {p.name: p.stat().st_size for p in sorted(out.iterdir())})


if __name__ == "__main__":
    try:
        main()
    finally:
        for started in STARTED:
            if started.poll() is None:
                end(started)
