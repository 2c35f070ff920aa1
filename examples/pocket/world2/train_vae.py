"""Train the autoencoder (64 x 64 x 3 <-> 16 x 16 x 4) and encode the whole world.

    python train_vae.py --work DIR --minutes 20 [--batch 16]

waits for DIR/pictures.npy; writes DIR/vae (diffusers folder), DIR/latents.npy (float16, unscaled posterior means),
DIR/vae.json (PSNR on pictures that training never saw, scaling factor) and DIR/vae.png (pictures above, what is left
of them below). The decoder is trained on latents with a little noise: a UNet's latents are not exact either.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

import nets
import world
from fast import DEVICE, Trainer, say, set_up, wait_for

HELD_BACK = 512  # the last pictures are never trained on: PSNR is measured there
KL_WEIGHT = 1e-5
LATENT_NOISE = 0.03  # of the spread of a picture's latents


class Codec(torch.nn.Module):
    """What is compiled: pictures in, pictures and the posterior's divergence out."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, target, noise, more):
        moments = self.vae.quant_conv(self.vae.encoder(target)).float()
        mean, logvar = moments.chunk(2, 1)
        logvar = logvar.clamp(-30, 20)
        latents = mean + (0.5 * logvar).exp() * noise + LATENT_NOISE * mean.detach().std() * more
        output = self.vae.decoder(self.vae.post_quant_conv(latents.to(target.dtype)))
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return output.float(), kl


def reconstruction_loss(output, target):
    difference = output - target
    edges = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
    return difference.abs().mean() + 2 * difference.square().mean() + 0.5 * edges


@torch.no_grad()
def encode(vae, pictures, batch=512):
    means = []
    for first in range(0, len(pictures), batch):
        target = nets.to_tensor(pictures[first:first + batch]).to(DEVICE, memory_format=torch.channels_last)
        means.append(vae.encode(target).latent_dist.mean.half())
    return torch.cat(means)


@torch.no_grad()
def evaluate(vae, pictures):
    """Mean over held-back pictures of the PSNR of each, in dB, decoding the posterior mean; and the pictures left."""
    drawn = nets.decode(vae, encode(vae, pictures).float(), 1.0)
    error = ((drawn.astype(np.float64) - pictures) / 255) ** 2
    return float(np.mean(-10 * np.log10(error.mean((1, 2, 3)) + 1e-9))), drawn


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20, help="of training, once the pictures are there")
    parser.add_argument("--batch", type=int, default=128 if DEVICE.type == "cuda" else 8)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--patience", type=float, default=600, help="seconds to wait for the pictures")
    options = parser.parse_args()
    set_up()
    torch.manual_seed(0)
    work = options.work
    vae = nets.build_vae().to(DEVICE, memory_format=torch.channels_last)
    codec = Codec(vae)
    say(f"autoencoder: {sum(p.numel() for p in vae.parameters()) / 1e6:.2f} M weights")
    shape = (options.batch, 4, nets.LATENT_SIDE, nets.LATENT_SIDE)
    source = {"pictures": torch.randint(0, 255, (4 * options.batch, nets.SIDE, nets.SIDE, 3), dtype=torch.uint8,
                                        device=DEVICE)}
    chosen = torch.zeros(options.batch, dtype=torch.long, device=DEVICE)
    buffer = torch.zeros(options.batch, nets.SIDE, nets.SIDE, 3, dtype=torch.uint8, device=DEVICE)

    def draw():
        """The next batch, into the buffer that the captured step reads."""
        torch.randint(len(source["pictures"]), (options.batch,), out=chosen)
        torch.index_select(source["pictures"], 0, chosen, out=buffer)

    def loss(codec):
        target = buffer.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
        kind = next(vae.parameters()).dtype
        output, kl = codec(target.to(kind), torch.randn(shape, device=DEVICE), torch.randn(shape, device=DEVICE))
        return reconstruction_loss(output, target) + KL_WEIGHT * kl

    draw()
    trainer = Trainer([codec], loss, options.rate, weight_decay=1e-4, compiled=[True])
    trainer.prepare()
    wait_for(work / "pictures.npy", time.time() + options.patience)
    until = time.time() + 60 * options.minutes
    pictures = np.load(work / "pictures.npy")
    back = min(HELD_BACK, len(pictures) // 10)
    source["pictures"] = torch.from_numpy(pictures[:-back]).to(DEVICE)
    say(f"{len(pictures)} pictures")
    step = trainer.advance
    trainer.advance = lambda: (draw(), step())
    steps = trainer.train(until)
    trainer.finished()
    psnr, drawn = evaluate(vae, pictures[-back:])
    say(f"{steps} steps of {options.batch}, PSNR {psnr:.2f} dB")
    world.sheet(list(pictures[-back:][:16]) + list(drawn[:16]), 16).save(work / "vae.png")
    latents = torch.cat([encode(vae, source["pictures"]), encode(vae, pictures[-back:])])
    scaling = round(1 / latents[:20000].float().std().item(), 5)
    vae.register_to_config(scaling_factor=scaling)
    vae.save_pretrained(work / "vae")
    record = {"scaling_factor": scaling, "psnr": psnr, "steps": steps, "batch": options.batch}
    (work / "vae.json").write_text(json.dumps(record))
    np.save(work / "latents.new.npy", latents.cpu().numpy())
    (work / "latents.new.npy").rename(work / "latents.npy")
    say("latents written")


if __name__ == "__main__":
    main()
