#!/usr/bin/env python3
"""Writes what tests/it/published.rs and src/model/text/tokenizer/tests/ compare with: models in the shapes in which the
hub publishes Stable Diffusion, in miniature, and what diffusers and transformers make of them.

    python tests/golden/make_published.py [PYTHON_OF_TRANSFORMERS_4]
    (made with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0 and 4.57.6, on the CPU)

published/NAME/             the JSON files of a repository, with the keys it has and small numbers; see SHAPES
published/vocab.json, merges.txt      the vocabulary of all of them: all bytes, and merges towards some words
published/weights/KIND.json           names and shapes of a file of weights; the numbers follow from them (`tensor`)
published/prompts.txt       3,000 prompts, a JSON string a line
published/cases.json        for each shape: its files of weights, settings and prompt of its picture, the ids of the
                            first prompts, and a hash of the ids of each block of ten prompts (FNV-1a over
                            little-endian u32); `transformers_4` says how many prompts 4.57 reads otherwise, and which
                            is the first
published/pictures.safetensors        u8 [h, w, 3] by shape
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings

os.environ.update(
    HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error", DIFFUSERS_VERBOSITY="error"
)
warnings.filterwarnings("ignore")

import numpy as np
from byte_pairs import END
from published_shapes import LEGACY, SHAPES
from published_text import MERGES, VOCABULARY, prompts

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "published"
BLOCK = 10

PICTURE = dict(prompt="a photo of a dog in the snow! hello", negative="blurry", steps=8, guidance=7.5, seed=5, size=64)
SAMPLERS = {
    "PNDMScheduler": "pndm",
    "DDIMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "DPMSolverMultistepScheduler": "dpm++2m",
}
PICTURES = {
    name: PICTURE | {"sampler": SAMPLERS[files["scheduler/scheduler_config.json"]["_class_name"]]}
    for name, files in SHAPES.items()
    if name != "sd15-inpainting"
}
PICTURES["sd-turbo"] |= dict(steps=2, guidance=1.0, negative="")


# ---------------------------------------------------------------------------------------------------------- weights


def tensor(name: str, shape: list[int]) -> np.ndarray:
    """Numbers that follow from the name: SplitMix64 from the FNV-1a hash of it, eleven bits each, about as large as
    a network wants them; tests/it/published.rs has the same rule. All are exact in f32."""
    if name.endswith("position_ids"):
        return np.arange(shape[-1], dtype=np.int64).reshape(shape)
    seed = fnv(name.encode())
    count, inputs = int(np.prod(shape)), int(np.prod(shape[1:]))
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    values = (2 * (z >> np.uint64(53)).astype(np.float64) - 2047) / 2048
    if len(shape) == 1:
        values = values / 8 + (1 if name.endswith(".weight") else 0)
    else:
        halvings = 0
        while 3 * 4**halvings < inputs:
            halvings += 1
        values /= 2**halvings
    return values.astype(np.float32).reshape(shape)


def fnv(data: bytes) -> int:
    hash = 0xCBF29CE484222325
    for byte in data:
        hash = (hash ^ byte) * 0x100000001B3 % 2**64
    return hash


def old_names(tensors: dict[str, list[int]], network: str) -> dict[str, list[int]]:
    if network == "vae":
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            tensors = {name.replace(f".{new}.", f".{old}."): shape for name, shape in tensors.items()}
    if network == "text_encoder":
        tensors |= {"text_model.embeddings.position_ids": [1, 77]}
    return tensors


def write_weights(folder: pathlib.Path, name: str) -> dict[str, str]:
    """Writes a shape's weights into `folder`, and what they are called under weights/; returns which file has which."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.numpy import save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    files, used = SHAPES[name], {}
    modules = {
        "unet": UNet2DConditionModel.from_config(files["unet/config.json"]),
        "vae": AutoencoderKL.from_config(files["vae/config.json"]),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**files["text_encoder/config.json"])),
    }
    for network, module in modules.items():
        tensors = {key: list(value.shape) for key, value in module.state_dict().items()}
        if network == "text_encoder":
            tensors = {key if key.startswith("text_model.") else f"text_model.{key}": s for key, s in tensors.items()}
        if name in LEGACY:
            tensors = old_names(tensors, network)
        text = json.dumps(dict(sorted(tensors.items())), indent=0).replace("\n", "").replace('], "', '],\n"') + "\n"
        kind = f"{network}-{hashlib.sha256(text.encode()).hexdigest()[:6]}.json"
        (OUT / "weights").mkdir(exist_ok=True)
        (OUT / "weights" / kind).write_text(text)
        file = f"{network}/{'model' if network == 'text_encoder' else 'diffusion_pytorch_model'}.safetensors"
        used[file] = kind
        save_file({key: tensor(key, s) for key, s in tensors.items()}, folder / file, metadata={"format": "pt"})
    return used


