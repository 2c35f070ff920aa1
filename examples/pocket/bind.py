"""Can the model learn a new subject? Fine-tune the cross-attention's K and V on five photos and draw.

    python bind.py --model model --subjects subjects --sheet bind.png blue-guide-dog green-jeep

Custom Diffusion's way: "a photo of a sks NOUN" on the photos, "a photo of a NOUN" on the model's own drawings.
The sheet has four rows a subject: the photos; the untouched model's sks prompt, the fine-tuned model's sks
prompt and its class prompt, at equal seeds.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import check
import train_sd
import train_vae
import world

COLUMNS = 8
PRIOR_DRAWINGS = 64


def keys_and_values(unet):
    return [p for name, p in unet.named_parameters() if ".attn2.to_k." in name or ".attn2.to_v." in name]


@torch.no_grad()
def latents(pipeline, pictures):
    tensor = train_vae.to_tensor(np.stack(pictures))
    return pipeline.vae.encode(tensor).latent_dist.mean * pipeline.vae.config.scaling_factor


@torch.no_grad()
def context(pipeline, prompt):
    ids = pipeline.tokenizer(prompt, padding="max_length", max_length=pipeline.tokenizer.model_max_length,
                             return_tensors="pt").input_ids
    return pipeline.text_encoder(ids).last_hidden_state


def finetune(pipeline, own, own_prompt, prior, prior_prompt, steps, half, rate):
    """The usual loss on half a batch of photos and half a batch of the model's drawings of the class."""
    alphas, unet = train_sd.alphas_cumprod(), pipeline.unet
    unet.requires_grad_(False)
    weights = [p.requires_grad_(True) for p in keys_and_values(unet)]
    texts = torch.cat([context(pipeline, text).expand(half, -1, -1) for text in (own_prompt, prior_prompt)])
    optimizer = torch.optim.Adam(weights, lr=rate)
    for _ in range(steps):
        clean = torch.cat([own[torch.randint(len(own), (half,))], prior[torch.randint(len(prior), (half,))]])
        times = torch.randint(train_sd.TRAIN_STEPS, (2 * half,))
        alpha, noise = alphas[times][:, None, None, None], torch.randn_like(clean)
        output = unet(alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, times, texts).sample
        snr = alpha / (1 - alpha)
        loss = (output - (alpha.sqrt() * noise - (1 - alpha).sqrt() * clean)).square()
        (loss * snr.clamp(max=train_sd.SNR_CAP) / (snr + 1)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--subjects", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, default=Path("bind.png"))
    parser.add_argument("--identifier", default="sks")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--half", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-3)
    options = parser.parse_args()
    torch.manual_seed(0)
    known, tiles = json.loads((options.subjects / "subjects.json").read_text()), []
    for name in options.names:
        pipeline = check.load_pipeline(options.model)

        def draw(prompt, count, first_seed):
            return list(check.draw_with_diffusers(
                options.model, [prompt] * count, range(first_seed, first_seed + count), pipeline=pipeline))

        noun = known[name]["class"]
        own_prompt, class_prompt = f"a photo of a {options.identifier} {noun}", f"a photo of a {noun}"
        paths = sorted((options.subjects / name).glob("*.png"))
        photos = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        prior = draw(class_prompt, PRIOR_DRAWINGS, 1000)
        blank = [np.full_like(photos[0], 255)] * (COLUMNS - len(photos))
        tiles += photos + blank + draw(own_prompt, COLUMNS, 1)
        finetune(pipeline, latents(pipeline, photos), own_prompt, latents(pipeline, prior), class_prompt,
                 options.steps, options.half, options.rate)
        tiles += draw(own_prompt, COLUMNS, 1) + draw(class_prompt, COLUMNS, 1)
        print(f"{name}: {sum(p.numel() for p in keys_and_values(pipeline.unet))} weights", flush=True)
    world.sheet(tiles, COLUMNS).save(options.sheet, optimize=True)


if __name__ == "__main__":
    main()
