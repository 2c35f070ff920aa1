"""Put what training left into one Stable Diffusion folder in f16.

    python pack.py --work DIR --out model [--steps 24] [--guidance 2.5]

reads DIR/vae, DIR/vae.json, DIR/sd.pt and DIR/clip.pt; writes a folder that diffusers'
StableDiffusionPipeline.from_pretrained loads, cones.json with the settings that draw best, and clip, which `cones eval`
measures with and diffusers leaves alone.
"""
import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

import nets
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
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.30.0", "beta_start": nets.BETA_START,
    "beta_end": nets.BETA_END, "beta_schedule": "scaled_linear", "num_train_timesteps": nets.TRAIN_STEPS,
    "clip_sample": False, "prediction_type": "v_prediction", "set_alpha_to_one": False, "skip_prk_steps": True,
    "steps_offset": 1, "trained_betas": None,
}
PREPROCESSOR = {
    "crop_size": {"height": nets.SIDE, "width": nets.SIDE}, "do_center_crop": True, "do_convert_rgb": True,
    "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3,
    "image_processor_type": "CLIPImageProcessor", "image_std": [0.5] * 3, "resample": 3, "rescale_factor": 1 / 255,
    "size": {"shortest_edge": nets.SIDE},
}


@torch.no_grad()
def give_identifiers_a_direction(rows, words, strength=IDENTIFIER_STRENGTH):
    """Training never saw the identifiers: give each row a random direction, as long as trained rows are."""
    length = strength * rows[[words.id(noun) for noun in world.CLASSES]].norm(dim=1).mean()
    generator = torch.Generator().manual_seed(4)
    for identifier in world.IDENTIFIERS:
        direction = torch.randn(rows.shape[1], generator=generator)
        rows[words.id(identifier)] = (direction / direction.norm() * length).to(rows)


def text_config(words, width, heads, layers, projection):
    return {"attention_dropout": 0.0, "bos_token_id": words.start, "eos_token_id": words.end,
            "hidden_act": "quick_gelu", "hidden_size": width, "initializer_factor": 1.0, "initializer_range": 0.02,
            "intermediate_size": 2 * width,
            "layer_norm_eps": 1e-05, "max_position_embeddings": nets.LENGTH, "model_type": "clip_text_model",
            "num_attention_heads": heads, "num_hidden_layers": layers, "pad_token_id": words.end,
            "projection_dim": projection, "vocab_size": len(words.ids)}


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_half(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().half().contiguous().cpu() for name, value in tensors.items()}, path,
              metadata={"format": "pt"})


def write_network(network, folder):
    network.half().save_pretrained(folder)
    path = folder / "config.json"  # diffusers notes in it where the network was read from, which is nobody's business
    write_json(path, {key: value for key, value in json.loads(path.read_text()).items() if key != "_name_or_path"})


def load_trained(work, device="cpu"):
    """The text encoder (identifiers given their directions), the UNet and the words."""
    words, saved = nets.Words(), torch.load(work / "sd.pt", map_location="cpu")
    text, unet = nets.build_text_encoder(words), nets.build_unet()
    text.load_state_dict(saved["text"])
    unet.load_state_dict(saved["unet"])
    give_identifiers_a_direction(text.embeddings["token_embedding"].weight, words)
    return text.eval().to(device), unet.eval().to(device), words


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--guidance", type=float, default=2.5)
    options = parser.parse_args()
    from diffusers import AutoencoderKL
    work, out = options.work, options.out
    shutil.rmtree(out, ignore_errors=True)
    text, unet, words = load_trained(work)
    write_network(AutoencoderKL.from_pretrained(work / "vae"), out / "vae")
    write_network(unet, out / "unet")
    # Stable Diffusion's own files name these tensors text_model.*; newer transformers leave the prefix out.
    write_half(out / "text_encoder" / "model.safetensors",
               {"text_model." + name: value for name, value in text.state_dict().items()})
    write_json(out / "text_encoder" / "config.json", {"architectures": ["CLIPTextModel"], "dtype": "float16"}
               | text_config(words, nets.WIDTH, 4, nets.TEXT_LAYERS, nets.WIDTH))
    shutil.copytree(words.folder, out / "tokenizer")
    write_json(out / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(out / "model_index.json", MODEL_INDEX)
    write_json(out / "cones.json", {"steps": options.steps, "guidance": options.guidance, "find_steps": FIND_STEPS})
    if (work / "clip.pt").exists():
        write_half(out / "clip" / "model.safetensors", torch.load(work / "clip.pt", map_location="cpu"))
        vision = {"attention_dropout": 0.0, "hidden_act": "quick_gelu", "hidden_size": nets.CLIP_WIDTH,
                  "image_size": nets.SIDE, "initializer_factor": 1.0, "initializer_range": 0.02,
                  "intermediate_size": 3 * nets.CLIP_WIDTH, "layer_norm_eps": 1e-05, "model_type": "clip_vision_model",
                  "num_attention_heads": nets.CLIP_HEADS, "num_channels": 3,
                  "num_hidden_layers": nets.CLIP_IMAGE_LAYERS, "patch_size": nets.PATCH,
                  "projection_dim": nets.PROJECTION}
        write_json(out / "clip" / "config.json", {
            "architectures": ["CLIPModel"], "dtype": "float16", "initializer_factor": 1.0,
            "logit_scale_init_value": 2.6592, "model_type": "clip", "projection_dim": nets.PROJECTION,
            "text_config": text_config(words, nets.CLIP_WIDTH, nets.CLIP_HEADS, nets.CLIP_TEXT_LAYERS, nets.PROJECTION),
            "vision_config": vision})
        write_json(out / "clip" / "preprocessor_config.json", PREPROCESSOR)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    main()