# ------------------------------------------------------------------------------------------------ what is made of them

IDS_4 = """
import json, sys
from transformers import CLIPTokenizer, CLIPTokenizerFast
prompts = json.load(sys.stdin)
for kind in CLIPTokenizer, CLIPTokenizerFast:
    t = kind.from_pretrained(sys.argv[1])
    print(json.dumps(t(prompts, padding="max_length", truncation=True, max_length=t.model_max_length).input_ids))
"""


def hashes(ids: list[list[int]]) -> list[str]:
    blocks = [ids[i : i + BLOCK] for i in range(0, len(ids), BLOCK)]
    return [f"{fnv(np.array(block, dtype='<u4').tobytes()):016x}" for block in blocks]


def read_by_4(python: str, folder: pathlib.Path, texts: list[str], ids: list[list[int]]) -> dict:
    run = subprocess.run(
        [python, "-c", IDS_4, folder / "tokenizer"], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    found = {}
    for kind, line in zip(("CLIPTokenizer", "CLIPTokenizerFast"), run.stdout.splitlines()):
        other = [i for i, (a, b) in enumerate(zip(ids, json.loads(line), strict=True)) if a != b]
        found[kind] = {"differ": len(other), "first": texts[other[0]] if other else None}
    return found


def write_json(path: pathlib.Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def assemble(folder: pathlib.Path, name: str) -> None:
    shutil.copytree(OUT / name, folder)
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(OUT / file, folder / "tokenizer" / file)


def draw(pipe, settings: dict) -> np.ndarray:
    import torch

    picture = pipe(
        settings["prompt"],
        negative_prompt=settings["negative"],
        num_inference_steps=settings["steps"],
        guidance_scale=settings["guidance"],
        height=settings["size"],
        width=settings["size"],
        generator=torch.Generator("cpu").manual_seed(settings["seed"]),
        output_type="np",
    ).images[0]
    return np.ascontiguousarray((picture * 255).round().astype(np.uint8))  # as safetensors writes memory as it lies


def main() -> None:
    import diffusers.utils.logging
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors.numpy import save_file
    from transformers import CLIPTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    python_4 = sys.argv[1] if len(sys.argv) > 1 else None
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    (OUT / "vocab.json").write_text(json.dumps(VOCABULARY, ensure_ascii=False) + "\n")
    (OUT / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, MERGES)]) + "\n")
    texts = prompts()
    (OUT / "prompts.txt").write_text("".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts))
    cases, drawn = {}, {}
    for name, files in SHAPES.items():
        for file, value in files.items():
            write_json(OUT / name / file, value)
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary) / name
            assemble(folder, name)
            used = write_weights(folder, name)
            t = CLIPTokenizer.from_pretrained(folder / "tokenizer")
            ids = t(texts, padding="max_length", truncation=True, max_length=t.model_max_length).input_ids
            cases[name] = case = {"weights": used, "ids": json.dumps(ids[:12]), "hashes": " ".join(hashes(ids))}
            if python_4:
                case["transformers_4"] = read_by_4(python_4, folder, texts, ids)
                print(name, case["transformers_4"])
            if settings := PICTURES.get(name):
                pipe = StableDiffusionPipeline.from_pretrained(
                    folder,
                    torch_dtype=torch.float32,
                    local_files_only=True,
                    safety_checker=None,
                    feature_extractor=None,
                )
                pipe.set_progress_bar_config(disable=True)
                assert SAMPLERS[type(pipe.scheduler).__name__] == settings["sampler"]
                picture = draw(pipe, settings)
                case["picture"], drawn[name] = settings, picture
                inside, pad = ((picture > 0) & (picture < 255)).mean(), t.pad_token
                pipe.tokenizer.pad_token = END if pad == "!" else "!"
                moved = np.abs(draw(pipe, settings).astype(int) - picture).max()
                print(
                    f"{name}: {inside:.0%} of the values are neither 0 nor 255, "
                        f"padding otherwise than with {pad} moves one by {moved}"
                )
                assert inside > 0.6 and moved > 20, "such a picture says little"
    write_json(OUT / "cases.json", cases)
    save_file(drawn, OUT / "pictures.safetensors")


if __name__ == "__main__":
    main()
