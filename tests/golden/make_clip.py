#!/usr/bin/env python3
"""Writes what src/golden/clip.rs compares with: miniature CLIP models, and what transformers computes with them.

    python tests/golden/make_clip.py        (made with torch 2.15.0 and transformers 5.23.0, on the CPU)

clip/NAME/            a CLIPModel of random weights in the transformers layout; see MODELS
clip/photos/          PNG pictures of shapes that scale up and down, wide and tall
clip/golden.safetensors, for each model:
    NAME.pixels.PHOTO           [1, 3, s, s], Pillow's way (transformers' CLIPImageProcessorPil)
    NAME.images                 [photos, d], unit vectors
    NAME.texts                  [prompts, d], unit vectors
clip/cases.json       the prompts
"""
import json
import shutil
import warnings

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils.logging import disable_progress_bar

from miniatures import HERE, enliven, write_json, write_tokenizer

warnings.filterwarnings("ignore")
OUT = HERE / "clip"

# What files of one kind make differently:
#   legacy     configuration of 2022: eos_token_id 2 (the text then ends at the highest id), `text_config_dict`, sizes
#              as plain numbers, positions counted in a tensor, vocab.json and merges.txt
#   size, crop of the pictures; a patch may leave a rest at the edge
MODELS = {
    "new": dict(seed=41, legacy=False, act="quick_gelu", size=33, crop=30, patch=7, half=True, length=24),
    "legacy": dict(seed=42, legacy=True, act="gelu", size=40, crop=40, patch=8, half=False, length=18),
}
PHOTOS = {"wide": (71, 50), "tall": (21, 64), "large": (110, 83), "same": (33, 33)}
PROMPTS = ["", "a photo of a dog", "a photo of a sks dog in the snow", "A painting, of a CAT with a crown!",
           "a picture of a red dog and a blue cup on the beach at night and a green hat in the park with a cat"]


def write_photos() -> None:
    draw = np.random.Generator(np.random.PCG64(9))
    (OUT / "photos").mkdir(parents=True)
    for name, (width, height) in PHOTOS.items():
        y, x = np.mgrid[0:height, 0:width]
        waves = [np.sin(x / draw.uniform(1, 9) + draw.uniform(0, 6)) * np.cos(y / draw.uniform(1, 9)) for _ in range(3)]
        picture = 128 + 150 * np.stack(waves, -1)  # some of it cut off at 0 and 255
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(OUT / "photos" / f"{name}.png", optimize=True)


def write_model(name: str, model: dict) -> None:
    torch.manual_seed(model["seed"])
    folder, legacy = OUT / name, model["legacy"]
    vocabulary = write_tokenizer(folder, dict(generation=1, tokenizer="vocab" if legacy else "json", alphabet=94,
                                              length=model["length"]))
    text = dict(vocab_size=len(vocabulary), hidden_size=24, intermediate_size=36, num_hidden_layers=2,
                num_attention_heads=3, max_position_embeddings=model["length"], hidden_act=model["act"],
                bos_token_id=vocabulary["<|startoftext|>"],
                eos_token_id=2 if legacy else vocabulary["<|endoftext|>"], pad_token_id=1, projection_dim=20)
    vision = dict(hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
                  image_size=model["crop"], patch_size=model["patch"], hidden_act=model["act"], projection_dim=20)
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=20))
    enliven(clip)
    (clip.half() if model["half"] else clip).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": model["size"]},
                          crop_size={"height": model["crop"], "width": model["crop"]}).save_pretrained(folder)
    if legacy:
        file = folder / "model.safetensors"
        tensors = {key: tensor.clone() for key, tensor in load_file(file).items()}
        tensors["text_model.embeddings.position_ids"] = torch.arange(model["length"])[None]
        patches = (model["crop"] // model["patch"]) ** 2
        tensors["vision_model.embeddings.position_ids"] = torch.arange(1 + patches)[None]
        save_file(tensors, file, metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        # What stands in text_config counts for nothing where there is a text_config_dict.
        config |= {"text_config_dict": text, "vision_config_dict": None, "text_config": {**text, "hidden_act": "relu"}}
        write_json(folder / "config.json", config)
        write_json(folder / "preprocessor_config.json", {
            "crop_size": model["crop"], "do_center_crop": True, "do_normalize": True, "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "size": model["size"],
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]})


@torch.no_grad()
def compute(name: str, model: dict, out: dict) -> None:
    folder = OUT / name
    clip = CLIPModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    pixels = {photo: processor(Image.open(OUT / "photos" / f"{photo}.png"), return_tensors="pt").pixel_values
              for photo in sorted(PHOTOS)}
    ids = tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=model["length"], return_tensors="pt")
    found = clip(input_ids=ids.input_ids, pixel_values=torch.cat(list(pixels.values())))
    out |= {f"{name}.pixels.{photo}": value for photo, value in pixels.items()}
    out |= {f"{name}.images": found.image_embeds, f"{name}.texts": found.text_embeds}
    print(name, "cosines", (found.image_embeds @ found.text_embeds.t()).numpy().round(3).tolist())


def main() -> None:
    disable_progress_bar()
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    write_photos()
    out = {}
    for name, model in MODELS.items():
        write_model(name, model)
        compute(name, model, out)
    save_file({key: tensor.contiguous() for key, tensor in out.items()}, OUT / "golden.safetensors")
    write_json(OUT / "cases.json", {"prompts": PROMPTS})


if __name__ == "__main__":
    main()
