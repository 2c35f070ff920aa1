#!/usr/bin/env python3
"""Writes what src/golden/ compares with: miniature Stable Diffusion models, and what PyTorch makes of them.

    python tests/golden/make.py        (made with torch 2.15.0, diffusers 0.42.1 and transformers 5.23.0, on the CPU)

Everything goes beside this file, replacing what was there (make_sampling.py and its files are not touched):

models/NAME/          four checkpoints in the diffusers layout, of random weights; see miniatures.py
photos/subject, photos/class     32 x 32 PNG pictures, for `find`
cases.json            what was computed: prompts, seeds, timesteps, settings, losses
NAME.safetensors      the results for models/NAME, in f32 on the weights as stored:
    ids                         u32 [p, t], of the prompts in cases.json
    embeddings                  [p, t, e], of the same
    unet.CASE.{x,context,output}    the timesteps are in cases.json
    vae.CASE.{picture,mean,logvar,latents,decoded}     the mean and the clamped log variance of picture [1, 3, h, w]
                                (-1..1); `decoded` belongs to `latents`, which are not those of `picture`
    grad.{x,context,target}     of the loss mean((unet(x) - target)^2) at two timesteps,
    grad.site.SITE              its gradient with respect to every to_k and to_v
    find.CASE.SITE              the scores of Algorithm 1 (`find` below)
    picture.CASE                u8 [n, h, w, 3], whole pictures of diffusers' StableDiffusionPipeline
NAME.shut.safetensors     u32 indices by site: the weights set to zero for the picture `shut`

The same versions on the same machine give the same bytes. Another processor may round differently, by far less than
the tolerances of the tests.
"""
import itertools
import shutil

from miniatures import HERE, MODELS, SIZE, write_json, write_model, write_photos  # quietens the libraries first

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, PNDMScheduler, StableDiffusionPipeline)
from PIL import Image
from safetensors.torch import save_file
from transformers.utils.logging import disable_progress_bar
import diffusers.utils.logging

PROMPTS = [
    "",
    "a photo of a sks dog",
    "a photo of a dog",
    "A PHOTO of a Red Dog",
    "  a \t photo\n\nof   a cat  ",
    "zebra quux photography dogs",
    "a dog, a cat; (blue) [hat] it's... don't -- #1_000",
    "a dog! a cat!! wow!dog ! !",
    "12 dogs at 3.5 and 2026",
    "Ein Käfer für 5 € — naïve ﬁlm ½ × ²",
    "e\u0301le\u0300ve caf\u00e9 ÅNGSTRÖM İstanbul ΣΑΣ",
    "犬の写真 🐶 dog🐶cat привет नमस्ते",
    "a photo of <|endoftext|> a dog <|startoftext|> in the snow",
    "a photo of a red dog with a blue hat and a green cup on the beach at night and a cat in the park with a crown, "
    "a picture of the street at night in the snow, and a painting of the beach",
    "<|STARTOFTEXT|> a Dog<|EndOfText|>s",
    "an extraordinarily photogenic hippopotamus in the snow",
]

SAMPLERS = {"dpm++2m": DPMSolverMultistepScheduler, "ddim": DDIMScheduler, "euler": EulerDiscreteScheduler,
            "euler-a": EulerAncestralDiscreteScheduler, "pndm": PNDMScheduler}

PICTURE = dict(prompt="a photo of a red dog in the snow", negative="blurry, low quality", sampler="dpm++2m", steps=20,
               guidance=7.5, seeds=[5], height=SIZE, width=SIZE, shut=False)

# Pictures of the first model of each generation; the other two only have the first, "dpm++2m".
PICTURES = {name: dict(sampler=name) for name in SAMPLERS} | {
    "wide": dict(height=24, width=40, seeds=[6], sampler="pndm"),
    "shut": dict(shut=True, sampler="euler"),
    "pair": dict(seeds=[7, 8], sampler="euler-a"),
    "unguided": dict(guidance=1.0, negative="", sampler="ddim"),
}

# `find`: five steps. Weights move by rho, theta and the gradient; RHO is large enough for the later steps to see it.
FIND = dict(noun="dog", token="sks", steps=5, rho=0.0, prior_weight=1.0, seed=3, sites="cross")
RHO = 20.0


def generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def sites(unet, kind: str) -> dict[str, torch.nn.Parameter]:
    """The K and V weights of the cross-attentions (attn2), the self-attentions (attn1) or both, by name."""
    layers = {"cross": [".attn2."], "self": [".attn1."], "all": [".attn1.", ".attn2."]}[kind]
    return {name: p for name, p in sorted(unet.named_parameters())
            if name.endswith((".to_k.weight", ".to_v.weight")) and any(layer in name for layer in layers)}


