#!/usr/bin/env python3
"""Writes schedulers.json and schedulers.safetensors beside this file: what diffusers makes of the files of schedulers
that people have, with every sampler, and of every key and value in them. src/sampling/samplers/ is compared with it.

    python tests/golden/make_schedulers.py      (made with torch 2.15.0 and diffusers 0.42.1 without scipy, on the CPU)

schedulers.json        `configs`: NAME to the text of a scheduler_config.json, the numbers of steps (of a start at a
                       picture: with the strength), and by sampler, for each of these, a run, or -1 where diffusers
                       refuses: an error, a deprecation, or a result that is not finite. `runs`: how often each calls
                       the model.
schedulers.safetensors F32 `numbers`: run after run, the timesteps of all calls, and then the VALUES of the result

A file is loaded as make_sampling.py does, and `model` there is in the place of the UNet.
"""
import json
import logging
import pathlib
import warnings

import diffusers
import torch
from diffusers import (DDIMScheduler, DDPMScheduler, DEISMultistepScheduler, DPMSolverMultistepScheduler,
                       DPMSolverSinglestepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler,
                       HeunDiscreteScheduler, KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler, LCMScheduler,
                       PNDMScheduler, UniPCMultistepScheduler)
from diffusers.configuration_utils import FrozenDict
from make_sampling import STABLE_DIFFUSION, generator, saved
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
SAMPLERS = {
    "dpm++2m": (DPMSolverMultistepScheduler, {}),
    "dpm++2m-sde": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": (UniPCMultistepScheduler, {}), "ddim": (DDIMScheduler, {}), "euler": (EulerDiscreteScheduler, {}),
    "euler-a": (EulerAncestralDiscreteScheduler, {}), "heun": (HeunDiscreteScheduler, {}), "pndm": (PNDMScheduler, {}),
    "lcm": (LCMScheduler, {})}
