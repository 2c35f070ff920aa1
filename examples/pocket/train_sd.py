"""Train the text encoder and the UNet together on the cached latents.

    python train_sd.py --work DIR --minutes 40 [--resume]

reads DIR/latents.npy, DIR/captions.json and DIR/vae.json; writes DIR/tokenizer, DIR/unet and DIR/text_encoder
(the averaged weights, every SAVE_MINUTES and at the end) and DIR/checkpoint.pt, from which --resume goes on
with a fresh learning-rate cycle.
"""
import argparse
import copy
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

import tokens

WIDTH = 128  # of the text encoder, and so of the cross-attention's input
EMPTY_SHARE = 0.1  # prompts blanked for classifier-free guidance
SNR_CAP = 5.0  # min-SNR weighting
WARM_STEPS = 150
SAVE_MINUTES = 4
# Each worker takes its share of a batch on one core. Splitting every operation over the cores instead is half as
# fast as soon as anything else runs on the machine, for then each operation waits for the slower core.
WORKERS = 2
# The schedule of Stable Diffusion 1.
BETA_START, BETA_END, TRAIN_STEPS = 0.00085, 0.012, 1000


def alphas_cumprod():
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def build_text_encoder(tokenizer):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH, projection_dim=WIDTH,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=tokens.LENGTH, hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))


def build_unet():
    # Attention at 8 x 8 and in the middle alone: at 16 x 16 it would cost many pictures per second, and at 4 x 4
    # a million weights of a file that must stay small.
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(64, 96, 96), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH, attention_head_dim=4, norm_num_groups=16)


def encode_captions(tokenizer, captions):
    flat = tokens.encode(tokenizer, [text for several in captions for text in several])
    return torch.tensor(flat, dtype=torch.int16).view(len(captions), -1, tokens.LENGTH)


class Trainer:
    def __init__(self, work, batch):
        self.batch = batch // WORKERS
        self.workers = ThreadPoolExecutor(WORKERS, initializer=torch.set_num_threads, initargs=(1,))
        scaling = json.loads((work / "vae.json").read_text())["scaling_factor"]
        self.latents = torch.from_numpy(np.load(work / "latents.npy")).float() * scaling
        self.tokenizer = tokens.write(work / "tokenizer")
        self.captions = encode_captions(self.tokenizer, json.loads((work / "captions.json").read_text()))
        self.empty = torch.tensor(tokens.encode(self.tokenizer, ""), dtype=torch.int16)
        self.text_encoder = build_text_encoder(self.tokenizer)
        self.unet = build_unet().to(memory_format=torch.channels_last)
        self.models = {"unet": self.unet, "text_encoder": self.text_encoder}
        self.averages = {name: copy.deepcopy(model).eval() for name, model in self.models.items()}
        self.parameters = [p for model in self.models.values() for p in model.parameters()]
        # No decay on embeddings: it would shrink the rows of tokens that the captions never use.
        decayed = [p for n, p in self.named() if p.ndim > 1 and "embedding" not in n]
        kept = [p for n, p in self.named() if p.ndim <= 1 or "embedding" in n]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.01}, {"params": kept, "weight_decay": 0.0}], betas=(0.9, 0.99))
        self.alphas = alphas_cumprod()
        self.steps = 0

    def named(self):
        return [(f"{name}.{n}", p) for name, model in self.models.items() for n, p in model.named_parameters()]

    def loss(self):
        chosen = torch.randint(len(self.latents), (self.batch,))
        clean = self.latents[chosen]
        captions = self.captions[chosen, torch.randint(self.captions.shape[1], (self.batch,))]
        captions[torch.rand(self.batch) < EMPTY_SHARE] = self.empty
        # Timesteps spread evenly over each batch: less noise in the gradient than independent draws.
        times = ((torch.arange(self.batch) + torch.rand(self.batch)) / self.batch * TRAIN_STEPS).long()
        alpha = self.alphas[times][:, None, None, None]
        noise = torch.randn_like(clean)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        context = self.text_encoder(captions.long()).last_hidden_state
        output = self.unet(noisy.contiguous(memory_format=torch.channels_last), times, context).sample
        snr = alpha / (1 - alpha)
        return ((output - velocity).square() * snr.clamp(max=SNR_CAP) / (snr + 1)).mean()

    def gradients(self):
        loss = self.loss()
        return loss.item(), torch.autograd.grad(loss, self.parameters)

    def step(self, rate):
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        shares = [future.result() for future in [self.workers.submit(self.gradients) for _ in range(WORKERS)]]
        for parameter, *gradients in zip(self.parameters, *(gradients for _, gradients in shares)):
            parameter.grad = sum(gradients) / WORKERS
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.steps += 1
        decay = min(0.998, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for name, model in self.models.items():
                torch._foreach_lerp_(list(self.averages[name].parameters()), list(model.parameters()), 1 - decay)
        return sum(loss for loss, _ in shares) / WORKERS

    def save(self, work):
        for name, model in self.averages.items():
            model.save_pretrained(work / name)
        state = {name: model.state_dict() for name, model in self.models.items()}
        averages = {name: model.state_dict() for name, model in self.averages.items()}
        torch.save({"models": state, "averages": averages, "optimizer": self.optimizer.state_dict(),
                    "steps": self.steps}, work / "checkpoint.new")
        (work / "checkpoint.new").rename(work / "checkpoint.pt")

    def resume(self, work):
        saved = torch.load(work / "checkpoint.pt")
        for name, model in self.models.items():
            model.load_state_dict(saved["models"][name])
            self.averages[name].load_state_dict(saved["averages"][name])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.steps = saved["steps"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.2e-3)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(int(options.resume))
    trainer = Trainer(options.work, options.batch)
    if options.resume:
        trainer.resume(options.work)
        torch.manual_seed(trainer.steps)
    print({name: sum(p.numel() for p in model.parameters()) for name, model in trainer.models.items()}, flush=True)
    start, saved, running, here = time.time(), time.time(), None, 0
    while (progress := (time.time() - start) / (60 * options.minutes)) < 1:
        rate = options.rate * min(1, (here + 1) / WARM_STEPS) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        loss = trainer.step(rate)
        running = loss if running is None else 0.99 * running + 0.01 * loss
        if here % 100 == 0:
            print(f"{trainer.steps} {time.time() - start:.0f}s loss {running:.4f} rate {rate:.2e}", flush=True)
        if time.time() - saved > 60 * SAVE_MINUTES:
            trainer.save(options.work)
            saved = time.time()
        here += 1
    trainer.save(options.work)
    print(f"{trainer.steps} steps, {trainer.steps * options.batch} pictures", flush=True)


if __name__ == "__main__":
    main()
