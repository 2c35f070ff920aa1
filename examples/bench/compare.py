"""PyTorch and cones in turn on one checkpoint: the speed table of README.md, here and in the root.

    python make_model.py sd15                   # or any folder in the diffusers layout, f32
    cargo build --release --examples
    python compare.py sd15 --bench ../../target/release/examples/bench [--rounds 3]

Every measurement is a process of its own, the two programs take turns, and the best of each is compared. Prints a
Markdown table. PyTorch's peaks are of the network measured alone, those of cones of the whole process.
"""
import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

PARTS = ["forward", "step", "decode"]
TITLES = {
    "forward": "UNet forward",
    "step": "find step (forward + backward to the cross K and V)",
    "decode": "autoencoder's decoder, one picture",
    "load": "start to first step",
}
COLUMNS = ["", "cones", "PyTorch", "time / PyTorch", "peak memory", "PyTorch's peak, network alone", "peak / PyTorch"]


def sample_size(model):
    return json.loads((Path(model) / "unet/config.json").read_text())["sample_size"]


def torch_part(model, part, repeats):
    start = time.perf_counter()
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    loaded = time.perf_counter()
    if part == "decode":
        network = AutoencoderKL.from_pretrained(model, subfolder="vae").eval().requires_grad_(False)
        side, channels = sample_size(model), network.config.latent_channels
    else:
        network = UNet2DConditionModel.from_pretrained(model, subfolder="unet").eval().requires_grad_(False)
        side, channels = network.config.sample_size, network.config.in_channels
    load_seconds = time.perf_counter() - loaded
    torch.manual_seed(0)
    if part == "decode":
        x = torch.randn(1, channels, side, side)
        run = lambda: network.decode(x).sample
    else:
        x, context = torch.randn(2, channels, side, side), torch.randn(2, 77, network.config.cross_attention_dim)
        run = lambda: network(x, 500, context).sample
    if part == "step":
        for name, weight in network.named_parameters():
            weight.requires_grad_(".attn2.to_k." in name or ".attn2.to_v." in name)
        forward, run = run, lambda: forward().square().mean().backward()
    best = float("inf")
    with torch.set_grad_enabled(part == "step"):
        for _ in range(repeats):
            begun = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": best, "load_seconds": load_seconds, "peak_memory_bytes": peak}))


def measure(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--bench", default="bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1, help="in each process")
    parser.add_argument("--torch-part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.torch_part:
        return torch_part(options.model, options.torch_part, options.repeats)
    print("| " + " | ".join(COLUMNS) + " |\n| --- |" + " ---: |" * 6)
    torch_command = [sys.executable, __file__, options.model, "--repeats", str(options.repeats), "--torch-part"]
    for part in PARTS:
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(measure([options.bench, options.model, part, str(options.repeats)]))
            theirs.append(measure([*torch_command, part]))
        least = lambda rows, key: min(row[key] for row in rows)
        a, b = least(ours, "seconds"), least(theirs, "seconds")
        m, n = least(ours, "peak_memory_bytes"), least(theirs, "peak_memory_bytes")
        print(f"| {TITLES[part]} | {a:.2f} s | {b:.2f} s | {a / b:.2f} |",
              f"{m / 2**30:.2f} GiB | {n / 2**30:.2f} GiB | {m / n:.2f} |", flush=True)
    starts = [measure([options.bench, options.model, "load"])["seconds"] for _ in range(options.rounds)]
    print(f"| {TITLES['load']} | {min(starts):.2f} s | | | | | |")


if __name__ == "__main__":
    main()
