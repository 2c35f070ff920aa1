"""Train the text encoder and the UNet together on the cached latents.

    python train_sd.py --work DIR --minutes 40 [--resume | --start model]

reads DIR/latents.npy, DIR/captions.json and DIR/vae.json; writes DIR/tokenizer, DIR/unet and DIR/text_encoder
(the averaged weights, every SAVE_MINUTES and at the end) and DIR/checkpoint.pt, from which --resume goes on
with a fresh learning-rate cycle. --start goes on from a packed model, whose optimizer is not known any more.
"""
import argparse
import copy
import json
import math
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed
import torch.multiprocessing
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

import tokens

WIDTH = 128  # of the text encoder, and so of the cross-attention's input
EMPTY_SHARE = 0.1  # prompts blanked for classifier-free guidance
SNR_CAP = 5.0  # min-SNR weighting
WARM_STEPS = 150
SAVE_MINUTES = 4
AVERAGE_EVERY, AVERAGE_DECAY = 4, 0.998  # of the averaged weights: steps between updates, decay of one step
# Each process takes its share of a batch on one core: two threads of one process wait for each other's interpreter,
# and operations split over the cores wait for the slower core.
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
    """One of WORKERS processes that hold the same weights and take the same steps."""

    def __init__(self, work, batch, rank):
        self.batch, self.rank = batch // WORKERS, rank
        scaling = json.loads((work / "vae.json").read_text())["scaling_factor"]
        self.latents = torch.from_numpy(np.load(work / "latents.npy")).float() * scaling
        # Learning the merges anew may number tokens otherwise: what goes on from old weights keeps their tokenizer.
        if rank == 0 and not (work / "tokenizer").exists():
            tokens.write(work / "tokenizer")
        torch.distributed.barrier()
        self.tokenizer = tokens.load(work / "tokenizer")
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
            [{"params": decayed, "weight_decay": 0.01}, {"params": kept, "weight_decay": 0.0}],
            betas=(0.9, 0.99), foreach=True)
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

    def step(self, rate, progress):
        """One step; returns the loss and the first process's progress, by which all of them go."""
        loss = self.loss()
        gradients = torch.autograd.grad(loss, self.parameters)
        told = torch.tensor([loss.item(), progress if self.rank == 0 else 0.0])
        shared = torch.cat([g.flatten() for g in gradients] + [told])
        torch.distributed.all_reduce(shared)
        shared[:-1] /= WORKERS
        for parameter, gradient in zip(self.parameters, shared[:-2].split([p.numel() for p in self.parameters])):
            parameter.grad = torch.empty_like(parameter).copy_(gradient.view_as(parameter))
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.steps += 1
        if self.rank == 0 and self.steps % AVERAGE_EVERY == 0:
            decay = min(AVERAGE_DECAY**AVERAGE_EVERY, (1 + self.steps) / (10 + self.steps))
            with torch.no_grad():
                for name, model in self.models.items():
                    torch._foreach_lerp_(list(self.averages[name].parameters()), list(model.parameters()), 1 - decay)
        return shared[-2].item(), shared[-1].item()

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

    def start(self, packed):
        for model, name in ((UNet2DConditionModel, "unet"), (CLIPTextModel, "text_encoder")):
            weights = model.from_pretrained(packed / name, torch_dtype=torch.float32).state_dict()
            self.models[name].load_state_dict(weights)
            self.averages[name].load_state_dict(weights)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.2e-3)
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--resume", action="store_true")
    begin.add_argument("--start", type=Path, metavar="MODEL_DIR")
    options = parser.parse_args()
    if options.start:
        shutil.copytree(options.start / "tokenizer", options.work / "tokenizer", dirs_exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train, (options, f"file://{folder}/meeting"), WORKERS)


def train(rank, options, meeting):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", meeting, rank=rank, world_size=WORKERS)
    torch.manual_seed(0)  # the same first weights everywhere
    trainer = Trainer(options.work, options.batch, rank)
    if options.resume:
        trainer.resume(options.work)
    elif options.start:
        trainer.start(options.start)
    torch.manual_seed(WORKERS * trainer.steps + rank)  # and different draws
    say = print if rank == 0 else (lambda *_, **__: None)
    say({name: sum(p.numel() for p in model.parameters()) for name, model in trainer.models.items()}, flush=True)
    begun = saved = time.time()
    running, here, progress = None, 0, 0.0
    while progress < 1:
        rate = options.rate * min(1, (here + 1) / WARM_STEPS) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        loss, progress = trainer.step(rate, (time.time() - begun) / (60 * options.minutes))
        running = loss if running is None else 0.99 * running + 0.01 * loss
        if here % 100 == 0:
            say(f"{trainer.steps} {time.time() - begun:.0f}s loss {running:.4f} rate {rate:.2e}", flush=True)
        if rank == 0 and time.time() - saved > 60 * SAVE_MINUTES:
            trainer.save(options.work)
            saved = time.time()
        here += 1
    if rank == 0:
        trainer.save(options.work)
    say(f"{trainer.steps} steps, {trainer.steps * options.batch} pictures", flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
