#!/usr/bin/env python3
"""Writes what src/golden/attend.rs compares with: attention maps and attend-and-excite, by diffusers' own pipeline.

    python tests/golden/make_attend.py      (torch 2.15.0, diffusers 0.42.1 and transformers 5.23.0, on the CPU)

Uses the models that make.py writes, and replaces attend.safetensors and attend.json beside this file. For each CASE:

    CASE.x, CASE.map            latents [1, 4, 16, 16], and the aggregated attention of the prompt [8, 8, t]
    CASE.gradient               of the loss (in attend.json) with respect to the latents
    CASE.updated                the latents after one update of the first step's size
    heat.MODEL.WORD             [32, 32], from every cross-attention of the run that draws heat.MODEL.picture
    RUN.latents, RUN.picture    u8 [32, 32, 3]: whole short runs, with the settings in attend.json

What is not diffusers' is the selection of layers for `heat` and its bilinear mean, in `Heat` below.
"""
import json
import pathlib
import sys

from make import SAMPLERS, generator, load  # quietens the libraries first

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionAttendAndExcitePipeline as Pipeline
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
AttentionStore = sys.modules[Pipeline.__module__].AttentionStore
PROMPT = "a photo of a red dog and a blue cat in the snow"
NEGATIVE = "blurry, low quality"

# One update at one step: the words' tokens, the timestep.
CASES = {
    "sd1-dog": dict(model="sd1-f32", words=["dog"], timestep=801, seed=31),
    "sd1-both": dict(model="sd1-f32", words=["dog", "cat"], timestep=401, seed=32),
    "sd2-both": dict(model="sd2-f16", words=["dog", "cat"], timestep=601, seed=33),
}

# Whole runs. The models are of random weights: thresholds are placed where some runs of refinements end before 20. With
# a scale of 20 the second model magnifies 1e-6 in the first latents to 1e-4 in the last, in PyTorch as here.
RUNS = {
    "sd1-ddim": dict(model="sd1-f32", words=["dog", "cat"], sampler="ddim", steps=8, seed=41, guidance=5.0,
                     thresholds={0: 0.05, 2: 0.15, 4: 0.2}, max_iterations=6, scale_factor=20),
    "sd1-pndm": dict(model="sd1-f32", words=["cat"], sampler="pndm", steps=8, seed=42, guidance=5.0,
                     thresholds={1: 0.12, 3: 0.2}, max_iterations=5, scale_factor=20),
    "sd2-dpm": dict(model="sd2-f16", words=["dog", "cat"], sampler="dpm++2m", steps=8, seed=43, guidance=5.0,
                    thresholds={0: 0.5, 3: 0.6}, max_iterations=6, scale_factor=5),
    "sd1-unguided": dict(model="sd1-f32", words=["dog"], sampler="ddim", steps=6, seed=44, guidance=1.0,
                         thresholds={1: 0.75}, max_iterations=4, scale_factor=20),
}

HEAT = dict(words=["dog", "snow", "a"], steps=4, sampler="ddim", seed=51, guidance=5.0)
RESOLUTION = (8, 8)  # the lower of the two outside the middle block


