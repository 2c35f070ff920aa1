#!/usr/bin/env python3
"""Writes prompts.json and prompts.safetensors: embeddings of weighted and of long prompts, and pictures from a picture.

    python tests/golden/make_prompts.py        (made with torch 2.15.0, diffusers 0.42.1 and transformers 5.24.0)

It needs the models that make.py and make_xl.py wrote. The rules are those of the A1111 web UI, written down here anew:

weights     every token's embedding is multiplied by its weight; with one text encoder the chunk is then multiplied so
            that its mean is what it was before; with two (XL) it is not ("No norm")
chunks      of the text length without start and end; a full one gives the next what stands behind the last comma, if
            that is among its last 20 tokens; of XL the embedding of the whole text is the first chunk's

Every case has its stretches of text and their weights as they are, so that reading brackets is no part of this.
prompts.safetensors has MODEL.CASE [t, e] and of XL MODEL.CASE.pooled [p], MODEL.img2img.CASE u8 [h, w, 3].
"""
import pathlib

import make
import make_xl
import miniatures
import torch
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline)
from PIL import Image
from safetensors.torch import save_file
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
BACK_TO_COMMA = 20

# Stretches and weights; the second of each is as A1111 reads the first.
CASES = {
    "plain": ("a red dog in the snow", [("a red dog in the snow", 1.0)]),
    "one": ("a (red dog:1.3) in the snow", [("a ", 1.0), ("red dog", 1.3), (" in the snow", 1.0)]),
    "nested": ("a ((red) dog) [in] the (snow:0.4)", [("a ", 1.0), ("red", 1.1 * 1.1), (" dog", 1.1), (" ", 1.0),
                                                      ("in", 1 / 1.1), (" the ", 1.0), ("snow", 0.4)]),
    "escaped": (r"a (dog \(cat\):1.5)", [("a ", 1.0), ("dog (cat)", 1.5)]),
    "zero": ("a (dog:0) and a (cat:-0.5)", [("a ", 1.0), ("dog", 0.0), (" and a ", 1.0), ("cat", -0.5)]),
    "long": ("a red dog, a cat and a hat, on the beach at night with a crown (and a cup:1.2), in the snow and the "
             "park, a picture of a street, blue (red green:0.7) blue, low quality, a cat and a dog and a hat and a cup "
             "and a crown in the park at night on the street in the snow with a photo of a dog",
             [("a red dog, a cat and a hat, on the beach at night with a crown ", 1.0), ("and a cup", 1.2),
              (", in the snow and the park, a picture of a street, blue ", 1.0), ("red green", 0.7),
              (" blue, low quality, a cat and a dog and a hat and a cup and a crown in the park at night on the street "
               "in the snow with a photo of a dog", 1.0)]),
}

IMG2IMG = {
    "weak": dict(strength=0.3, sampler="dpm++2m", steps=20, seed=5, guidance=7.5),
    "middle": dict(strength=0.6, sampler="ddim", steps=20, seed=6, guidance=5.0),
    "strong": dict(strength=0.9, sampler="euler-a", steps=10, seed=7, guidance=7.5),
    "all": dict(strength=1.0, sampler="euler", steps=10, seed=8, guidance=1.0),
}
SAMPLERS = {"dpm++2m": DPMSolverMultistepScheduler, "ddim": DDIMScheduler, "euler": EulerDiscreteScheduler,
            "euler-a": EulerAncestralDiscreteScheduler}
PROMPT, NEGATIVE = "a photo of a red dog in the snow", "blurry, low quality"


def chunked(tokenizer, stretches):
    """The words of each chunk with their weights."""
    length = tokenizer.model_max_length - 2
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    tokens = [(i, w) for text, w in stretches for i in tokenizer(text, add_special_tokens=False).input_ids]
    chunks, now, at_comma = [], [], None
    for token in tokens:
        if token[0] == comma:
            at_comma = len(now)
        elif len(now) == length and at_comma is not None and length - at_comma <= BACK_TO_COMMA:
            chunks.append(now[:at_comma + 1])
            now, at_comma = now[at_comma + 1:], None
        if len(now) == length:
            chunks.append(now)
            now, at_comma = [], None
        now.append(token)
    return chunks + [now] if now or not chunks else chunks


