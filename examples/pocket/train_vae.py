"""Train the autoencoder (64 x 64 x 3 <-> 16 x 16 x 4) on random crops, then encode the whole world.

    python train_vae.py --work DIR --minutes 22
    python train_vae.py --work DIR --minutes 12 --rate 1e-3 --decoder
    python train_vae.py --work DIR --adopt model

reads DIR/pictures.npy; writes DIR/vae (diffusers folder), DIR/latents.npy (float16, unscaled posterior means),
DIR/vae.json (PSNR, scaling factor) and DIR/vae.png (pictures above, reconstructions below). With --decoder it
goes on from DIR/vae and trains the decoder alone on DIR/latents.npy: the latents, and so a UNet trained on them,
stay as they are. With --adopt it trains nothing: it takes a packed model's autoencoder and encodes the world with it.
"""
import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

import world

HELD_BACK = 512  # the last pictures are never trained on: PSNR is measured there
CROP = 32  # a quarter of the picture: four times the variety for the same arithmetic
FULL_SHARE = 0.08  # the last share of the time sees whole pictures, as later use does
KL_WEIGHT = 1e-5
FACTOR = 4  # picture pixels a latent pixel, each way
LATENT_NOISE = 0.03  # of the latents' spread, in --decoder: a UNet's latents are not exact either


def build():
    # Multiples of 16 fill the vector registers; attention would add little at f = 4.
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 64), layers_per_block=1, latent_channels=4, norm_num_groups=8,
        sample_size=world.SIZE, mid_block_add_attention=False)


def to_tensor(pictures):
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return tensor.contiguous(memory_format=torch.channels_last)


def random_crops(pictures, count, rng):
    crops = np.empty((count, CROP, CROP, 3), np.uint8)
    for crop in crops:
        # The floor is dull: rows are drawn so that most crops show some of an object.
        y, x = rng.integers(4, world.SIZE - CROP + 1), rng.integers(0, world.SIZE - CROP + 1)
        if rng.random() < 0.15:
            y = rng.integers(0, 4)
        crop[:] = pictures[rng.integers(len(pictures)), y:y + CROP, x:x + CROP]
    return to_tensor(crops)


def random_latent_crops(pictures, latents, count, crop, rng):
    """Crops of cached latents and the picture crops that they stand for."""
    size, chosen = crop // FACTOR, rng.integers(0, len(pictures), count)
    corners = rng.integers(0, (world.SIZE - crop) // FACTOR + 1, (count, 2))
    inputs = np.stack([latents[i, :, y:y + size, x:x + size] for i, (y, x) in zip(chosen, corners)])
    targets = np.stack([pictures[i, FACTOR * y:FACTOR * y + crop, FACTOR * x:FACTOR * x + crop]
                        for i, (y, x) in zip(chosen, corners)])
    return torch.from_numpy(inputs.astype(np.float32)), to_tensor(targets)


def reconstruction_loss(output, target):
    difference = output - target
    edges = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
    return difference.abs().mean() + 2 * difference.square().mean() + 0.5 * edges


def one_cycle(progress, peak):
    warm = 0.05
    if progress < warm:
        return peak * (0.05 + 0.95 * progress / warm)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm))))


def train(vae, pictures, minutes, batch, peak_rate, rng):
    optimizer = torch.optim.AdamW(vae.parameters(), lr=peak_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    start, step, running = time.time(), 0, None
    while (progress := (time.time() - start) / (60 * minutes)) < 1:
        if progress < 1 - FULL_SHARE:
            target = random_crops(pictures, batch, rng)
        else:
            target = to_tensor(pictures[rng.integers(0, len(pictures), batch // 2)])
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(progress, peak_rate)
        posterior = vae.encode(target).latent_dist
        loss = reconstruction_loss(vae.decode(posterior.sample()).sample, target)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        optimizer.zero_grad()
        (loss + KL_WEIGHT * kl).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"{step} {time.time() - start:.0f}s loss {running:.4f} kl {kl.item():.2f}", flush=True)
        step += 1
    return step


def train_decoder(vae, pictures, latents, minutes, batch, peak_rate, rng):
    parameters = [*vae.post_quant_conv.parameters(), *vae.decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    spread = LATENT_NOISE * float(latents[:4000].astype(np.float32).std())
    start, step, running = time.time(), 0, None
    while (progress := (time.time() - start) / (60 * minutes)) < 1:
        whole = progress > 1 - 3 * FULL_SHARE
        inputs, target = random_latent_crops(
            pictures, latents, batch // 4 if whole else batch, world.SIZE if whole else CROP, rng)
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(progress, peak_rate)
        loss = reconstruction_loss(vae.decode(inputs + spread * torch.randn_like(inputs)).sample, target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"{step} {time.time() - start:.0f}s loss {running:.4f}", flush=True)
        step += 1
    return step


@torch.no_grad()
def evaluate(vae, pictures):
    """Mean over held-back pictures of the PSNR of each, in dB, decoding the posterior mean."""
    psnr = []
    for first in range(0, len(pictures), 64):
        target = to_tensor(pictures[first:first + 64])
        output = vae.decode(vae.encode(target).latent_dist.mean).sample.clamp(-1, 1)
        psnr.append(-10 * torch.log10(((output - target) / 2).square().mean((1, 2, 3))))
    return torch.cat(psnr).mean().item()


@torch.no_grad()
def encode_all(vae, pictures):
    return np.concatenate([vae.encode(to_tensor(pictures[i:i + 128])).latent_dist.mean.half().contiguous().numpy()
                           for i in range(0, len(pictures), 128)])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=22)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decoder", action="store_true")
    parser.add_argument("--adopt", type=Path, metavar="MODEL_DIR")
    options = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    pictures = np.load(options.work / "pictures.npy")
    seen, unseen = pictures[:-HELD_BACK], pictures[-HELD_BACK:]
    if options.decoder:
        vae = AutoencoderKL.from_pretrained(options.work / "vae")
    elif options.adopt:
        vae = AutoencoderKL.from_pretrained(options.adopt / "vae", torch_dtype=torch.float32)
    else:
        vae = build()
    vae = vae.to(memory_format=torch.channels_last)
    print(f"{sum(p.numel() for p in vae.parameters()) / 1e6:.2f} M weights", flush=True)
    rng, settings = np.random.default_rng(int(options.decoder)), (options.minutes, options.batch, options.rate)
    if options.adopt:
        steps = 0
    elif options.decoder:
        steps = train_decoder(vae, seen, np.load(options.work / "latents.npy"), *settings, rng)
    else:
        steps = train(vae, seen, *settings, rng)
    vae.eval()
    psnr = evaluate(vae, unseen)
    print(f"{steps} steps, PSNR {psnr:.2f} dB", flush=True)
    with torch.no_grad():
        shown = to_tensor(unseen[:14])
        output = vae.decode(vae.encode(shown).latent_dist.mean).sample.clamp(-1, 1)
    output = ((output + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    world.sheet(list(unseen[:14]) + list(output), 14, scale=2).save(options.work / "vae.png")
    vae.save_pretrained(options.work / "vae")
    record = options.work / "vae.json"
    if options.decoder:
        known = json.loads(record.read_text())
    else:
        latents = encode_all(vae, pictures)
        np.save(options.work / "latents.npy", latents)
        spread = float(latents[:8000].astype(np.float32).std())
        scaling = vae.config.scaling_factor if options.adopt else round(1 / spread, 5)
        known = {"scaling_factor": scaling}
    record.write_text(json.dumps(known | {"psnr": psnr, "decoder_steps" if options.decoder else "steps": steps}))


if __name__ == "__main__":
    main()
