"""Put what training left into one Stable Diffusion folder in f16.

    python pack.py --work DIR --out model [--steps 24] [--guidance 2.5]

reads DIR/vae, DIR/vae.json, DIR/tokenizer, DIR/text_encoder, DIR/unet and DIR/clip; writes a folder that diffusers'
StableDiffusionPipeline.from_pretrained loads, cones.json with the settings that draw best, and clip, which `cones eval`
measures with and diffusers leaves alone. --only-clip puts the latter into a packed model and touches nothing else.
"""
import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTextModel

import tokens
import train_sd
import world

# Share of a trained row's norm given to each identifier: enough to be heard, little enough to leave the noun alone.
IDENTIFIER_STRENGTH = 0.7

# Steps of `cones find` on this model: what two cores do well within a minute.
FIND_STEPS = 200

MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0", "feature_extractor": [None, None],
    "requires_safety_checker": False, "safety_checker": [None, None], "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
}
SCHEDULER = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.30.0", "beta_start": train_sd.BETA_START,
    "beta_end": train_sd.BETA_END, "beta_schedule": "scaled_linear", "num_train_timesteps": train_sd.TRAIN_STEPS,
    "clip_sample": False, "prediction_type": "v_prediction", "set_alpha_to_one": False, "skip_prk_steps": True,
    "steps_offset": 1, "trained_betas": None,
}


@torch.no_grad()
def give_identifiers_a_direction(text_encoder, tokenizer, strength):
    """Training never saw the identifiers: give each row a random direction, as long as trained rows are."""
    rows = text_encoder.get_input_embeddings().weight
    trained = [tokenizer.convert_tokens_to_ids(noun + "</w>") for noun in world.CLASSES]
    length = strength * rows[trained].norm(dim=1).mean()
    generator = torch.Generator().manual_seed(4)
    for identifier in world.IDENTIFIERS:
        direction = torch.randn(rows.shape[1], generator=generator)
        rows[tokenizer.convert_tokens_to_ids(identifier + "</w>")] = direction / direction.norm() * length


def pack_clip(work, out):
    """Without tokenizer files: `cones` takes the model's own for it."""
    shutil.rmtree(out / "clip", ignore_errors=True)
    CLIPModel.from_pretrained(work / "clip").half().save_pretrained(out / "clip")
    shutil.copy(work / "clip" / "preprocessor_config.json", out / "clip")


def report_size(out):
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 1e6:.2f} MB")


def forget_folders(out):
    """diffusers notes in a config.json where the network was read from, which is nobody's business."""
    for network in ("unet", "vae"):
        path = out / network / "config.json"
        write_json(path, {key: value for key, value in json.loads(path.read_text()).items() if key != "_name_or_path"})


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--guidance", type=float, default=2.5)
    parser.add_argument("--guidance-of-several", type=float, default=4.0, help="of prompts with several subjects")
    parser.add_argument("--identifier-strength", type=float, default=IDENTIFIER_STRENGTH)
    parser.add_argument("--only-clip", action="store_true")
    options = parser.parse_args()
    if options.only_clip:
        pack_clip(options.work, options.out)
        return report_size(options.out)
    shutil.rmtree(options.out, ignore_errors=True)

    vae = AutoencoderKL.from_pretrained(options.work / "vae")
    vae.register_to_config(scaling_factor=json.loads((options.work / "vae.json").read_text())["scaling_factor"])
    vae.half().save_pretrained(options.out / "vae")
    UNet2DConditionModel.from_pretrained(options.work / "unet").half().save_pretrained(options.out / "unet")

    text_encoder = CLIPTextModel.from_pretrained(options.work / "text_encoder")
    give_identifiers_a_direction(text_encoder, tokens.load(options.work / "tokenizer"), options.identifier_strength)
    text_encoder.half().save_pretrained(options.out / "text_encoder")
    weights = options.out / "text_encoder" / "model.safetensors"
    # Stable Diffusion's own files name these tensors text_model.*; newer transformers leave the prefix out.
    named = {"text_model." + name.removeprefix("text_model."): tensor for name, tensor in load_file(weights).items()}
    save_file(named, weights, metadata={"format": "pt"})

    shutil.copytree(options.work / "tokenizer", options.out / "tokenizer")
    write_json(options.out / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(options.out / "model_index.json", MODEL_INDEX)
    defaults = {"steps": options.steps, "guidance": options.guidance,
                "guidance_of_several": options.guidance_of_several, "find_steps": FIND_STEPS}
    write_json(options.out / "cones.json", defaults)
    pack_clip(options.work, options.out)
    forget_folders(options.out)
    report_size(options.out)


if __name__ == "__main__":
    main()
