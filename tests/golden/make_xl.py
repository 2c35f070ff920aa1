#!/usr/bin/env python3
"""Writes what src/golden/xl.rs compares with: miniature Stable Diffusion XL models, and what PyTorch makes of them.

    python tests/golden/make_xl.py     (made with torch 2.15.0, diffusers 0.42.1 and transformers 5.24.0, on the CPU)

It reads photos/, which make.py writes. Everything goes beside this file, replacing what was there:

xl/NAME/              two checkpoints in the diffusers layout, of random weights; see MODELS
xl.json               what was computed: prompts, seeds, timesteps, sizes, settings, losses
xl-NAME.safetensors   the results for xl/NAME, in f32 on the weights as stored:
    ids.1, ids.2                u32 [p, t], of the prompts in xl.json, by each tokenizer
    embeddings, pooled          [p, t, e] and [p, d], of the same
    unet.CASE.{x,context,pooled,output}     the timesteps and the sizes are in xl.json
    vae.{picture,mean,latents,decoded}      `decoded` belongs to `latents`, which are not those of `picture`
    grad.{x,target}             of the loss mean((unet(x) - target)^2) at two timesteps, with two of the prompts,
    grad.prompt.SITE            its gradient with respect to every to_k and to_v,
    grad.words.SITE             and with respect to those that see text, of weights that act at a subject's words alone
    find.CASE.SITE              the scores of Algorithm 1 (`find` below)
    picture.CASE                u8 [h, w, 3], whole pictures of diffusers' StableDiffusionXLPipeline
"""

import os
import shutil

os.environ.update(
    HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error", DIFFUSERS_VERBOSITY="error"
)

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers.utils.logging import disable_progress_bar
import diffusers.utils.logging

import make
from make import PROMPTS, SAMPLERS, generator, sites
from miniatures import HERE, SIZE, enliven, write_json, write_tokenizer

# "a" has SDXL's proportions; "b" differs in all that a configuration may say otherwise:
#   widths      of the two text encoders and of the pooled projection
#   sizes       width of the embedding of each size
#   end         the second encoder's eos_token_id: 2 as in SDXL's own files, which means the highest id; or the token's
#   zeros       force_zeros_for_empty_prompt
MODELS = {
    "a": dict(seed=41, half=True, levels=(16, 24, 32), heads=[2, 3, 4], depth=[1, 2, 3], layers=1, widths=(16, 24, 24),
              sizes=8, end=2, zeros=True, tokenizer="vocab", length=24),
    "b": dict(seed=42, half=False, levels=(8, 16, 24), heads=[1, 4, 3], depth=[2, 1, 2], layers=2, widths=(24, 16, 20),
              sizes=6, end=None, zeros=False, tokenizer="json", length=18),
}

PICTURE = dict(
    prompt="a photo of a red dog in the snow",
    negative="blurry, low quality",
    sampler="euler",
    steps=12,
    guidance=5.0,
    seed=5,
    height=SIZE,
    width=SIZE,
)
# No negative prompt is zeros for "a" and the empty text for "b"; the empty text is itself for both.
PICTURES = {name: dict(sampler=name) for name in SAMPLERS} | {
    "none": dict(negative=None),
    "empty": dict(negative=""),
    "wide": dict(height=24, width=40, seed=6),
    "unguided": dict(guidance=1.0, negative=None),
}

FIND = dict(noun="dog", token="sks", steps=4, rho=0.0, prior_weight=1.0, seed=3)
RHO = 20.0


