"""Train the text encoder and the UNet together on the cached latents.

    python train_sd.py --work DIR --minutes 240 [--batch 32]

waits for DIR/latents.npy (and DIR/captions.npy, DIR/vae.json); writes DIR/sd.pt, the averaged weights, now and then
and at the end.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

import nets
from fast import DEVICE, Trainer, say, set_up, wait_for

EMPTY_SHARE = 0.1  # prompts blanked for classifier-free guidance
SAVE_SECONDS = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=240, help="of training, once the latents are there")
    parser.add_argument("--until", type=float, help="instead: seconds of the clock at which training ends")
    parser.add_argument("--batch", type=int, default=256 if DEVICE.type == "cuda" else 16)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--average", type=float, default=0.999)
    parser.add_argument("--patience", type=float, default=600, help="seconds to wait for the latents")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--begin", type=Path, help="weights to begin with: the sd.pt of another run")
    options = parser.parse_args()
    set_up()
    torch.manual_seed(0)
    work, batch, words = options.work, options.batch, nets.Words()
    text = nets.build_text_encoder(words).to(DEVICE)
    unet = nets.build_unet().to(DEVICE, memory_format=torch.channels_last)
    if options.begin:
        begin = torch.load(options.begin, map_location="cpu")
        text.load_state_dict(begin["text"])
        unet.load_state_dict(begin["unet"])
    say({n: f"{sum(p.numel() for p in m.parameters()) / 1e6:.2f} M" for n, m in (("text", text), ("unet", unet))})
    alphas = nets.alphas_cumprod().to(DEVICE)
    clean = torch.randn(batch, 4, nets.LATENT_SIDE, nets.LATENT_SIDE, device=DEVICE)
    ids = torch.tensor([words.encode("a photo of a dog")] * batch, device=DEVICE)
    empty = torch.tensor(words.encode(""), device=DEVICE)
    spread = torch.arange(batch, device=DEVICE)

    def loss(text, unet):
        # Timesteps spread evenly over each batch: less noise in the gradient than independent draws.
        times = ((spread + torch.rand(batch, device=DEVICE)) / batch * nets.TRAIN_STEPS).long()
        blank = torch.rand(batch, 1, device=DEVICE) < EMPTY_SHARE
        context = text(torch.where(blank, empty, ids))
        return nets.velocity_loss(unet, context, clean, torch.randn_like(clean), times, alphas).mean()

    trainer = Trainer([text, unet], loss, options.rate, average=options.average,
                      compiled=[False, not options.no_compile], warm_steps=300)
    trainer.prepare()
    patience = time.time() + options.patience
    wait_for(work / "captions.npy", patience)
    told = torch.from_numpy(np.load(work / "captions.npy")).to(DEVICE)
    say(f"{len(told)} captioned pictures")
    wait_for(work / "latents.npy", patience)
    scaling = json.loads((work / "vae.json").read_text())["scaling_factor"]
    latents = torch.from_numpy(np.load(work / "latents.npy")).to(DEVICE) * scaling
    latents = latents.contiguous()
    say(f"latents: spread {latents[:20000].float().std().item():.3f}")

    def save():
        averages = {name: value.cpu() for (name, _), value in zip(trainer.named, trainer.averages)}
        torch.save({"text": {n[2:]: v for n, v in averages.items() if n.startswith("0.")},
                    "unet": {n[2:]: v for n, v in averages.items() if n.startswith("1.")},
                    "steps": trainer.steps, "batch": batch}, work / "sd.new")
        (work / "sd.new").rename(work / "sd.pt")

    saved = [time.time()]

    def now_and_then(_):
        if time.time() - saved[0] > SAVE_SECONDS:
            save()
            saved[0] = time.time()

    step = trainer.advance

    def advance():
        chosen = torch.randint(len(latents), (batch,), device=DEVICE)
        clean.copy_(latents[chosen])
        ids.copy_(told[chosen, torch.randint(told.shape[1], (batch,), device=DEVICE)])
        step()

    trainer.advance = advance
    steps = trainer.train(options.until or time.time() + 60 * options.minutes, now_and_then)
    save()
    say(f"{steps} steps of {batch}: {steps * batch / 1e6:.2f} M pictures")
    (work / "sd.json").write_text(json.dumps({"steps": steps, "batch": batch, "setbacks": trainer.setbacks}))


if __name__ == "__main__":
    main()
