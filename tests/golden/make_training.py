#!/usr/bin/env python3
"""Writes what tests/it/training.rs compares with: the soft mask and the fine-tuning of values, by PyTorch.

    python tests/golden/make_training.py      (torch 2.15.0, diffusers 0.42.1 and transformers 5.23.0, on the CPU)

Uses the models and photos that make.py writes, and replaces training.safetensors and training.json beside this file:

    mask.MODEL.SITE             the share of every neuron in being shut, after the steps in training.json
    values.MODEL.SITE           the change of every weight by Adam on two lessons
"""
import json
import pathlib

from make import generator, load, photos, sites, token_ids  # quietens the libraries first

import torch
from diffusers import DDPMScheduler
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ("sd1-f32", "sd2-f16b")
MASK = dict(steps=6, half=3, rate=0.2, prior_weight=0.7, seed=5, lessons=[["a photo of a sks dog", "a photo of a dog"]])
VALUES = dict(steps=5, half=2, rate=0.05, prior_weight=1.5, seed=9,
              lessons=[["a photo of a sks dog", "a photo of a dog"], ["a picture of a sks cat", "a cat at night"]])


def batch(pipe, settings: dict, step: int):
    """For each lesson `half` photos, then `half` class pictures; the timesteps of a half in as many equal parts."""
    half, pictures = settings["half"], {which: photos(pipe, which) for which in ("subject", "class")}
    latents, prompts, weights = [], [], []
    for own, of_class in settings["lessons"]:
        for which, text, weight in (("subject", own, 1.0), ("class", of_class, settings["prior_weight"])):
            for i in range(half):
                latents.append(pictures[which][(step * half + i) % len(pictures[which])])
                prompts.append(text)
                weights.append(weight / (half * len(settings["lessons"])))
    draw = generator(settings["seed"] + step)
    schedule = DDPMScheduler.from_config(pipe.scheduler.config)
    length = schedule.config.num_train_timesteps
    t = (torch.arange(len(latents)) % half * length + torch.randint(0, length, (len(latents),), generator=draw)) // half
    clean = torch.cat(latents)
    noise = torch.randn(clean.shape, generator=draw)
    velocity = schedule.config.prediction_type == "v_prediction"
    target = schedule.get_velocity(clean, noise, t) if velocity else noise
    context = pipe.text_encoder(token_ids(pipe, prompts))[0]
    return schedule.add_noise(clean, noise, t), t, context, target, torch.tensor(weights)


def gradients(pipe, settings: dict, step: int, theta: dict) -> tuple[float, list[torch.Tensor]]:
    noisy, t, context, target, weights = batch(pipe, settings, step)
    with torch.enable_grad():
        for p in theta.values():
            p.requires_grad_(True)
        error = (pipe.unet(noisy, t, context).sample - target) ** 2
        loss = (weights * error.mean(dim=(1, 2, 3))).sum()
        found = torch.autograd.grad(loss, theta.values())
    for p in theta.values():
        p.requires_grad_(False)
    return loss.item(), found


def cooled(step: int, steps: int) -> float:
    return min(1.0, (steps - step) / (0.4 * steps))


def soft_mask(pipe, settings: dict) -> tuple[dict, list[float]]:
    """z <- clip(z - rate m / (sqrt(s) + epsilon), 0, 1), with Adam's means m and s of the gradient of z = -theta g."""
    theta = sites(pipe.unet, "cross")
    before = {name: p.clone() for name, p in theta.items()}
    state = {name: [torch.zeros_like(p) for _ in range(3)] for name, p in theta.items()}  # z, m, s
    losses = []
    for k in range(settings["steps"]):
        loss, found = gradients(pipe, settings, k, theta)
        losses.append(loss)
        for (name, p), g in zip(theta.items(), found):
            z, m, s = state[name]
            g = -before[name] * g
            m, s = 0.9 * m + 0.1 * g, 0.99 * s + 0.01 * g * g
            size = s / (1 - 0.99 ** (k + 1))
            direction = m / (1 - 0.9 ** (k + 1)) / (size.sqrt() + 1e-3 * size.mean().sqrt())
            z = (z - settings["rate"] * cooled(k, settings["steps"]) * direction).clamp(0, 1)
            state[name] = [z, m, s]
            p.copy_(before[name] * (1 - z))
    for name, p in theta.items():
        p.copy_(before[name])
    return {name: z for name, (z, _, _) in state.items()}, losses


def fine_tune(pipe, settings: dict) -> tuple[dict, list[float]]:
    """torch's Adam on every weight, in steps measured in the root mean square of its site."""
    theta = sites(pipe.unet, "cross")
    before = {name: p.clone() for name, p in theta.items()}
    rates = [settings["rate"] * p.square().mean().sqrt().item() for p in theta.values()]
    adam = torch.optim.Adam([{"params": [p], "lr": rate} for p, rate in zip(theta.values(), rates)], eps=1e-12)
    losses = []
    for k in range(settings["steps"]):
        loss, found = gradients(pipe, settings, k, theta)
        losses.append(loss)
        for group, rate, p, g in zip(adam.param_groups, rates, theta.values(), found):
            group["lr"], p.grad = rate * cooled(k, settings["steps"]), g
        adam.step()
    change = {name: p - before[name] for name, p in theta.items()}
    for name, p in theta.items():
        p.grad = None
        p.copy_(before[name])
    return change, losses


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    out, cases = {}, {"mask": MASK, "values": VALUES, "losses": {}}
    for name in MODELS:
        pipe = load(name)
        for kind, compute, settings in (("mask", soft_mask, MASK), ("values", fine_tune, VALUES)):
            found, losses = compute(pipe, settings)
            cases["losses"][f"{kind}.{name}"] = losses
            out |= {f"{kind}.{name}.{site}": x.contiguous() for site, x in found.items()}
            if kind == "mask":
                share = torch.cat([z.flatten() for z in found.values()])
                print(f"{name}: {(share > 0).float().mean():.0%} of the shares are above 0, {(share == 1).float().mean():.1%} are 1")
    save_file(out, HERE / "training.safetensors")
    (HERE / "training.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