def write_model(folder, model) -> None:
    torch.manual_seed(model["seed"])
    (w1, w2, projection), length = model["widths"], model["length"]
    common = dict(tokenizer=model["tokenizer"], alphabet=256, length=length)
    vocabulary = write_tokenizer(folder / "tokenizer", common | dict(generation=1))
    write_tokenizer(folder / "tokenizer_2", common | dict(generation=2))
    end = vocabulary["<|endoftext|>"]
    ids = dict(vocab_size=len(vocabulary), max_position_embeddings=length, bos_token_id=vocabulary["<|startoftext|>"])
    first = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=w1,
            intermediate_size=2 * w1,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=w1,
            hidden_act="quick_gelu",
            eos_token_id=end,
            pad_token_id=end,
            **ids,
        )
    )
    second = CLIPTextModelWithProjection(
        CLIPTextConfig(
            hidden_size=w2,
            intermediate_size=2 * w2,
            num_hidden_layers=3,
            num_attention_heads=2,
            projection_dim=projection,
            hidden_act="gelu",
            eos_token_id=model["end"] or end,
            pad_token_id=vocabulary["!"],
            **ids,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=SIZE // 2,
        block_out_channels=model["levels"],
        layers_per_block=model["layers"],
        norm_num_groups=8,
        cross_attention_dim=w1 + w2,
        attention_head_dim=model["heads"],
        transformer_layers_per_block=model["depth"],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=model["sizes"],
        projection_class_embeddings_input_dim=6 * model["sizes"] + projection,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    )
    vae = AutoencoderKL(
        sample_size=SIZE,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.13025,
        force_upcast=True,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
    )
    for network, module in (("text_encoder", first), ("text_encoder_2", second), ("unet", unet), ("vae", vae)):
        enliven(module)
        if model["half"]:
            module = module.half()
        module.save_pretrained(folder / network, variant="fp16" if model["half"] else None)
    (folder / "scheduler").mkdir()
    # The file of stabilityai/stable-diffusion-xl-base-1.0.
    write_json(
        folder / "scheduler" / "scheduler_config.json",
        {
            "_class_name": "EulerDiscreteScheduler",
            "_diffusers_version": "0.19.0.dev0",
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "clip_sample": False,
            "interpolation_type": "linear",
            "num_train_timesteps": 1000,
            "prediction_type": "epsilon",
            "sample_max_value": 1.0,
            "set_alpha_to_one": False,
            "skip_prk_steps": True,
            "steps_offset": 1,
            "timestep_spacing": "leading",
            "trained_betas": None,
            "use_karras_sigmas": False,
        },
    )
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionXLPipeline",
            "_diffusers_version": "0.42.1",
            "feature_extractor": [None, None],
            "force_zeros_for_empty_prompt": model["zeros"],
            "image_encoder": [None, None],
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )


