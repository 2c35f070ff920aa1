"""PyTorch and cones in turn on one checkpoint: the speed table of README.md, here and in the root.

    python make_model.py sd15                   # or any folder in the diffusers layout, f32
    cargo build --release --examples
    python compare.py sd15 --bench ../../target/release/examples/bench [--rounds 3] [--device cuda] [--dtype f16]
        [--openvino sd15.xml]

Every measurement is a process of its own, the two programs take turns, and the best of each is compared. Prints a
Markdown table. PyTorch's peaks are of the network measured alone, those of cones of the whole process; on a GPU both
are of the card's memory in use, above what was in use before. `--json FILE` also has the figures in full.
"""
import argparse
import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

PARTS = ["forward", "step", "words", "decode"]
TITLES = {
    "forward": "UNet forward",
    "step": "find step (forward + backward to the cross K and V)",
    "words": "find step as by default (backward to K and V at the subject's words)",
    "decode": "autoencoder's decoder, one picture",
    "load": "start to first step",
}
COLUMNS = ["", "cones", "PyTorch", "time / PyTorch", "peak memory", "PyTorch's peak, network alone", "peak / PyTorch"]


def sample_size(model):
    return json.loads((Path(model) / "unet/config.json").read_text())["sample_size"]


def variant(model):
    """`fp16` where the folder has nothing else."""
    return None if (Path(model) / "unet/diffusion_pytorch_model.safetensors").exists() else "fp16"


class CardMemory:
    """The most of a GPU's memory that was in use while this ran, above what was in use before."""

    def __enter__(self):
        import pynvml
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        self.used = lambda: pynvml.nvmlDeviceGetMemoryInfo(card).used
        self.before, self.peak, self.running = self.used(), 0, True
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()
        return self

    def watch(self):
        while self.running:
            self.peak = max(self.peak, self.used() - self.before)
            time.sleep(0.005)

    def __exit__(self, *_):
        self.running = False
        self.watcher.join()


def report(run, repeats, load_seconds):
    """Prints the least time of `run`, and the most memory that this process has had."""
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": best, "load_seconds": load_seconds, "peak_memory_bytes": peak}))


def torch_part(model, part, repeats, device, dtype, batch):
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    start = time.perf_counter()
    dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype]
    if part == "decode":
        files = {"torch_dtype": torch.float32, "variant": variant(model)}
        network = AutoencoderKL.from_pretrained(model, subfolder="vae", **files)
        side, channels = sample_size(model), network.config.latent_channels
    else:
        files = {"torch_dtype": dtype, "variant": variant(model)}
        network = UNet2DConditionModel.from_pretrained(model, subfolder="unet", **files)
        side, channels = network.config.sample_size, network.config.in_channels
    network = network.eval().requires_grad_(False).to(device)
    load_seconds = time.perf_counter() - start
    torch.manual_seed(0)
    randn = lambda *shape: torch.randn(*shape, device=device, dtype=network.dtype)
    if part == "decode":
        x = randn(1, channels, side, side)
        run = lambda: network.decode(x).sample
    else:
        x, context = randn(batch, channels, side, side), randn(batch, 77, network.config.cross_attention_dim)
        added = {}
        if network.config.addition_embed_type == "text_time":  # XL: a pooled embedding, and six numbers of sizes
            pooled = network.config.projection_class_embeddings_input_dim - 6 * network.config.addition_time_embed_dim
            sizes = torch.full((batch, 6), 8.0 * side, device=device, dtype=network.dtype)
            added = {"added_cond_kwargs": {"text_embeds": randn(batch, pooled), "time_ids": sizes}}
        run = lambda: network(x, 500, context, **added).sample
    if part == "step":
        for name, weight in network.named_parameters():
            weight.requires_grad_(".attn2.to_k." in name or ".attn2.to_v." in name)
    if part == "words":  # as much is added to K's and V's outputs at two tokens: that is what is learned
        def add(module, _, output):
            return output.index_add(1, words, module.added.expand(len(output), -1, -1))

        words = torch.tensor([5, 6], device=device)
        for name, module in network.named_modules():
            if name.endswith((".attn2.to_k", ".attn2.to_v")):
                module.added = torch.nn.Parameter(module.weight.new_zeros(2, len(module.weight)))
                module.register_forward_hook(add)
    learns = part in ("step", "words")

    def once():
        output = run()
        if learns:
            output.square().mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.set_grad_enabled(learns):
        report(once, repeats, load_seconds)


