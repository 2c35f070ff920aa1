#!/usr/bin/env python3
"""Writes noise.safetensors and samplers.safetensors beside this file: what src/sampling/ is compared with.

    python tests/golden/make_sampling.py        (made with torch 2.15.0 and diffusers 0.42.1, on the CPU)

noise.safetensors: draws of torch.Generator("cpu").manual_seed(SEED).
    randn.SEED.N               torch.randn(N); above 100 values only the first 24 and the last 40 are kept
    randint.SEED.LOW.HIGH      torch.randint(LOW, HIGH, ...)
    mixed.SEED.integers, mixed.SEED.normals     a sequence of both, see `mixed`

samplers.safetensors: diffusers' schedulers, with `model` in the place of the UNet.
    metadata configs           JSON: NAME to the text of a scheduler_config.json (one entry, as their order is random)
    NAME.alphas_cumprod        what DDPMScheduler trains with under that file
    NAME.SAMPLER.STEPS.timesteps     every timestep the model is called at
    NAME.SAMPLER.STEPS.run     [calls + 1, VALUES]: the (scaled) model input of each of the first five calls, then the
                               result
"""
import json
import pathlib
import tempfile

import torch
from diffusers import (DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, PNDMScheduler)
from diffusers.configuration_utils import FrozenDict
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
SAMPLERS = {"dpm++2m": DPMSolverMultistepScheduler, "ddim": DDIMScheduler, "euler": EulerDiscreteScheduler,
            "euler-a": EulerAncestralDiscreteScheduler, "pndm": PNDMScheduler}
VALUES = 24  # latents of one run
SEED = 11    # of a run: first the latents, then the sampler's own noise
CALLS = 5    # model inputs kept of each run

