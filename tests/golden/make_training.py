#!/usr/bin/env python3
"""Writes what src/golden/training.rs compares with: soft masks, outputs at words, values fine-tuned, by PyTorch.

    python tests/golden/make_training.py      (torch 2.15.0, diffusers 0.42.1 and transformers 5.23.0, on the CPU)

Uses the models and photos that make.py writes, and replaces training.safetensors and training.json beside this file:

    mask.MODEL.SITE             the share of every neuron in being shut, after the steps in training.json
    values.MODEL.SITE           the change of every weight by Adam on two lessons
    mask-words.MODEL.SITE       the shares where the mask acts at the subject's words alone
    outputs.MODEL.SITE          by how much each row's output should change at each of the subject's words, [out, T]
    importance.MODEL.SITE       the mean square of the loss's gradients with respect to these changes, [out, T]
    values-words.MODEL.SITE     the values of the neurons of two subjects, shut at first, each at its subject's words
                                alone: the first has every third neuron, the second every fourth
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
MASK_WORDS = dict(steps=6, half=4, rate=0.2, prior_weight=0, seed=6, phrases=["sks dog"],
                  lessons=[["a sks dog and a photo of the sks dog"]])
OUTPUTS = dict(steps=6, half=4, rate=0.2, prior_weight=0, seed=7, phrases=["sks dog"], key_reach=0.1,
               lessons=[["a photo of a sks dog"]])
VALUES_WORDS = dict(steps=5, half=3, rate=0.5, prior_weight=0, seed=10, phrases=["sks dog", "sks cat"],
                    lessons=[["a photo of a sks dog"], ["a picture of a sks cat beside a sks dog and a cat"]])
EVERY = (3, 4)


def batch(pipe, settings: dict, step: int):
    """For each lesson `half` photos, then `half` class pictures; the timesteps of a half in as many equal parts."""
    half, pictures = settings["half"], {which: photos(pipe, which) for which in ("subject", "class")}
    latents, prompts, weights = [], [], []
    for lesson in settings["lessons"]:
        for which, text, weight in zip(("subject", "class"), lesson, (1.0, settings["prior_weight"])):
            for i in range(half):
                latents.append(pictures[which][(step * half + i) % len(pictures[which])])
                prompts.append(text)
                weights.append(weight / (half * len(settings["lessons"])))
    draw = generator(settings["seed"] + step)
    schedule = DDPMScheduler.from_config(pipe.scheduler.config)
    length = schedule.config.num_train_timesteps
    within = torch.randint(0, length, (len(latents),), generator=draw)
    t = ((torch.arange(len(latents)) + step) % half * length + within) // half
    clean = torch.cat(latents)
    noise = torch.randn(clean.shape, generator=draw)
    velocity = schedule.config.prediction_type == "v_prediction"
    target = schedule.get_velocity(clean, noise, t) if velocity else noise
    ids = token_ids(pipe, prompts)
    context = pipe.text_encoder(ids)[0]
    words = [words_of(pipe, ids, phrase) for phrase in settings.get("phrases", [])]
    return schedule.add_noise(clean, noise, t), t, context, words, target, torch.tensor(weights)


def words_of(pipe, ids: torch.Tensor, phrase: str) -> torch.Tensor:
    """[b, t, 1]: where the phrase's tokens stand."""
    wanted = pipe.tokenizer(phrase, add_special_tokens=False).input_ids
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for row, listed in enumerate(ids.tolist()):
        for at in range(len(listed)):
            if listed[at:at + len(wanted)] == wanted:
                mask[row, at:at + len(wanted)] = True
    return mask[..., None]


class AtWords:
    """The sites of a UNet, with weights for each subject that hold at its words alone."""

    def __init__(self, unet, subjects: list[dict]):
        self.modules = {f"{n}.weight": m for n, m in unet.named_modules() if n.endswith(("attn2.to_k", "attn2.to_v"))}
        self.subjects, self.words = subjects, []
        for name, module in self.modules.items():
            module.forward = lambda x, name=name, module=module: self.forward(name, module, x)

    def forward(self, name, module, x):
        y = torch.nn.functional.linear(x, module.weight)
        for words, weights in zip(self.words, self.subjects):
            y = torch.where(words, torch.nn.functional.linear(x, weights[name]), y)
        return y

    def remove(self):
        for module in self.modules.values():
            del module.forward


def gradients(pipe, settings: dict, step: int, theta: dict,
              bound: AtWords | None = None) -> tuple[float, list[torch.Tensor]]:
    noisy, t, context, words, target, weights = batch(pipe, settings, step)
    if bound:
        bound.words = words
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
    bound = None
    if "phrases" in settings:
        theta = {name: p.clone() for name, p in theta.items()}
        bound = AtWords(pipe.unet, [theta])
    state = {name: [torch.zeros_like(p) for _ in range(3)] for name, p in theta.items()}  # z, m, s
    losses = []
    for k in range(settings["steps"]):
        loss, found = gradients(pipe, settings, k, theta, bound)
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
    if bound:
        bound.remove()
    return {name: z for name, (z, _, _) in state.items()}, losses


