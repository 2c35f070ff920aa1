#!/usr/bin/env python3
"""Writes what tests/it/configs.rs compares with: what diffusers does with other values
of configuration keys, null among them, and a miniature of the models without a middle block.

    python tests/golden/make_configs.py       (made with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0, on the
                                              CPU)

configs.json          rows [file, key, value, sampler, outcome], of the model models/sd1-f16: the outcome is "refused"
                      where diffusers does not draw, {"like": [other]} where it draws the picture of that other value
                      of the key, {"like": []} that of a file without the key, and "other" where it draws what no other
                      value draws
no-middle/unet        a UNet in the shape of segmind/tiny-sd and BK-SDM-Tiny: three levels, all with attention, one
                      layer each, "mid_block_type": null
no-middle.safetensors x, context, output [2, 4, 16, 16], target, the gradients `grad.SITE` of the mean squared error
                      against target, and the picture [32, 32, 3] with the other networks of models/sd1-f16
"""

import json
import os
import pathlib
import shutil
import tempfile
import warnings

os.environ.update(
    HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error", DIFFUSERS_VERBOSITY="error"
)
warnings.filterwarnings("ignore")

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers.utils.logging import disable_progress_bar
import diffusers.utils.logging

HERE = pathlib.Path(__file__).resolve().parent
BASE = HERE / "models" / "sd1-f16"
UNET, VAE, TEXT, SCHEDULER = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)
SAMPLERS = {
    "dpm++2m": DPMSolverMultistepScheduler,
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler-a": EulerAncestralDiscreteScheduler,
    "pndm": PNDMScheduler,
}
ABSENT = object()

# Values other than null that are worth a row.
VALUES = {
    UNET: {
        "only_cross_attention": [[False] * 3, [True] * 3, True],
        "cross_attention_dim": [[32, 32, 32], [32, 32, 16], [32, 32]],
        "attention_head_dim": [[4, 4, 4], [2, 3, 4], [4, 4]],
        "num_attention_heads": [4, [4, 4, 4]],
        "dual_cross_attention": [False, True],
        "resnet_out_scale_factor": [2.0],
        "resnet_skip_time_act": [True],
        "mid_block_only_cross_attention": [False, True],
        "cross_attention_norm": ["layer_norm"],
        "dropout": [0.5],
        "addition_embed_type_num_heads": [7],
        "upcast_attention": [True],
        "center_input_sample": [True],
        "mid_block_type": ["UNetMidBlock2D", "UNetMidBlock2DSimpleCrossAttn"],
        "sample_size": [[16, 16], [12, 20]],
        "layers_per_block": [[1, 1, 1]],
        "transformer_layers_per_block": [[1, 1, 1]],
        "conv_in_kernel": [5],
        "reverse_transformer_layers_per_block": [[1, 1, 1]],
        "time_embedding_dim": [64, 128],
        "act_fn": ["swish", "gelu"],
        "class_embed_type": ["timestep"],
        "addition_embed_type": ["text"],
        "num_class_embeds": [10],
        "time_cond_proj_dim": [8],
        "encoder_hid_dim": [16],
        "time_embedding_act_fn": ["silu"],
        "timestep_post_act": ["silu"],
        "class_embeddings_concat": [True],
        "mid_block_scale_factor": [2],
        "downsample_padding": [0],
        "_diffusers_version": ["0.6.0"],
        "time_embedding_type": ["fourier"],
        "resnet_time_scale_shift": ["scale_shift"],
        "attention_type": ["gated"],
        "freq_shift": [1],
        "norm_eps": [0.1],
        "use_linear_projection": [True],
        "flip_sin_to_cos": [False],
    },
    VAE: {
        "sample_size": [[32, 32]],
        "shift_factor": [0.5],
        "force_upcast": [False],
        "latents_mean": [[0.5] * 4],
        "latents_std": [[2.0] * 4],
        "mid_block_add_attention": [False],
        "act_fn": ["relu"],
        "scaling_factor": [1.0],
    },
    TEXT: {
        "output_hidden_states": [True],
        "output_attentions": [True],
        "return_dict": [False],
        "torchscript": [True],
        "attention_dropout": [0.5],
        "is_decoder": [True],
        "use_cache": [True],
        "tie_word_embeddings": [True],
        "cross_attention_hidden_size": [5],
        "problem_type": ["regression"],
        "add_cross_attention": [True],
        "sep_token_id": [3],
        "decoder_start_token_id": [3],
        "is_encoder_decoder": [True],
        "tie_encoder_decoder": [True],
        "finetuning_task": ["x"],
        "prefix": ["x"],
        "task_specific_params": [{"a": 1}],
        "chunk_size_feed_forward": [3],
        "bad_words_ids": [[[1]]],
        "suppress_tokens": [[1]],
        "forced_bos_token_id": [1],
        "forced_eos_token_id": [1],
        "exponential_decay_length_penalty": [[1, 2.0]],
        "remove_invalid_values": [True],
        "do_sample": [True],
        "early_stopping": [True],
        "output_scores": [True],
        "return_dict_in_generate": [True],
        "tf_legacy_loss": [True],
        "use_bfloat16": [True],
        "tokenizer_class": ["CLIPTokenizer"],
        "gradient_checkpointing": [True],
        "dropout": [0.5],
        "hidden_act": ["gelu", "relu"],
        "projection_dim": [7],
        "logit_scale_init_value": [1.0],
        "pruned_heads": [{}],
        "eos_token_id": [2, 5],
        "pad_token_id": [1],
        "bos_token_id": [0],
        "layer_norm_eps": [0.1],
    },
    SCHEDULER: {},
}


