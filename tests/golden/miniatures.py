"""Miniature Stable Diffusion models of random weights, as files of the diffusers layout, and photos to find with.

Quietens the libraries, so it is imported before them.
"""
import json
import os
import pathlib
import warnings

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error",
                  DIFFUSERS_VERBOSITY="error")
warnings.filterwarnings("ignore")

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import byte_pairs
from byte_pairs import END, START, merges_towards

HERE = pathlib.Path(__file__).resolve().parent

# One row for each choice that files of one kind make differently:
#   generation  1: QuickGELU text encoder, convolutions around the transformers, one number of heads, predicts the noise
#               2: GELU, linear layers, heads for each level, predicts the velocity, pads prompts with "!"
#   variant     weights are stored as halves in *.fp16.safetensors (True) or under the plain names (False)
#   tokenizer   "vocab": vocab.json and merges.txt alone; "json": the tokenizer.json that transformers writes
#   alphabet    bytes that are tokens; CLIP has all 256, and what it has not becomes <|endoftext|>
#   legacy      tensor names of the files of 2022, which Stable Diffusion 1.5 still has
MODELS = {
    "sd1-f32": dict(generation=1, seed=11, half=False, variant=False, tokenizer="vocab", alphabet=256, length=40,
                    layers=1, legacy=True),
    "sd1-f16": dict(generation=1, seed=12, half=True, variant=True, tokenizer="json", alphabet=94, length=20,
                    layers=1, legacy=False),
    "sd2-f16": dict(generation=2, seed=21, half=True, variant=True, tokenizer="vocab", alphabet=256, length=16,
                    layers=2, legacy=False),
    "sd2-f16b": dict(generation=2, seed=22, half=True, variant=False, tokenizer="json", alphabet=256, length=36,
                     layers=1, legacy=False),
}

WIDTH = 32               # of the text embeddings
LEVELS = (16, 24, 32)    # widths of the UNet
SIZE = 32                # of pictures; latents are half as large

WORDS = ("a an the of in on at with and photo picture painting dog cat crown hat cup sks park beach snow street night "
         "red green blue blurry ugly low quality").split()


def write_tokenizer(folder: pathlib.Path, model: dict) -> dict[str, int]:
    """A byte-pair vocabulary with merges towards WORDS, in the forms of files found in the wild."""
    merges = merges_towards(WORDS)
    vocabulary = byte_pairs.vocabulary(merges, model["alphabet"])
    pad = "!" if model["generation"] == 2 else END
    if model["tokenizer"] == "json":
        CLIPTokenizer(vocab=vocabulary, merges=merges, unk_token=END, bos_token=START, eos_token=END, pad_token=pad,
                      model_max_length=model["length"]).save_pretrained(folder)
        return vocabulary
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n")
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    token = {"bos_token": {"content": START, **flags}, "eos_token": {"content": END, **flags},
             "pad_token": pad, "unk_token": {"content": END, **flags}}
    write_json(folder / "special_tokens_map.json", token)
    typed = {k: {"__type": "AddedToken", **v} if isinstance(v, dict) else v for k, v in token.items()}
    write_json(folder / "tokenizer_config.json", typed | {
        "add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": model["length"],
        "tokenizer_class": "CLIPTokenizer"})
    return vocabulary


def enliven(module: torch.nn.Module) -> None:
    """Makes every parameter matter: norms and biases are not 1 and 0, and attention prefers some keys to others."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.ndim == 1:
                p += 0.1 * torch.randn_like(p)
            elif any(f"{part}.weight" in name for part in ("q_proj", "k_proj", "to_q", "to_k")):
                p *= 3


def old_names(tensors: dict[str, torch.Tensor], network: str) -> dict[str, torch.Tensor]:
    """The names of 2022: the VAE's attention had its own, and the text encoder kept a tensor that counts positions."""
    if network == "vae":
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            tensors = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in tensors.items()}
    if network == "text_encoder":
        tensors = {name if name.startswith("text_model.") else f"text_model.{name}": t for name, t in tensors.items()}
        length = tensors["text_model.embeddings.position_embedding.weight"].shape[0]
        tensors["text_model.embeddings.position_ids"] = torch.arange(length)[None]
    return tensors


def write_model(folder: pathlib.Path, model: dict) -> None:
    torch.manual_seed(model["seed"])
    second = model["generation"] == 2
    vocabulary = write_tokenizer(folder / "tokenizer", model)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=WIDTH, intermediate_size=48, projection_dim=WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=model["length"], hidden_act="gelu" if second else "quick_gelu",
        bos_token_id=vocabulary["<|startoftext|>"], eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["!" if second else "<|endoftext|>"]))
    unet = UNet2DConditionModel(
        sample_size=SIZE // 2, block_out_channels=LEVELS, layers_per_block=model["layers"], norm_num_groups=8,
        cross_attention_dim=WIDTH, attention_head_dim=[2, 3, 4] if second else 4, use_linear_projection=second,
        upcast_attention=True if second and model["variant"] else None,
        down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"])
    vae = AutoencoderKL(
        sample_size=SIZE, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2)
    for network, module in (("text_encoder", text), ("unet", unet), ("vae", vae)):
        enliven(module)
        if network == "vae":
            # Two channels of the log variance leave the range -30..20 that the posterior clamps it to.
            with torch.no_grad():
                module.quant_conv.bias[4:6] += torch.tensor([20.5, -30.5])
        if model["half"]:
            module = module.half()
        module.save_pretrained(folder / network, variant="fp16" if model["variant"] else None)
        if model["legacy"]:
            (file,) = (folder / network).glob("*.safetensors")
            tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
            save_file(old_names(tensors, network), file, metadata={"format": "pt"})
    # Stable Diffusion 1.x ships a PNDM file and 2.1 a DDIM file; every sampler is configured from it.
    scheduler = "DDIMScheduler" if second else "PNDMScheduler"
    (folder / "scheduler").mkdir()
    write_json(folder / "scheduler" / "scheduler_config.json", {
        "_class_name": scheduler, "_diffusers_version": "0.8.0", "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "trained_betas": None,
        "clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
        **({"prediction_type": "v_prediction"} if second else {})})
    write_json(folder / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1", "requires_safety_checker": False,
        "feature_extractor": [None, None], "safety_checker": [None, None], "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]})


def write_photos() -> None:
    """Discs on gradients: the subject's are reddish, the class's are not."""
    draw = np.random.Generator(np.random.PCG64(8))
    y, x = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1)
    for folder, names, colour in (("subject", "abc", (230, 40, 60)), ("class", "ab", (60, 150, 90))):
        (HERE / "photos" / folder).mkdir(parents=True)
        for name in names:
            sky, ground = draw.uniform(60, 220, (2, 3))
            picture = sky * (1 - y)[..., None] + ground * y[..., None]
            cx, cy, radius = draw.uniform(0.3, 0.7), draw.uniform(0.3, 0.7), draw.uniform(0.2, 0.35)
            picture[np.hypot(x - cx, y - cy) < radius] = colour
            picture += draw.normal(0, 6, picture.shape)
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(HERE / "photos" / folder / f"{name}.png")


def write_json(path: pathlib.Path, value) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