def rows(tokenizer, chunks):
    """Ids and weights with start, end and padding."""
    ids, weights = [], []
    for chunk in chunks:
        fill = tokenizer.model_max_length - 2 - len(chunk)
        ids.append([tokenizer.bos_token_id, *(i for i, _ in chunk), tokenizer.eos_token_id] +
                   [tokenizer.pad_token_id] * fill)
        weights.append([1.0, *(w for _, w in chunk), *[1.0] * (fill + 1)])
    return torch.tensor(ids), torch.tensor(weights)


def embed(pipe, stretches, long):
    """Embeddings [t, e], and of XL that of the whole text."""
    second = getattr(pipe, "text_encoder_2", None)
    parts, pooled = [], None
    for tokenizer, encoder in [(pipe.tokenizer, pipe.text_encoder)] + ([(pipe.tokenizer_2, second)] if second else []):
        chunks = chunked(tokenizer, stretches)
        if not long:
            flat = [token for chunk in chunks for token in chunk]
            chunks = [flat[:tokenizer.model_max_length - 2]]
        ids, weights = rows(tokenizer, chunks)
        out = encoder(ids, output_hidden_states=True)
        z = out.hidden_states[-2] if second else out.last_hidden_state
        for k in range(len(z)):
            if (weights[k] != 1).any():
                before = z[k].mean(dtype=torch.float64)
                z[k] *= weights[k][:, None]
                if not second:
                    z[k] *= (before / z[k].mean(dtype=torch.float64)).float()
        parts.append(z.reshape(1, -1, z.shape[-1])[0])
        pooled = out.text_embeds[0] if second and encoder is second else None
    return torch.cat(parts, dim=-1), pooled


def from_pictures(pipe, name, out):
    """diffusers' img2img, from the mean of the posterior: latents are taken as they are, and noise is drawn first."""
    kind = StableDiffusionXLImg2ImgPipeline if hasattr(pipe, "text_encoder_2") else StableDiffusionImg2ImgPipeline
    parts = dict(pipe.components)
    parts.pop("force_zeros_for_empty_prompt", None)
    drawn = kind(**parts, **({} if hasattr(pipe, "text_encoder_2") else {"requires_safety_checker": False}))
    drawn.set_progress_bar_config(disable=True)
    stored = pipe.scheduler
    photo = np.asarray(Image.open(HERE / "photos/subject/a.png").convert("RGB"))
    pixels = torch.from_numpy(photo.astype("float32") / 127.5 - 1).permute(2, 0, 1)[None]
    latents = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
    for key, case in IMG2IMG.items():
        drawn.scheduler = SAMPLERS[case["sampler"]].from_config(stored.config)
        guided = case["guidance"] > 1
        picture = drawn(PROMPT, image=latents, strength=case["strength"], num_inference_steps=case["steps"],
                        guidance_scale=case["guidance"], negative_prompt=NEGATIVE if guided else None,
                        generator=make.generator(case["seed"]), output_type="np").images[0]
        inner = ((picture > 0) & (picture < 1)).mean()
        print(f"{name}: img2img {key}: {inner:.0%} of the values are neither 0 nor 255")
        out[f"{name}.img2img.{key}"] = torch.from_numpy((picture * 255).round().astype("uint8"))


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out = {}
    pipes = {name: make.load(name) for name in ("sd1-f32", "sd2-f16")}
    pipes["xl"] = make_xl.load(HERE / "xl" / "a", make_xl.MODELS["a"])
    for name, pipe in pipes.items():
        for key, (_, stretches) in CASES.items():
            embedding, pooled = embed(pipe, stretches, key == "long")
            out[f"{name}.{key}"] = embedding
            if pooled is not None:
                out[f"{name}.{key}.pooled"] = pooled
            print(name, key, tuple(embedding.shape))
        from_pictures(pipe, name, out)
    save_file({key: tensor.clone().contiguous() for key, tensor in out.items()}, HERE / "prompts.safetensors")
    miniatures.write_json(HERE / "prompts.json", {
        "cases": {key: marked for key, (marked, _) in CASES.items()}, "img2img": IMG2IMG, "prompt": PROMPT,
        "negative": NEGATIVE})


if __name__ == "__main__":
    main()