def keys_of(module: str) -> list[str]:
    config = json.loads((BASE / module).read_text())
    return sorted(key for key in config if not key.startswith("_"))


def draw(file: str, key: str, value, sampler: str):
    """The picture, or None where diffusers does not draw."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder) / "m"
        shutil.copytree(BASE, folder)
        config = json.loads((folder / file).read_text())
        config.pop(key, None)
        if value is not ABSENT:
            config[key] = value
        (folder / file).write_text(json.dumps(config))
        try:
            torch.manual_seed(0)
            pipe = StableDiffusionPipeline.from_pretrained(
                folder, torch_dtype=torch.float32, variant="fp16", local_files_only=True
            )
            pipe.scheduler = SAMPLERS[sampler].from_config(pipe.scheduler.config)
            pipe.set_progress_bar_config(disable=True)
            latents = {} if key in ("sample_size", "_diffusers_version") else dict(height=32, width=32)
            picture = pipe(
                "a red dog",
                num_inference_steps=3,
                generator=torch.Generator("cpu").manual_seed(1),
                output_type="np",
                **latents,
            ).images[0]
        except Exception:  # whatever it is, it does not draw
            return None
        return None if np.isnan(picture).any() else (picture * 255).round().astype(int)


def alike(a, b) -> bool:
    return a is not None and b is not None and a.shape == b.shape and np.abs(a - b).max() <= 1


def rows() -> list:
    schedulers = json.loads((BASE / SCHEDULER).read_text())
    more = [
        "timestep_spacing",
        "prediction_type",
        "rescale_betas_zero_snr",
        "clip_sample_range",
        "thresholding",
        "use_karras_sigmas",
        "lower_order_final",
        "euler_at_final",
        "final_sigmas_type",
        "algorithm_type",
        "solver_order",
        "solver_type",
        "variance_type",
        "interpolation_type",
        "sigma_min",
        "sigma_max",
        "timestep_type",
        "use_beta_sigmas",
        "use_exponential_sigmas",
        "use_flow_sigmas",
        "use_lu_lambdas",
        "lambda_min_clipped",
        "dynamic_thresholding_ratio",
        "sample_max_value",
        "flow_shift",
        "predict_epsilon",
    ]
    out = []
    for file in (UNET, VAE, TEXT, SCHEDULER):
        keys = keys_of(file) + (more if file == SCHEDULER else [key for key in VALUES[file] if not key.startswith("_")])
        for sampler in SAMPLERS if file == SCHEDULER else ["ddim"]:
            for key in sorted({*keys, *VALUES[file]}):
                if key in ("architectures", "dtype", "transformers_version", "id2label", "label2id"):
                    continue
                base = json.loads((BASE / file).read_text()).get(key, ABSENT)
                # Null is compared with false first: where an unused layer is meant, absence draws the same by chance.
                flag = isinstance(base, bool)
                others = (False, True, ABSENT) if flag else (ABSENT, base, 0, 1)
                candidates = [(other, draw(file, key, other, sampler)) for other in others]
                for value in ([] if key.startswith("_") else [None]) + VALUES[file].get(key, []):
                    picture = draw(file, key, value, sampler)
                    outcome = "refused" if picture is None else "other"
                    for other, its in candidates:
                        if alike(picture, its):
                            outcome = {"like": [] if other is ABSENT else [other]}
                            break
                    out.append([file, key, value, sampler, outcome])
                    print(out[-1], flush=True)
    return out


def no_middle() -> None:
    folder = HERE / "no-middle"
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(31)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 24, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=4,
        mid_block_type=None,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
    )
    with torch.no_grad():
        for name, p in unet.named_parameters():
            if p.ndim == 1:
                p += 0.1 * torch.randn_like(p)
            elif any(f"{part}.weight" in name for part in ("to_q", "to_k")):
                p *= 3
    unet.half().save_pretrained(folder / "unet", variant="fp16")
    unet = (
        UNet2DConditionModel.from_pretrained(folder / "unet", variant="fp16", torch_dtype=torch.float32)
        .eval()
        .requires_grad_(False)
    )
    assert unet.mid_block is None
    g = torch.Generator("cpu").manual_seed(400)
    x, target = torch.randn(2, 2, 4, 16, 16, generator=g)
    context, timesteps = torch.randn(2, 20, 32, generator=g), torch.tensor([87, 640])
    theta = {name: p for name, p in sorted(unet.named_parameters()) if name.endswith((".to_k.weight", ".to_v.weight"))}
    for p in theta.values():
        p.requires_grad_(True)
    y = unet(x, timesteps, context).sample
    found = torch.autograd.grad(F.mse_loss(y, target), theta.values())
    pipe = StableDiffusionPipeline.from_pretrained(
        BASE, unet=unet, torch_dtype=torch.float32, variant="fp16", local_files_only=True
    )
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        picture = pipe(
            "a photo of a red dog in the snow",
            num_inference_steps=10,
            guidance_scale=7.5,
            generator=torch.Generator("cpu").manual_seed(5),
            output_type="np",
            height=32,
            width=32,
        ).images[0]
    out = {
        "x": x,
        "context": context,
        "target": target,
        "output": y.detach(),
        "picture": torch.from_numpy((picture * 255).round().astype(np.uint8)),
    }
    out |= {f"grad.{name}": gradient for name, gradient in zip(theta, found)}
    save_file({key: tensor.clone().contiguous() for key, tensor in out.items()}, HERE / "no-middle.safetensors")


if __name__ == "__main__":
    disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    no_middle()
    with torch.no_grad():
        lines = ",\n".join(json.dumps(row) for row in rows())
    (HERE / "configs.json").write_text(f"[\n{lines}\n]\n")