# What Stable Diffusion's own repositories ship; every sampler is configured from it.
STABLE_DIFFUSION = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "clip_sample": False, "num_train_timesteps": 1000, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def mixed(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Small draws (which cache a normal), block draws and integers from one generator."""
    g = generator(seed)
    integers = [torch.randint(0, 1000, (2,), generator=g)]
    normals = [torch.randn(n, generator=g) for n in (3, 32, 5)]
    integers.append(torch.randint(0, 1 << 40, (3,), generator=g))
    normals += [torch.randn(n, generator=g) for n in (1, 2, 33)]
    integers.append(torch.randint(-5, 5, (4,), generator=g))
    normals.append(torch.randn(1, generator=g))
    return torch.cat(integers), torch.cat(normals)


def noise() -> dict[str, torch.Tensor]:
    out = {}
    for seed in (0, 1, 42, 2**31 + 5, 2**32 - 1, 2**40 + 7):
        for n in (1, 2, 5, 15, 16, 17, 24, 31, 33, 100, 1000, 1023, 4096):
            x = torch.randn(n, generator=generator(seed))
            out[f"randn.{seed}.{n}"] = x if n <= 100 else torch.cat([x[:24], x[-40:]])
        for low, high in ((0, 1), (0, 1000), (-7, 12), (0, 2**28 - 1), (0, 2**28), (-(2**40), 2**40),
                          (-(2**63), 2**63 - 1)):
            out[f"randint.{seed}.{low}.{high}"] = torch.randint(low, high, (6,), generator=generator(seed))
    for seed in (0, 42, 2**31):
        out[f"mixed.{seed}.integers"], out[f"mixed.{seed}.normals"] = mixed(seed)
    return out


def saved(cls: type, **options: object) -> str:
    """The file that a scheduler of class `cls` writes."""
    with tempfile.TemporaryDirectory() as folder:
        cls(**options).save_config(folder)
        return pathlib.Path(folder, "scheduler_config.json").read_text()


def configs() -> dict[str, tuple[str, list[int]]]:
    """Files, and the numbers of steps to run under each."""
    sd = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    latent = {**sd, "clip_sample": False, "steps_offset": 1}
    v = {"prediction_type": "v_prediction"}
    return {
        "sd-epsilon": (json.dumps(STABLE_DIFFUSION), [1, 2, 5, 20, 50]),
        "sd-velocity": (json.dumps({**STABLE_DIFFUSION, **v}), [1, 2, 5, 20, 50]),
        "short": (json.dumps({"_class_name": "PNDMScheduler", "num_train_timesteps": 100, "beta_end": 0.1}), [4, 10]),
        "pndm-prk": (saved(PNDMScheduler, **sd, steps_offset=1, skip_prk_steps=False), [4, 7]),
        "ddim": (saved(DDIMScheduler, **latent, set_alpha_to_one=False), [7]),
        "ddim-clip": (json.dumps({"_class_name": "DDIMScheduler", **sd, "clip_sample_range": 1.5}), [7]),
        "ddim-zero-snr": (saved(DDIMScheduler, **latent, **v, rescale_betas_zero_snr=True,
                                timestep_spacing="trailing"), [7]),
        "ddpm": (saved(DDPMScheduler, **sd), [7]),
        "dpm": (saved(DPMSolverMultistepScheduler, **sd), [7, 16]),
        "dpm-karras": (saved(DPMSolverMultistepScheduler, **sd, use_karras_sigmas=True, euler_at_final=True), [7]),
        "dpm-leading": (saved(DPMSolverMultistepScheduler, **sd, **v, timestep_spacing="leading",
                              lower_order_final=False, final_sigmas_type="sigma_min"), [7, 16]),
        "dpm-cosine": (saved(DPMSolverMultistepScheduler, beta_schedule="squaredcos_cap_v2",
                             lambda_min_clipped=-5.1), [7]),
        "euler": (saved(EulerDiscreteScheduler, **sd, timestep_spacing="leading", steps_offset=1), [7]),
        "euler-karras": (saved(EulerDiscreteScheduler, **sd, use_karras_sigmas=True), [7]),
        "euler-a": (saved(EulerAncestralDiscreteScheduler, **sd, timestep_spacing="trailing"), [7]),
        # LMSDiscreteScheduler itself needs scipy; this is what it writes.
        "lms": (json.dumps({"_class_name": "LMSDiscreteScheduler", **sd, "num_train_timesteps": 1000, "steps_offset": 0,
                            "prediction_type": "epsilon", "timestep_spacing": "linspace", "trained_betas": None,
                            "use_beta_sigmas": False, "use_exponential_sigmas": False,
                            "use_karras_sigmas": False}), [7]),
        "betas": (saved(DDIMScheduler, num_train_timesteps=50,
                        trained_betas=[0.001 * (i + 1) for i in range(50)]), [9]),
    }


def loaded(text: str, sampler: str):
    """The scheduler as in StableDiffusionPipeline.from_pretrained, then SAMPLER.from_config(pipe.scheduler.config)."""
    config = json.loads(text)
    classes = {c.__name__: c for c in (*SAMPLERS.values(), DDPMScheduler)}
    first = classes.get(config["_class_name"], EulerDiscreteScheduler).from_config(config)
    patched = dict(first.config)  # what StableDiffusionPipeline.__init__ does to outdated files
    if getattr(first.config, "steps_offset", 1) != 1:
        patched["steps_offset"] = 1
    if getattr(first.config, "clip_sample", False) is True:
        patched["clip_sample"] = False
    return SAMPLERS[sampler].from_config(FrozenDict(patched))


def model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """In the UNet's place: smooth, bounded in slope, of exactly rounded operations only (so equal bits anywhere)."""
    pattern = (torch.arange(VALUES) * 7 % 11 - 5).float() / 10
    return (x * 0.7 + pattern * (t.float() / 1000)) / (x * x * 0.05 + 1)


def run(text: str, sampler: str, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    scheduler = loaded(text, sampler)
    scheduler.set_timesteps(steps)
    g = generator(SEED)
    x = torch.randn(1, VALUES, generator=g) * scheduler.init_noise_sigma
    options = {} if sampler == "pndm" else {"generator": g}
    rows = []
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        rows.append(scaled)
        x = scheduler.step(model(scaled, t), t, x, **options).prev_sample
    assert x.isfinite().all(), (text, sampler, steps)
    return scheduler.timesteps.float(), torch.cat(rows[:CALLS] + [x])


def main() -> None:
    save_file(noise(), HERE / "noise.safetensors")
    tensors, texts = {}, {}
    for name, (text, steps) in configs().items():
        texts[name] = text
        if name in ("sd-epsilon", "short", "ddim-zero-snr", "dpm-cosine", "betas"):  # each kind of schedule once
            tensors[f"{name}.alphas_cumprod"] = DDPMScheduler.from_config(json.loads(text)).alphas_cumprod
        for sampler in SAMPLERS:
            for n in steps:
                tensors[f"{name}.{sampler}.{n}.timesteps"], tensors[f"{name}.{sampler}.{n}.run"] = run(text, sampler, n)
    save_file(tensors, HERE / "samplers.safetensors", {"configs": json.dumps(texts)})


if __name__ == "__main__":
    main()
