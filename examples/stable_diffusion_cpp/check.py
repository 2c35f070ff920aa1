"""Loads what `cones export --as checkpoint` wrote in stable-diffusion.cpp and in diffusers, and compares every number.

    python examples/stable_diffusion_cpp/check.py MODEL.safetensors CONFIG CONCEPT.idx [target/release/cones]

MODEL is a single file of Stable Diffusion of full size, CONFIG a folder in the diffusers layout with its configuration
files, CONCEPT an index of scope `prompt` that was found on it. Needs torch, diffusers, and `cyllama` and `gguf` of
PyPI. Twice the file's size is written beside the index and removed again. Then both programs draw a picture, at most 2
of 255 apart. (Exit status 1 if anything is not so.)
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import cyllama.sd as sd
import gguf
import numpy as np
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from safetensors import safe_open

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "diffusers"))
from cones_diffusers import shut  # noqa: E402

MODEL, CONFIG, CONCEPT = map(pathlib.Path, sys.argv[1:4])
CONES = str(pathlib.Path(sys.argv[4] if len(sys.argv) > 4 else HERE.parents[1] / "target/release/cones").resolve())
PROMPT, SIZE, STEPS, SEED = "a photo of a dog", 64, 2, 7


def run(*arguments) -> None:
    done = subprocess.run([CONES, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"cones {' '.join(map(str, arguments))}:\n{done.stderr}")


def in_diffusers(exported) -> int:
    """How many tensors differ between what was exported, and the model with the concept shut by diffusers' hook."""
    kind = StableDiffusionXLPipeline if (CONFIG / "text_encoder_2").is_dir() else StableDiffusionPipeline
    load = lambda file: kind.from_single_file(str(file), config=str(CONFIG), local_files_only=True,
                                              torch_dtype=torch.float16)
    ours, theirs, wrong = load(exported), load(MODEL), 0
    before = {name: t.clone() for name, t in theirs.unet.state_dict().items() if ".to_" in name}
    shut(theirs, str(CONCEPT))
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if getattr(theirs, part, None) is not None:
            a, b = getattr(ours, part).state_dict(), getattr(theirs, part).state_dict()
            wrong += sum(not torch.equal(a[name], b[name]) for name in b) + len(a.keys() ^ b.keys())
            print(f"diffusers: {part}: {len(b)} tensors")
    changed = sum(not torch.equal(t, theirs.unet.state_dict()[name]) for name, t in before.items())
    print(f"diffusers: {changed} of them changed, {wrong} not equal")
    return wrong + (changed == 0)


def in_ggml(exported, out) -> int:
    """How many tensors differ in what stable-diffusion.cpp read of the file, and wrote as GGUF."""
    # The binding passes no rules on as none, which ends the program: one that fits no tensor.
    sd.convert_model(str(exported), str(out), output_type=sd.SDType.F16, tensor_type_rules="^nothing=f16")
    reader, wrong, seen = gguf.GGUFReader(str(out)), 0, 0
    with safe_open(exported, "np") as file:
        names = set(file.keys())
        for tensor in reader.tensors:
            if tensor.name in names:
                seen += 1
                theirs = file.get_tensor(tensor.name)
                wrong += not np.array_equal(tensor.data.reshape(-1), theirs.astype(tensor.data.dtype).reshape(-1))
    print(f"stable-diffusion.cpp: {seen} of {len(names)} tensors read, {wrong} not equal")
    return wrong + (seen == 0)


def pictures(exported, out) -> int:
    start = time.time()
    params = sd.SDContextParams(model_path=str(exported), n_threads=2)
    params.rng_type = sd.RngType.CPU
    context = sd.SDContext(params)
    theirs = context.generate(PROMPT, width=SIZE, height=SIZE, seed=SEED, sample_steps=STEPS, cfg_scale=7.5,
                              sample_method=sd.SampleMethod.EULER)[0].to_numpy()
    print(f"stable-diffusion.cpp: drew {SIZE}x{SIZE} in {time.time() - start:.0f} s")
    run("generate", "--model", MODEL, "--concepts", CONCEPT, "--raw-prompt", PROMPT, "--steps", STEPS, "--seed", SEED,
        "--sampler", "euler", "--guidance-scale", 7.5, "--size", SIZE, "-o", out / "ours.png")
    apart = np.abs(np.asarray(Image.open(out / "ours.png").convert("RGB")).astype(int) - theirs)
    print(f"cones drew a picture {apart.max()} of 255 away, {apart.mean():.2f} on average")
    return int(apart.max() > 2)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=CONCEPT.resolve().parent) as folder:
        folder = pathlib.Path(folder)
        run("export", CONCEPT, "--model", MODEL, "--as", "checkpoint", "-o", folder / "shut.safetensors")
        exported = folder / "shut.safetensors"
        wrong = in_diffusers(exported) + in_ggml(exported, folder / "shut.gguf") + pictures(exported, folder)
    sys.exit(0 if wrong == 0 else 1)
