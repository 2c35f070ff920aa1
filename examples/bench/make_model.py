"""Writes a model of Stable Diffusion's architecture with random weights, to measure speed and memory with.

    python make_model.py OUT [--size full|tiny|xl|tiny-xl] [--seed N]

`full` has the sizes of Stable Diffusion 1.5: 4.3 GB in f32. `xl` has those of XL, in f16: 6.9 GB, and 11 GB of memory
while it is written. `tiny` and `tiny-xl` have the same blocks at a fraction of the width, to try the instructions with.
The pictures of such a model are noise; its times and its memory are those of the real one.
Needs torch, diffusers and transformers.
"""
import argparse
import json
import tempfile
from pathlib import Path

import torch
from diffusers import (AutoencoderKL, EulerDiscreteScheduler, PNDMScheduler, StableDiffusionPipeline,
                       StableDiffusionXLPipeline, UNet2DConditionModel)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

# Side of the latents; widths, heads and groups of the UNet; the text encoder; widths of the autoencoder.
SIZES = {
    "full": dict(side=64, widths=(320, 640, 1280, 1280), heads=8, groups=32,
                 text=dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, vocab_size=49408,
                           max_position_embeddings=77),
                 vae=(128, 256, 512, 512)),
    "tiny": dict(side=16, widths=(16, 32, 48, 48), heads=4, groups=8,
                 text=dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=1000,
                           max_position_embeddings=77),
                 vae=(8, 16, 16, 16)),
}
# Of XL also the width of the time embedding of each of its six numbers, and the second text encoder.
XL_SIZES = {
    "xl": dict(side=128, widths=(320, 640, 1280), heads=(5, 10, 20), depths=(1, 2, 10), layers=2, groups=32, time=256,
               texts=[dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12),
                      dict(hidden_size=1280, num_hidden_layers=32, num_attention_heads=20)],
               vocabulary=49408, vae=(128, 256, 512, 512)),
    "tiny-xl": dict(side=16, widths=(16, 32, 48), heads=(2, 4, 6), depths=(1, 2, 3), layers=1, groups=8, time=8,
                    texts=[dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
                           dict(hidden_size=40, num_hidden_layers=2, num_attention_heads=4)],
                    vocabulary=1000, vae=(8, 16, 16, 16)),
}
START, END = "<|startoftext|>", "<|endoftext|>"


def tokenizer():
    """Single characters alone: any prompt of letters has tokens, if more of them than CLIP's own would give."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens = letters + [letter + "</w>" for letter in letters] + [START, END]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        return CLIPTokenizer.from_pretrained(folder, bos_token=START, eos_token=END, unk_token=END, pad_token=END,
                                             model_max_length=77)


def pipeline(size):
    words = tokenizer()
    width, ids = size["text"]["hidden_size"], words.get_vocab()
    text = CLIPTextConfig(intermediate_size=4 * width, projection_dim=width, hidden_act="quick_gelu",
                          bos_token_id=ids[START], eos_token_id=ids[END], pad_token_id=ids[END], **size["text"])
    unet = UNet2DConditionModel(
        sample_size=size["side"], block_out_channels=size["widths"], layers_per_block=2, cross_attention_dim=width,
        attention_head_dim=size["heads"], norm_num_groups=size["groups"],
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
    vae = AutoencoderKL(
        sample_size=8 * size["side"], latent_channels=4, block_out_channels=size["vae"], layers_per_block=2,
        norm_num_groups=size["groups"], down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4)
    scheduler = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
                              skip_prk_steps=True, set_alpha_to_one=False)
    return StableDiffusionPipeline(vae=vae, text_encoder=CLIPTextModel(text), tokenizer=words, unet=unet,
                                   scheduler=scheduler, safety_checker=None, feature_extractor=None,
                                   requires_safety_checker=False)


def pipeline_xl(size):
    words = tokenizer()
    ids = words.get_vocab()

    def text(model, sizes, act):
        width = sizes["hidden_size"]
        return model(CLIPTextConfig(intermediate_size=4 * width, projection_dim=width, hidden_act=act,
                                    vocab_size=size["vocabulary"], max_position_embeddings=77, bos_token_id=ids[START],
                                    eos_token_id=ids[END], pad_token_id=ids[END], **sizes)).half()

    first, second = size["texts"]
    pooled = second["hidden_size"]
    unet = UNet2DConditionModel(
        sample_size=size["side"], block_out_channels=size["widths"], layers_per_block=size["layers"],
        norm_num_groups=size["groups"], cross_attention_dim=first["hidden_size"] + pooled,
        attention_head_dim=size["heads"], transformer_layers_per_block=size["depths"], use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=size["time"],
        projection_class_embeddings_input_dim=6 * size["time"] + pooled,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",)).half()
    vae = AutoencoderKL(
        sample_size=8 * size["side"], latent_channels=4, block_out_channels=size["vae"], layers_per_block=2,
        norm_num_groups=size["groups"] if size["vae"][0] > 8 else 8, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, force_upcast=True).half()
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                       steps_offset=1, timestep_spacing="leading")
    return StableDiffusionXLPipeline(vae=vae, text_encoder=text(CLIPTextModel, first, "quick_gelu"),
                                     text_encoder_2=text(CLIPTextModelWithProjection, second, "gelu"),
                                     tokenizer=words, tokenizer_2=words, unet=unet, scheduler=scheduler)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=[*SIZES, *XL_SIZES], default="full")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"expected a folder that is not there yet, found `{options.out}`")
    torch.manual_seed(options.seed)
    if options.size in XL_SIZES:
        pipeline_xl(XL_SIZES[options.size]).save_pretrained(options.out, safe_serialization=True)
    else:
        pipeline(SIZES[options.size]).save_pretrained(options.out, safe_serialization=True)


if __name__ == "__main__":
    main()