def load(folder, model) -> StableDiffusionXLPipeline:
    """The checkpoint as diffusers reads it, computing in f32."""
    pipe = StableDiffusionXLPipeline.from_pretrained(
        folder,
        torch_dtype=torch.float32,
        local_files_only=True,
        variant="fp16" if model["half"] else None,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    for module in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        module.eval().requires_grad_(False)
        assert all(p.dtype == torch.float32 for p in module.parameters())
    return pipe


def embed(pipe, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens and the whole texts, as the pipeline embeds them."""
    embeddings, _, pooled, _ = pipe.encode_prompt(prompts, device="cpu", do_classifier_free_guidance=False)
    return embeddings, pooled


def added(pooled, sizes: list[int]) -> dict:
    ids = torch.tensor([sizes] * len(pooled), dtype=torch.float32)
    return {"text_embeds": pooled, "time_ids": ids}


UNCUT = [SIZE, SIZE, 0, 0, SIZE, SIZE]


def stages(pipe, out: dict, case: dict) -> None:
    """Text, UNet and VAE, each alone."""
    for number, tokenizer in enumerate((pipe.tokenizer, pipe.tokenizer_2), 1):
        ids = tokenizer(
            PROMPTS, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
        ).input_ids
        out[f"ids.{number}"] = ids.to(torch.uint32)
    out["embeddings"], out["pooled"] = embed(pipe, PROMPTS)
    g = generator(100)
    case["unet"] = {}
    for name, (b, h, w), timesteps, first, sizes in (
        ("square", (2, 16, 16), [981, 21], 1, UNCUT),
        ("wide", (2, 12, 20), [0, 733.25], 3, [96, 160, 7, 11, 24, 40]),
        ("odd", (1, 11, 15), [500], 9, [1024, 512, 0, 300, 22, 30]),
    ):
        x = torch.randn(b, 4, h, w, generator=g)
        context, pooled = (out[key][first : first + b] for key in ("embeddings", "pooled"))
        y = pipe.unet(x, torch.tensor(timesteps), context, added_cond_kwargs=added(pooled, sizes)).sample
        out |= {
            f"unet.{name}.x": x,
            f"unet.{name}.context": context,
            f"unet.{name}.pooled": pooled,
            f"unet.{name}.output": y,
        }
        case["unet"][name] = {"timesteps": timesteps, "sizes": sizes}
    picture = torch.randn(1, 3, SIZE, SIZE, generator=g).clamp(-1, 1)
    latents = torch.randn(1, 4, SIZE // 2, SIZE // 2, generator=g)
    out |= {
        "vae.picture": picture,
        "vae.mean": pipe.vae.encode(picture).latent_dist.mean,
        "vae.latents": latents,
        "vae.decoded": pipe.vae.decode(latents).sample,
    }


def places(pipe, prompt: str, words: str) -> list[int]:
    """Where the tokens of words are among those of a prompt, by both tokenizers."""
    found = []
    for tokenizer in (pipe.tokenizer, pipe.tokenizer_2):
        ids, wanted = tokenizer(prompt).input_ids, tokenizer(words, add_special_tokens=False).input_ids
        found.append([i + j for i in range(len(ids)) if ids[i : i + len(wanted)] == wanted for j in range(len(wanted))])
    assert found[0] == found[1] and found[0]
    return found[0]


def gradients(pipe, out: dict, case: dict) -> None:
    """The gradients of a plain squared error: of every site, and of weights at the subject's words alone."""
    prompts, words, timesteps = ["a photo of a sks dog in the snow", "a red hat and a sks dog"], "sks dog", [87, 640]
    g = generator(200)
    x, target = torch.randn(2, 2, 4, 16, 16, generator=g)
    context, pooled = embed(pipe, prompts)
    mask = torch.zeros(2, context.shape[1], 1, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        mask[row, places(pipe, prompt, words)] = True
    loss = lambda: F.mse_loss(
        pipe.unet(x, torch.tensor(timesteps), context, added_cond_kwargs=added(pooled, UNCUT)).sample, target
    )
    theta = sites(pipe.unet, "all")
    with torch.enable_grad():
        for p in theta.values():
            p.requires_grad_(True)
        value = loss()
        whole = torch.autograd.grad(value, theta.values())
        for p in theta.values():
            p.requires_grad_(False)
        # The same weights once more, used at the words alone.
        layers = {name: pipe.unet.get_submodule(name.removesuffix(".weight")) for name in sites(pipe.unet, "cross")}
        own = {name: layer.weight.detach().clone().requires_grad_(True) for name, layer in layers.items()}
        for name, layer in layers.items():
            layer.forward = lambda tokens, layer=layer, name=name: torch.where(
                mask, F.linear(tokens, own[name]), F.linear(tokens, layer.weight)
            )
        at_words = torch.autograd.grad(loss(), own.values())
        for layer in layers.values():
            del layer.forward
    out |= {"grad.x": x, "grad.target": target}
    out |= {f"grad.prompt.{name}": gradient for name, gradient in zip(theta, whole)}
    out |= {f"grad.words.{name}": gradient for name, gradient in zip(own, at_words)}
    case["grad"] = {"timesteps": timesteps, "prompts": prompts, "words": words, "loss": value.item()}


def find(pipe, settings: dict) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Algorithm 1 of the paper: the scores, and the loss before each step."""
    subject, kind = make.photos(pipe, "subject"), make.photos(pipe, "class")
    noun, token = settings["noun"], settings["token"]
    context, pooled = embed(pipe, [f"a photo of a {token} {noun}", f"a photo of a {noun}"])
    schedule = DDPMScheduler.from_config(pipe.scheduler.config)
    weight = torch.tensor([1.0, settings["prior_weight"]])
    theta = sites(pipe.unet, "cross")
    before = {name: p.clone() for name, p in theta.items()}
    total = {name: torch.zeros_like(p) for name, p in theta.items()}
    losses = []
    for k in range(settings["steps"]):
        draw = generator(settings["seed"] + k)
        z = torch.cat([subject[k % len(subject)], kind[k % len(kind)]])
        t = torch.randint(0, schedule.config.num_train_timesteps, (2,), generator=draw)
        noise = torch.randn(z.shape, generator=draw)
        with torch.enable_grad():
            for p in theta.values():
                p.requires_grad_(True)
            y = pipe.unet(schedule.add_noise(z, noise, t), t, context, added_cond_kwargs=added(pooled, UNCUT)).sample
            loss = (weight * ((y - noise) ** 2).mean(dim=(1, 2, 3))).sum()
            found = torch.autograd.grad(loss, theta.values())
        losses.append(loss.item())
        for (name, p), gradient in zip(theta.items(), found):
            p.requires_grad_(False)
            total[name] += p * gradient
            p -= settings["rho"] * p * p * gradient
    for name, p in theta.items():
        p.copy_(before[name])
    return {name: s / settings["steps"] for name, s in total.items()}, losses


def searches(pipe, name: str, out: dict, case: dict) -> None:
    case["find"], scores = {}, {}
    for key, rho in (("cross", 0.0), ("cross-rho", RHO)):
        settings = FIND | dict(rho=rho)
        scores[key], losses = find(pipe, settings)
        out |= {f"find.{key}.{site}": score for site, score in scores[key].items()}
        case["find"][key] = settings | {"losses": losses}
    moved = make.distance(scores["cross-rho"], scores["cross"])
    print(f"{name}: rho {RHO} changes the scores by {moved:.2%}")
    assert 0.02 < moved < 0.5, "rho is to matter, and not to make the run chaotic"


def pictures(pipe, name: str, out: dict, case: dict) -> None:
    stored, case["picture"] = pipe.scheduler, {}
    for key, changed in PICTURES.items():
        settings = PICTURE | changed
        pipe.scheduler = SAMPLERS[settings["sampler"]].from_config(stored.config)
        picture = pipe(
            settings["prompt"],
            negative_prompt=settings["negative"],
            num_inference_steps=settings["steps"],
            guidance_scale=settings["guidance"],
            height=settings["height"],
            width=settings["width"],
            generator=generator(settings["seed"]),
            output_type="np",
        ).images[0]
        out[f"picture.{key}"] = torch.from_numpy((picture * 255).round().astype("uint8"))
        case["picture"][key] = settings
        inner = ((picture > 0) & (picture < 1)).mean()
        print(f"{name}: picture {key}: {inner:.0%} of the values are neither 0 nor 255")
        assert inner > 0.6, "a value cut off says little"
    pipe.scheduler = stored


@torch.no_grad()
def main() -> None:
    disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    shutil.rmtree(HERE / "xl", ignore_errors=True)
    cases = {"prompts": PROMPTS, "models": {}}
    for name, model in MODELS.items():
        folder = HERE / "xl" / name
        write_model(folder, model)
        pipe, out, case = load(folder, model), {}, {}
        stages(pipe, out, case)
        gradients(pipe, out, case)
        searches(pipe, name, out, case)
        pictures(pipe, name, out, case)
        save_file({key: tensor.clone().contiguous() for key, tensor in out.items()}, HERE / f"xl-{name}.safetensors")
        cases["models"][name] = case
    write_json(HERE / "xl.json", cases)


if __name__ == "__main__":
    main()
