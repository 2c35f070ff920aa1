"""Draws the same seeds in diffusers and in `cones`, and says how far they are apart: at most 2 of 255.

    python examples/diffusers/check.py target/release/cones        (exit status 1 if anything is further apart)

On the miniature models of tests/golden: Stable Diffusion 1, 2 and XL. Two concepts at once, of scope `words`, of scope
`prompt`, and one of each, merged to one file, with tuned values, by a half, with a negative prompt, with several
pictures, without guidance; undone, the plain picture; and what `cones export` wrote, loaded by diffusers.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from cones_diffusers import shut
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden"
MODELS = {
    "sd1-f32": (GOLDEN / "models/sd1-f32", StableDiffusionPipeline, None),
    "sd2-f16": (GOLDEN / "models/sd2-f16", StableDiffusionPipeline, "fp16"),
    "xl-a": (GOLDEN / "xl/a", StableDiffusionXLPipeline, "fp16"),
}
# Prompts with both subjects, one twice, and one among words that it is not in.
PROMPT = "a sks dog and a zwx cat in the snow, a sks dog"
NEGATIVE = "blurry, a dog, sks cat"
STEPS, SEED = 8, 5


def run(*arguments) -> None:
    subprocess.run([CONES, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def find(model, noun, token, scope, out) -> pathlib.Path:
    path = out / f"{noun}-{scope}.idx"
    more = ["--class-images", GOLDEN / "photos/class"] if scope == "prompt" else []
    run("find", "--model", model, "--subject", noun, "--token", token, "--scope", scope, "--steps", 3, "--seed", 1,
        "-o", path, *more, GOLDEN / "photos/subject")
    return path


def mine(model, indices, guidance, negative, count, out, more=()) -> np.ndarray:
    concepts = [part for index in indices for part in ("--concepts", index)]
    against = ["--negative-prompt", negative] if negative else []
    run("generate", "--model", model, *concepts, "--raw-prompt", PROMPT, *against,
        "--steps", STEPS, "--seed", SEED, "--count", count, "--sampler", "ddim", "--guidance-scale", guidance,
        "-o", out / "out.png", *more)
    files = [out / "out.png"] if count == 1 else [out / f"out-{SEED + i}.png" for i in range(count)]
    return np.stack([np.asarray(Image.open(file)) for file in files])


def theirs(pipe, guidance, negative, count) -> np.ndarray:
    generators = [torch.Generator("cpu").manual_seed(SEED + i) for i in range(count)]
    more = dict(negative_prompt=negative) if guidance > 1 else {}
    pictures = pipe(PROMPT, num_inference_steps=STEPS, guidance_scale=guidance, num_images_per_prompt=count,
                    generator=generators, output_type="np", **more).images
    return (pictures * 255).round().astype("uint8")


def apart(a, b) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def load(folder, kind, variant):
    more = dict(add_watermarker=False) if kind is StableDiffusionXLPipeline else {}
    pipe = kind.from_pretrained(folder, torch_dtype=torch.float32, variant=variant, local_files_only=True, **more)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def check(name, out) -> bool:
    folder, kind, variant = MODELS[name]
    pipe, good = load(folder, kind, variant), True

    def say(what, distance, far=None):
        nonlocal good
        fine = distance <= 2 and (far is None or far > 2)
        good &= fine
        beside = "" if far is None else f" (plain is {far} away)"
        print(f"{name}: {what}: {distance}{beside}{'' if fine else ' FAILED'}")

    words = [find(folder, *concept, "words", out) for concept in (("dog", "sks"), ("cat", "zwx"))]
    whole = [find(folder, *concept, "prompt", out) for concept in (("dog", "sks"), ("cat", "zwx"))]
    one, tuned = [out / "merged.idx"], [out / "tuned.idx"]
    run("merge", *words, "-o", *one)
    run("merge", *words, "-o", *tuned, "--model", folder, "--tune", 1, "--batch", 1,
        "--images", f"dog={GOLDEN / 'photos/subject'}", "--images", f"cat={GOLDEN / 'photos/subject'}")
    plain = theirs(pipe, 7.5, NEGATIVE, 1)
    rows = (("two at words", words), ("two in the whole prompt", whole), ("one of each", [words[0], whole[1]]),
            ("merged to one file", one), ("tuned", tuned))
    for what, indices in rows:
        concepts = shut(pipe, *map(str, indices))
        drawn = theirs(pipe, 7.5, NEGATIVE, 1)
        say(what, apart(mine(folder, indices, 7.5, NEGATIVE, 1, out), drawn), apart(plain, drawn))
        if indices is words:
            say("three pictures", apart(mine(folder, indices, 7.5, NEGATIVE, 3, out), theirs(pipe, 7.5, NEGATIVE, 3)))
            say("unguided", apart(mine(folder, indices, 1.0, "", 1, out), theirs(pipe, 1.0, None, 1)))
            say("no negative prompt", apart(mine(folder, indices, 7.5, "", 1, out), theirs(pipe, 7.5, None, 1)))
        concepts.undo()
        say("undone", apart(plain, theirs(pipe, 7.5, NEGATIVE, 1)))
    for what, indices in rows[:2]:
        concepts = shut(pipe, *map(str, indices), strength=0.5)
        half = mine(folder, indices, 7.5, NEGATIVE, 1, out, ["--strength", 0.5])
        say(f"{what}, by a half", apart(half, theirs(pipe, 7.5, NEGATIVE, 1)))
        concepts.undo()
    run("export", "--model", folder, *whole, "--as", "diffusers", "-o", out / "unet")
    pipe.unet = UNet2DConditionModel.from_pretrained(out / "unet", torch_dtype=torch.float32)
    drawn = theirs(pipe, 7.5, NEGATIVE, 1)
    say("exported", apart(mine(folder, whole, 7.5, NEGATIVE, 1, out), drawn), apart(plain, drawn))
    return good


if __name__ == "__main__":
    CONES = str(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/cones").resolve())
    torch.set_num_threads(1)
    results = []
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            results.append(check(name, pathlib.Path(folder)))
    sys.exit(0 if all(results) else 1)