def exciting(pipe) -> Pipeline:
    pipe = Pipeline(**{k: v for k, v in pipe.components.items() if k != "image_encoder"}, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.original = pipe.unet.attn_processors
    return pipe


def tokens(pipe, words: list[str]) -> list[int]:
    """The places of all tokens of these words; a word of several tokens has several places."""
    ids, found = pipe.tokenizer(PROMPT).input_ids, []
    for word in words:
        part = pipe.tokenizer(word).input_ids[1:-1]
        found += [i + j for i in range(len(ids)) if ids[i:i + len(part)] == part for j in range(len(part))]
    return sorted(set(found))


def embed(pipe) -> torch.Tensor:
    ids = pipe.tokenizer(PROMPT, padding="max_length", truncation=True, max_length=pipe.tokenizer.model_max_length,
                         return_tensors="pt").input_ids
    return pipe.text_encoder(ids)[0]


def one_update(pipe, settings: dict, out: dict, name: str) -> None:
    pipe.attention_store = AttentionStore(RESOLUTION)
    pipe.register_attention_control()
    settings["tokens"] = tokens(pipe, settings["words"])
    x = torch.randn(1, 4, 16, 16, generator=generator(settings["seed"]))
    with torch.enable_grad():
        x.requires_grad_(True)
        pipe.unet(x, settings["timestep"], encoder_hidden_states=embed(pipe))
        average = pipe.attention_store.aggregate_attention(from_where=("up", "down", "mid"))
        out[f"{name}.map"] = average.detach().clone()
        peaks = pipe._compute_max_attention_per_index(average, settings["tokens"])
        loss = pipe._compute_loss(peaks)
        gradient = torch.autograd.grad(loss, x, retain_graph=True)[0]
        updated = pipe._update_latent(x, loss, settings["step_size"])
    pipe.unet.set_attn_processor(dict(pipe.original))
    settings["loss"] = loss.item()
    out |= {f"{name}.x": x.detach(), f"{name}.gradient": gradient, f"{name}.updated": updated.detach()}
    moved = ((updated - x).norm() / x.norm()).item()
    print(f"{name}: tokens {settings['tokens']}, loss {loss.item():.4f}, update moves the latents by {moved:.2%}")
    assert moved > 0.01, "an update is to matter"


def call(pipe, settings: dict, **more) -> torch.Tensor:
    pipe.scheduler = SAMPLERS[settings["sampler"]].from_config(pipe.scheduler.config)
    return pipe(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=settings["steps"],
                guidance_scale=settings["guidance"], generator=generator(settings["seed"]), **more).images


def decode(pipe, latents: torch.Tensor) -> torch.Tensor:
    picture = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return (((picture / 2 + 0.5).clamp(0, 1))[0].permute(1, 2, 0) * 255).round().to(torch.uint8)


def whole_run(pipe, settings: dict, out: dict, name: str) -> None:
    settings["tokens"] = tokens(pipe, settings["words"])
    losses, compute = [], Pipeline._compute_loss
    pipe._compute_loss = lambda max_attention_per_index: (
        losses.append(float(compute(max_attention_per_index))) or compute(max_attention_per_index))
    excited = lambda iterations, thresholds: call(
        pipe, settings, token_indices=settings["tokens"], output_type="latent", attn_res=RESOLUTION,
        thresholds=thresholds, max_iter_to_alter=iterations, scale_factor=settings["scale_factor"])
    plain = excited(0, {})
    losses.clear()
    latents = excited(settings["max_iterations"], settings["thresholds"])
    out |= {f"{name}.latents": latents, f"{name}.picture": decode(pipe, latents)}
    moved = ((latents - plain).norm() / plain.norm()).item()
    print(f"{name}: {len(losses)} losses {' '.join(f'{loss:.3f}' for loss in losses)}; moved by {moved:.1%}")
    assert moved > 0.05, "the run is to differ from one that is left alone"
    settings["moved"] = round(moved, 4)


class Heat:
    """An attention processor that sums the probabilities of the prompt's half, [t, 32, 32], over layers and steps."""

    def __init__(self):
        self.sum, self.count = 0, 0

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
        cross = encoder_hidden_states is not None
        context = encoder_hidden_states if cross else hidden_states
        query, key, value = (attn.head_to_batch_dim(part) for part in
                             (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)))
        p = attn.get_attention_scores(query, key, None)
        if cross:
            side = int(p.shape[1] ** 0.5)
            maps = p.unflatten(0, (-1, attn.heads))[-1].mean(0).T.unflatten(1, (side, side))
            self.sum += F.interpolate(maps[None], size=(32, 32), mode="bilinear", align_corners=False)[0]
            self.count += 1
        return attn.to_out[0](attn.batch_to_head_dim(torch.bmm(p, value)))


def heat(pipe, settings: dict, out: dict, name: str) -> None:
    store = Heat()
    pipe.unet.set_attn_processor(store)
    pipe.scheduler = SAMPLERS[settings["sampler"]].from_config(pipe.scheduler.config)
    latents = call(pipe, settings, output_type="latent")
    pipe.unet.set_attn_processor(dict(pipe.original))
    out[f"heat.{name}.picture"] = decode(pipe, latents)
    for word in settings["words"]:
        out[f"heat.{name}.{word}"] = (store.sum / store.count)[tokens(pipe, [word])].sum(0)
    print(f"heat.{name}: {store.count} maps")


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out, cases = {}, {"prompt": PROMPT, "negative": NEGATIVE, "cases": {}, "runs": {}, "heat": {}}
    with torch.no_grad():
        for name in ("sd1-f32", "sd2-f16"):
            plain = load(name)
            plain.original = plain.unet.attn_processors
            cases["heat"][name] = settings = dict(HEAT)
            heat(plain, settings, out, name)
            pipe = exciting(plain)
            for kind, rows, run in (("cases", CASES, one_update), ("runs", RUNS, whole_run)):
                for case, settings in rows.items():
                    if settings["model"] == name:
                        cases[kind][case] = settings = settings | ({"step_size": 20.0} if kind == "cases" else {})
                        run(pipe, settings, out, case)
    save_file({k: v.contiguous() for k, v in sorted(out.items())}, HERE / "attend.safetensors")
    (HERE / "attend.safetensors").chmod(0o644)
    (HERE / "attend.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