def load(name: str) -> StableDiffusionPipeline:
    """The checkpoint as diffusers reads it, computing in f32."""
    variant = "fp16" if MODELS[name]["variant"] else None
    pipe = StableDiffusionPipeline.from_pretrained(HERE / "models" / name, torch_dtype=torch.float32, variant=variant,
                                                   local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    for module in (pipe.unet, pipe.vae, pipe.text_encoder):
        module.eval().requires_grad_(False)
        assert all(p.dtype == torch.float32 for p in module.parameters())
    return pipe


def token_ids(pipe, prompts: list[str]) -> torch.Tensor:
    return pipe.tokenizer(prompts, padding="max_length", truncation=True, max_length=pipe.tokenizer.model_max_length,
                          return_tensors="pt").input_ids


def stages(pipe, out: dict, case: dict) -> None:
    """Text, UNet and VAE, each alone."""
    ids = token_ids(pipe, PROMPTS)
    out["ids"] = ids.to(torch.uint32)
    out["embeddings"] = pipe.text_encoder(ids)[0]
    g = generator(100)
    # Sides that halve evenly, sides that do not (the way up must then follow the way down), one sample alone.
    case["unet"] = {}
    for name, (b, h, w), timesteps, first in (("square", (2, 16, 16), [981, 21], 1),
                                              ("wide", (2, 12, 20), [0, 733.25], 3),
                                              ("odd", (1, 11, 15), [500], 9)):
        x = torch.randn(b, 4, h, w, generator=g)
        context = out["embeddings"][first:first + b]
        y = pipe.unet(x, torch.tensor(timesteps), context).sample
        out |= {f"unet.{name}.x": x, f"unet.{name}.context": context, f"unet.{name}.output": y}
        case["unet"][name] = timesteps
    for name, (h, w) in (("square", (SIZE, SIZE)), ("wide", (24, 40))):
        picture = torch.randn(1, 3, h, w, generator=g).clamp(-1, 1)
        latents = torch.randn(1, 4, h // 2, w // 2, generator=g)
        posterior = pipe.vae.encode(picture).latent_dist
        assert posterior.logvar.min() == -30 and posterior.logvar.max() == 20
        out |= {f"vae.{name}.picture": picture,
                f"vae.{name}.mean": posterior.mean, f"vae.{name}.logvar": posterior.logvar,
                f"vae.{name}.latents": latents, f"vae.{name}.decoded": pipe.vae.decode(latents).sample}
    case["vae"] = ["square", "wide"]


def gradients(pipe, out: dict, case: dict) -> None:
    """The gradient of a plain squared error with respect to every site."""
    g = generator(200)
    x, target = torch.randn(2, 2, 4, 16, 16, generator=g)
    context, timesteps = out["embeddings"][1:3], [87, 640]
    theta = sites(pipe.unet, "all")
    with torch.enable_grad():
        for p in theta.values():
            p.requires_grad_(True)
        loss = F.mse_loss(pipe.unet(x, torch.tensor(timesteps), context).sample, target)
        found = torch.autograd.grad(loss, theta.values())
    for p in theta.values():
        p.requires_grad_(False)
    out |= {"grad.x": x, "grad.target": target, "grad.context": context}
    out |= {f"grad.site.{name}": gradient for name, gradient in zip(theta, found)}
    case["grad"] = {"timesteps": timesteps, "loss": loss.item()}


def photos(pipe, folder: str) -> list[torch.Tensor]:
    """Scaled latents: the mean of the posterior of each picture, in order of file names."""
    latents = []
    for file in sorted((HERE / "photos" / folder).glob("*.png")):
        pixels = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None]
        latents.append(pipe.vae.encode(pixels / 127.5 - 1).latent_dist.mean * pipe.vae.config.scaling_factor)
    return latents


def find(pipe, settings: dict) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Algorithm 1 of the paper: the scores, and the loss before each step."""
    subject, kind = photos(pipe, "subject"), photos(pipe, "class")
    noun, token = settings["noun"], settings["token"]
    context = pipe.text_encoder(token_ids(pipe, [f"a photo of a {token} {noun}", f"a photo of a {noun}"]))[0]
    schedule = DDPMScheduler.from_config(pipe.scheduler.config)
    weight = torch.tensor([1.0, settings["prior_weight"]])
    theta = sites(pipe.unet, settings["sites"])
    before = {name: p.clone() for name, p in theta.items()}
    total = {name: torch.zeros_like(p) for name, p in theta.items()}
    losses = []
    for k in range(settings["steps"]):
        # Step k draws its timesteps, then its noise, from a generator of its own.
        draw = generator(settings["seed"] + k)
        z = torch.cat([subject[k % len(subject)], kind[k % len(kind)]])
        t = torch.randint(0, schedule.config.num_train_timesteps, (2,), generator=draw)
        noise = torch.randn(z.shape, generator=draw)
        noisy = schedule.add_noise(z, noise, t)
        velocity = schedule.config.prediction_type == "v_prediction"
        target = schedule.get_velocity(z, noise, t) if velocity else noise
        with torch.enable_grad():
            for p in theta.values():
                p.requires_grad_(True)
            error = (pipe.unet(noisy, t, context).sample - target) ** 2
            loss = (weight * error.mean(dim=(1, 2, 3))).sum()
            found = torch.autograd.grad(loss, theta.values())
        losses.append(loss.item())
        for (name, p), gradient in zip(theta.items(), found):
            p.requires_grad_(False)
            total[name] += p * gradient
            p -= settings["rho"] * p * p * gradient
    for name, p in theta.items():
        p.copy_(before[name])
    return {name: s / settings["steps"] for name, s in total.items()}, losses


def distance(a: dict, b: dict) -> float:
    """Of two sets of scores, relative to the second."""
    join = lambda scores: torch.cat([scores[name].flatten() for name in sorted(scores)])
    return ((join(a) - join(b)).norm() / join(b).norm()).item()


def searches(pipe, name: str, out: dict, case: dict) -> None:
    cases = {"cross": {}, "cross-rho": dict(rho=RHO)}
    if name in ("sd1-f32", "sd2-f16"):
        cases |= {"all": dict(sites="all"), "all-rho": dict(sites="all", rho=RHO)}
    if name == "sd1-f16":
        cases["cross-rho"]["prior_weight"] = cases["cross"]["prior_weight"] = 0.3
    if name == "sd2-f16b":
        cases["self"] = dict(sites="self", prior_weight=2.5)
    case["find"], scores = {}, {}
    for key, changed in cases.items():
        settings = FIND | changed
        scores[key], losses = find(pipe, settings)
        out |= {f"find.{key}.{site}": score for site, score in scores[key].items()}
        case["find"][key] = settings | {"losses": losses}
        if key.endswith("-rho"):
            moved = distance(scores[key], scores[key.removesuffix("-rho")])
            print(f"{name}: find {key}: rho {settings['rho']} changes the scores by {moved:.2%}")
            assert 0.02 < moved < 0.5, "rho is to matter, and not to make the run chaotic"
            case["find"][key]["changes_scores_by"] = round(moved, 4)


def choose_shut(name: str, unet) -> dict[str, torch.Tensor]:
    """One weight in five of every cross-attention, at random."""
    g = generator(300)
    chosen = {site: torch.randperm(p.numel(), generator=g)[:p.numel() // 5].sort().values.to(torch.uint32)
              for site, p in sites(unet, "cross").items()}
    save_file(chosen, HERE / f"{name}.shut.safetensors")
    return chosen


def draw(pipe, settings: dict, shut: dict) -> torch.Tensor:
    theta = sites(pipe.unet, "cross")
    before = {name: p.clone() for name, p in theta.items()}
    for site, indices in shut.items():
        theta[site].view(-1)[indices.long()] = 0
    pipe.scheduler = SAMPLERS[settings["sampler"]].from_config(pipe.scheduler.config)
    generators = [generator(seed) for seed in settings["seeds"]]
    pictures = pipe(settings["prompt"], negative_prompt=settings["negative"], num_inference_steps=settings["steps"],
                    guidance_scale=settings["guidance"], height=settings["height"], width=settings["width"],
                    num_images_per_prompt=len(generators), generator=generators, output_type="np").images
    for name, p in theta.items():
        p.copy_(before[name])
    return torch.from_numpy((pictures * 255).round().astype(np.uint8))


def pictures(pipe, name: str, out: dict, case: dict) -> None:
    whole = name in ("sd1-f32", "sd2-f16")
    shut = choose_shut(name, pipe.unet) if whole else {}
    stored = pipe.scheduler
    case["picture"] = {}
    for key, changed in PICTURES.items():
        if not whole and key != "dpm++2m":
            continue
        settings = PICTURE | changed
        pipe.scheduler = stored
        picture = draw(pipe, settings, shut if settings["shut"] else {})
        out[f"picture.{key}"] = picture
        case["picture"][key] = settings
        inner = ((picture > 0) & (picture < 255)).float().mean().item()
        print(f"{name}: picture {key}: {inner:.0%} of the values are neither 0 nor 255,",
              f"deviation {picture.float().std():.0f}")
        assert inner > 0.6, "a value cut off says little"
    if whole:
        same_size = [key for key in PICTURES if key not in ("wide", "pair")]
        for a, b in itertools.combinations(same_size, 2):
            moved = (out[f"picture.{a}"].int() - out[f"picture.{b}"].int()).abs().max().item()
            assert moved > 5, f"{a} and {b}: a difference of {moved} is too near the test's tolerance of 2"
    pipe.scheduler = stored


@torch.no_grad()
def main() -> None:
    disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for folder in ("models", "photos"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
    write_photos()
    cases = {"prompts": PROMPTS, "photos": {"subject": "photos/subject", "class": "photos/class"}, "models": {}}
    for name, model in MODELS.items():
        write_model(HERE / "models" / name, model)
        pipe, out, case = load(name), {}, {}
        stages(pipe, out, case)
        gradients(pipe, out, case)
        searches(pipe, name, out, case)
        pictures(pipe, name, out, case)
        save_file({key: tensor.clone().contiguous() for key, tensor in out.items()}, HERE / f"{name}.safetensors")
        cases["models"][name] = case
    write_json(HERE / "cases.json", cases)


if __name__ == "__main__":
    main()