def outputs_at_words(pipe, settings: dict) -> tuple[dict, list[float]]:
    """Changes of what K and V give at the words, added to the outputs themselves; steps of Adam in units of the root
    mean square of the site's own outputs there. They stay within what shutting neurons could change; keys within a
    share of it."""
    modules = {f"{n}.weight": m for n, m in pipe.unet.named_modules() if n.endswith(("attn2.to_k", "attn2.to_v"))}
    ids = token_ids(pipe, [settings["lessons"][0][0]])
    at = words_of(pipe, ids, settings["phrases"][0])[0, :, 0].nonzero()[:, 0]
    embeddings = pipe.text_encoder(ids)[0][0, at]
    change = {name: torch.zeros(len(m.weight), len(at)) for name, m in modules.items()}
    own = {name: torch.nn.functional.linear(embeddings, m.weight) for name, m in modules.items()}
    unit = {name: y.square().mean().sqrt() for name, y in own.items()}
    share = {name: settings["key_reach"] if "to_k" in name else 1 for name in modules}
    terms = {name: share[name] * m.weight[:, None] * embeddings for name, m in modules.items()}  # [out, T, embedding]
    least = {name: -term.clamp(min=0).sum(-1) for name, term in terms.items()}
    most = {name: -term.clamp(max=0).sum(-1) for name, term in terms.items()}
    state = {name: [torch.zeros_like(c) for _ in range(3)] for name, c in change.items()}  # m, s, sum of squares

    def forward(name, module, x):
        spread = torch.zeros(x.shape[1], len(at))
        spread[at, torch.arange(len(at))] = 1
        return torch.nn.functional.linear(x, module.weight) + spread @ change[name].T

    for name, module in modules.items():
        module.forward = lambda x, name=name, module=module: forward(name, module, x)
    losses = []
    for k in range(settings["steps"]):
        loss, found = gradients(pipe, settings, k, change)
        losses.append(loss)
        for (name, c), g in zip(change.items(), found):
            m, s, squares = state[name]
            m, s = 0.9 * m + 0.1 * g, 0.99 * s + 0.01 * g * g
            size = s / (1 - 0.99 ** (k + 1))
            direction = m / (1 - 0.9 ** (k + 1)) / (size.sqrt() + 1e-3 * size.mean().sqrt())
            c -= unit[name] * settings["rate"] * cooled(k, settings["steps"]) * direction
            c.clamp_(least[name], most[name])
            state[name] = [m, s, squares + g * g / settings["steps"]]
    for module in modules.values():
        del module.forward
    return {"outputs": change, "importance": {name: squares for name, (_, _, squares) in state.items()}}, losses


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


def fine_tune_at_words(pipe, settings: dict) -> tuple[dict, list[float]]:
    """torch's Adam on values that several subjects share, each of whose weights has them where its neurons are."""
    plain = sites(pipe.unet, "cross")
    owned = [{name: torch.arange(p.numel()).view_as(p) % every == 0 for name, p in plain.items()} for every in EVERY]
    values = {name: torch.zeros_like(p) for name, p in plain.items()}
    rates = [settings["rate"] * p.square().mean().sqrt().item() for p in plain.values()]
    adam = torch.optim.Adam([{"params": [v], "lr": rate} for v, rate in zip(values.values(), rates)], eps=1e-12)
    bound, losses = AtWords(pipe.unet, []), []
    for k in range(settings["steps"]):
        with torch.enable_grad():
            for v in values.values():
                v.requires_grad_(True)
            at_words = lambda own: {name: torch.where(own[name], values[name], plain[name]) for name in plain}
            bound.subjects = [at_words(own) for own in owned]
            loss, found = gradients(pipe, settings, k, values, bound)
        losses.append(loss)
        for group, rate, v, g in zip(adam.param_groups, rates, values.values(), found):
            group["lr"], v.grad = rate * cooled(k, settings["steps"]), g
        adam.step()
    bound.remove()
    return {name: v.detach()[owned[0][name] | owned[1][name]] for name, v in values.items()}, losses


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    kinds = {"mask": (soft_mask, MASK), "values": (fine_tune, VALUES), "outputs": (outputs_at_words, OUTPUTS),
             "mask-words": (soft_mask, MASK_WORDS), "values-words": (fine_tune_at_words, VALUES_WORDS)}
    out, cases = {}, {kind: settings for kind, (_, settings) in kinds.items()} | {"losses": {}}
    for name in MODELS:
        pipe = load(name)
        for kind, (compute, settings) in kinds.items():
            found, losses = compute(pipe, settings)
            cases["losses"][f"{kind}.{name}"] = losses
            for what, of_sites in (found.items() if kind == "outputs" else [(kind, found)]):
                out |= {f"{what}.{name}.{site}": x.contiguous() for site, x in of_sites.items()}
            if compute is soft_mask:
                share = torch.cat([z.flatten() for z in found.values()])
                print(f"{kind} {name}: {(share > 0).float().mean():.0%} of the shares are above 0,",
                      f"{(share == 1).float().mean():.1%} are 1")
    save_file(out, HERE / "training.safetensors")
    (HERE / "training.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