NOISY = ("dpm++2m", "dpm++2m-sde", "euler-a", "lcm")  # the first where the file says so
VALUES, SEED = 16, 23
V = {"prediction_type": "v_prediction"}
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LATENT = {**SD, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
SDXL = {
    "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0", **SD, "clip_sample": False,
    "interpolation_type": "linear", "num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0,
    "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "timestep_spacing": "leading",
    "trained_betas": None, "use_karras_sigmas": False}
EULER_A = {"_class_name": "EulerAncestralDiscreteScheduler"}
DPM = {
    "_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver++", "dynamic_thresholding_ratio": 0.995,
    "euler_at_final": False, "final_sigmas_type": "zero", "lambda_min_clipped": -float("inf"),
    "lower_order_final": True,
    "solver_order": 2, "solver_type": "midpoint", "thresholding": False, "use_lu_lambdas": False, "variance_type": None}
STEPS = [1, 2, 3, 9, 50]


def wild() -> dict[str, str]:
    """What repositories of Stable Diffusion have, and what diffusers writes of each class."""
    cls = {
        "ddim": saved(DDIMScheduler, **LATENT), "ddpm": saved(DDPMScheduler, **SD),
        "pndm": saved(PNDMScheduler, **SD, skip_prk_steps=True),
        "pndm-prk": saved(PNDMScheduler, **SD, steps_offset=1), "euler": saved(EulerDiscreteScheduler, **SD),
        "euler-a": saved(EulerAncestralDiscreteScheduler, **SD), "dpm": saved(DPMSolverMultistepScheduler, **SD),
        "dpm-single": saved(DPMSolverSinglestepScheduler, **SD), "deis": saved(DEISMultistepScheduler, **SD),
        "unipc": saved(UniPCMultistepScheduler, **SD), "heun": saved(HeunDiscreteScheduler, **SD),
        "kdpm2": saved(KDPM2DiscreteScheduler, **SD), "kdpm2-a": saved(KDPM2AncestralDiscreteScheduler, **SD)}
    repositories = {
        "sd15": STABLE_DIFFUSION,
        "sd2": {**STABLE_DIFFUSION, **V, "_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0"},
        "sd2-base": {**STABLE_DIFFUSION, "prediction_type": "epsilon"},
        "sd-turbo": {**SDXL, "timestep_spacing": "trailing"},
        "sdxl": SDXL,
        "sdxl-turbo": {**SDXL, **EULER_A, "timestep_spacing": "trailing"},
        "sdxl-a": {**SDXL, **EULER_A},
        "sdxl-v-zero-snr": {**SDXL, **V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        "sd2-v-zero-snr": {**STABLE_DIFFUSION, **V, "_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True,
                           "timestep_spacing": "trailing", "set_alpha_to_one": True},
        "tiny-sd": {**STABLE_DIFFUSION, **DPM, "timestep_spacing": "linspace", "use_karras_sigmas": False},
        "dpm-karras": {**SDXL, **DPM, "use_karras_sigmas": True},
        "dpm-karras-v": {**SDXL, **DPM, **V, "use_karras_sigmas": True, "timestep_spacing": "trailing",
                         "euler_at_final": True},
        "dpm-karras-min": {**SDXL, **DPM, "use_karras_sigmas": True, "final_sigmas_type": "sigma_min"},
        "dpm-sde-karras": {**SDXL, **DPM, "algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
        "deis-logrho": {**STABLE_DIFFUSION, **DPM, "_class_name": "DEISMultistepScheduler", "algorithm_type": "deis",
                        "solver_type": "logrho", "timestep_spacing": "leading"},
        "unipc-bh1": {**STABLE_DIFFUSION, "_class_name": "UniPCMultistepScheduler", "solver_type": "bh1",
                      "predict_x0": True, "disable_corrector": [], "solver_p": None, "solver_order": 2,
                      "timestep_spacing": "linspace"},
        "cosine": {"_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2", "clip_sample": False},
    }
    return cls | {name: json.dumps(file) for name, file in repositories.items()}


VARIANTS = {
    "timestep_spacing": ["linspace", "trailing", "karras"], "steps_offset": [0, 3], "set_alpha_to_one": [True],
    "skip_prk_steps": [False], "clip_sample": [True], "clip_sample_range": [0.5], "rescale_betas_zero_snr": [True],
    "prediction_type": ["v_prediction", "sample", "flow_prediction"], "final_sigmas_type": ["sigma_min", "zero", "x"],
    "use_karras_sigmas": [True], "use_exponential_sigmas": [True], "use_beta_sigmas": [True], "use_lu_lambdas": [True],
    "use_flow_sigmas": [True], "flow_shift": [3.0], "lower_order_final": [False], "euler_at_final": [True],
    "algorithm_type": ["dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver", "deis", "x"],
    "solver_type": ["midpoint", "heun", "bh1", "bh2", "logrho", "x"], "solver_order": [1, 3], "thresholding": [True],
    "dynamic_thresholding_ratio": [0.5], "sample_max_value": [2.0], "interpolation_type": ["log_linear", "x"],
    "timestep_type": ["discrete", "continuous"], "variance_type": ["learned", "learned_range", "fixed_small"],
    "beta_schedule": ["linear", "squaredcos_cap_v2", "exp", "sigmoid"], "lambda_min_clipped": [-5.1, -float("inf")],
    "sigma_min": [0.1], "sigma_max": [9.0], "predict_x0": [True, False], "disable_corrector": [[], [1]],
    "shift_terminal": [0.1], "use_dynamic_shifting": [True], "time_shift_type": ["exponential"], "solver_p": [],
    "original_inference_steps": [50, 20], "timestep_scaling": [10.0, 5.0], "num_train_timesteps": [500],
    "trained_betas": [[0.001 + 1e-5 * i for i in range(1000)]], "predict_epsilon": [True, False],
    "beta_start": [0.001], "beta_end": [0.02]}
# Keys that count together.
PAIRS = [
    {"use_karras_sigmas": True, "sigma_min": 0.1}, {"use_karras_sigmas": True, "use_exponential_sigmas": True},
    {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"}, {"use_karras_sigmas": True, **V},
    {"use_karras_sigmas": True, "beta_schedule": "squaredcos_cap_v2"}, {"rescale_betas_zero_snr": True, **V},
    {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, {"timestep_type": "continuous", **V},
    {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
    {"solver_type": "heun", "lower_order_final": False, **V},
    {"solver_type": "bh1", "final_sigmas_type": "sigma_min", "lower_order_final": False},
    {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
    {"timestep_spacing": "trailing", **V}, {"timestep_spacing": "linspace", "steps_offset": 3}]


def varied() -> dict[str, str]:
    singles = [{key: value} for key, values in VARIANTS.items() for value in [None, *values]]
    without = {"without betas": {key: value for key, value in SDXL.items() if not key.startswith("beta")},
               "without spacing": {key: value for key, value in SDXL.items() if key != "timestep_spacing"}}
    name = lambda change: json.dumps(change)[1:-1] if len(json.dumps(change)) < 200 else next(iter(change))
    return ({name(change): json.dumps({**SDXL, **change}) for change in singles + PAIRS}
            | {name: json.dumps(file) for name, file in without.items()})


def loaded(text: str, sampler: str):
    config = json.loads(text)
    name = config["_class_name"]
    first = getattr(diffusers, name).from_config(config)
    patched = dict(first.config)  # as in make_sampling.py
    if getattr(first.config, "steps_offset", 1) != 1:
        patched["steps_offset"] = 1
    if getattr(first.config, "clip_sample", False) is True:
        patched["clip_sample"] = False
    cls, options = SAMPLERS[sampler]
    return cls.from_config(FrozenDict(patched), **options)


def model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """As in make_sampling.py."""
    pattern = (torch.arange(VALUES) * 7 % 11 - 5).float() / 10
    return (x * 0.7 + pattern * (t.float() / 1000)) / (x * x * 0.05 + 1)


def run(text: str, sampler: str, steps: int, strength: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    scheduler = loaded(text, sampler)
    scheduler.set_timesteps(steps)
    g = generator(SEED)
    x = torch.randn(1, VALUES, generator=g)
    timesteps = scheduler.timesteps
    if strength is None:
        x = x * scheduler.init_noise_sigma
    else:  # as in StableDiffusionImg2ImgPipeline
        begin = max(steps - min(int(steps * strength), steps), 0) * scheduler.order
        timesteps = timesteps[begin:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        x = scheduler.add_noise(x, torch.randn(1, VALUES, generator=g), timesteps[:1])
    for t in timesteps:
        scaled = scheduler.scale_model_input(x, t)
        x = scheduler.step(model(scaled, t), t, x, **({"generator": g} if sampler in NOISY else {})).prev_sample
    if not x.isfinite().all():
        raise ValueError("not finite")
    return timesteps.float(), x[0].float()


def main() -> None:
    torch.set_num_threads(1)
    logging.getLogger("diffusers").setLevel(logging.ERROR)  # it names keys that a class does not know
    warnings.filterwarnings("error", category=FutureWarning)  # what diffusers calls deprecated
    numbers, runs, known = [], [], {}

    def outcome(text: str, sampler: str, steps: int, strength: float | None) -> int:
        try:
            timesteps, result = run(text, sampler, steps, strength)
        except Exception as error:
            reasons.add(f"{type(error).__name__}: {str(error)[:90]}")
            return -1
        values = torch.cat([timesteps, result])
        key = values.numpy().tobytes()
        if key not in known:
            known[key] = len(runs)
            runs.append(len(timesteps))
            numbers.append(values)
        return known[key]

    configs, reasons = {}, set()
    plan = [(name, text, [(n, None) for n in STEPS]) for name, text in wild().items()]
    plan += [(name, text, [(4, None), (17, None)]) for name, text in varied().items()]
    plan += [(f"picture {name}", wild()[name], [(10, 0.3), (10, 0.75), (7, 1.0)])
             for name in ("sd15", "sd2", "sdxl", "dpm-karras", "sdxl-v-zero-snr")]
    for name, text, steps in plan:
        configs[name] = {"file": text,
                         "steps": [n if strength is None else [n, strength] for n, strength in steps],
                         "runs": {sampler: [outcome(text, sampler, *n) for n in steps] for sampler in SAMPLERS}}
    for reason in sorted(reasons):
        print(reason)
    rows = sum(len(runs) for config in configs.values() for runs in config["runs"].values())
    print(len(configs), "files,", rows, "rows,", len(runs), "different runs")
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(config)}" for name, config in configs.items())
    (HERE / "schedulers.json").write_text(f'{{"configs": {{\n{lines}\n}},\n"runs": {json.dumps(runs)}}}\n')
    save_file({"numbers": torch.cat(numbers)}, HERE / "schedulers.safetensors")


if __name__ == "__main__":
    main()