def write_openvino(model, batch, path):
    """The UNet as OpenVINO's graph of fixed sizes, weights in f32."""
    import openvino
    import torch
    from diffusers import UNet2DConditionModel

    class Forward(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet", variant=variant(model))

        def forward(self, x, time, context):
            return self.unet(x, time, context, return_dict=False)[0]

    network = Forward().eval()
    config = network.unet.config
    inputs = (torch.zeros(batch, config.in_channels, config.sample_size, config.sample_size), torch.tensor(500),
              torch.zeros(batch, 77, config.cross_attention_dim))
    with torch.no_grad():
        graph = openvino.convert_model(network, example_input=inputs, input=[tuple(x.shape) for x in inputs])
    openvino.save_model(graph, path, compress_to_fp16=False)


def openvino_forward(path, repeats, dtype):
    import numpy
    import openvino
    begun = time.perf_counter()
    hints = {"INFERENCE_PRECISION_HINT": dtype, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(path, "CPU", hints)
    load_seconds = time.perf_counter() - begun
    generator = numpy.random.default_rng(0)
    inputs = [generator.standard_normal(port.shape, "float32") if len(port.shape) else numpy.array(500, "int64")
              for port in compiled.inputs]
    report(lambda: compiled(inputs), repeats, load_seconds)


def measure(command, device):
    def run():
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return json.loads(output.splitlines()[-1])

    if device == "cpu":
        return run()
    with CardMemory() as memory:
        row = run()
    return {**row, "peak_memory_bytes": memory.peak}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--bench", default="bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1, help="in each process")
    parser.add_argument("--batch", type=int, default=2, help="pictures in a forward pass and a step")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="f32", choices=["f32", "f16", "bf16"], help="in which the UNet computes")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ",".join(PARTS))
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--openvino", type=Path, metavar="FILE.xml",
                        help="also time OpenVINO's forward pass on the CPU; the graph is written there if it is not")
    parser.add_argument("--torch-part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--openvino-part", choices=["write", "forward"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.openvino_part == "write":
        return write_openvino(options.model, options.batch, options.openvino)
    if options.openvino_part:
        return openvino_forward(options.openvino, options.repeats, options.dtype)
    if options.torch_part:
        return torch_part(options.model, options.torch_part, options.repeats, options.device, options.dtype,
                          options.batch)
    print("| " + " | ".join(COLUMNS) + " |\n| --- |" + " ---: |" * 6)
    where = ["--device", options.device, "--dtype", options.dtype]
    torch_command = [sys.executable, __file__, options.model, "--repeats", str(options.repeats),
                     "--batch", str(options.batch), *where, "--torch-part"]
    bench = lambda part, repeats: measure(
        [options.bench, options.model, part, str(repeats), options.device, options.dtype, str(options.batch)],
        options.device)
    openvino_command = [*torch_command[:-1], "--openvino", str(options.openvino), "--openvino-part"]
    if options.openvino and not options.openvino.exists():
        subprocess.run([*openvino_command, "write"], check=True, stdout=subprocess.DEVNULL)
    table = {}
    for part in options.parts.split(","):
        ours, theirs, openvinos = [], [], []
        for _ in range(options.rounds):
            ours.append(bench(part, options.repeats))
            theirs.append(measure([*torch_command, part], options.device))
            if part == "forward" and options.openvino:
                openvinos.append(measure([*openvino_command, "forward"], "cpu"))
        least = lambda rows, key: min(row[key] for row in rows)
        a, b = least(ours, "seconds"), least(theirs, "seconds")
        m, n = least(ours, "peak_memory_bytes"), least(theirs, "peak_memory_bytes")
        table[part] = {"cones": {"seconds": a, "bytes": m}, "pytorch": {"seconds": b, "bytes": n}}
        print(f"| {TITLES[part]} | {a:.3g} s | {b:.3g} s | {a / b:.2f} |",
              f"{m / 2**30:.2f} GiB | {n / 2**30:.2f} GiB | {m / n:.2f} |", flush=True)
        if openvinos:
            b, n = least(openvinos, "seconds"), least(openvinos, "peak_memory_bytes")
            table["openvino"] = {"seconds": b, "bytes": n}
            print(f"| the same beside OpenVINO | {a:.3g} s | {b:.3g} s | {a / b:.2f} |",
                  f"{m / 2**30:.2f} GiB | {n / 2**30:.2f} GiB | {m / n:.2f} |", flush=True)
    table["load"] = min(bench("load", 1)["seconds"] for _ in range(options.rounds))
    print(f"| {TITLES['load']} | {table['load']:.2f} s | | | | | |")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
