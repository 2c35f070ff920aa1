"""The networks of the pocket model, its tokens, its noise schedule and a sampler.

The UNet and the autoencoder are diffusers'. The text encoder and the CLIP are written out here, with the tensor names
that transformers gives CLIPTextModel and CLIPModel, so that training needs no transformers.
"""
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

HERE = Path(__file__).parent
LENGTH = 32  # tokens of a prompt
WIDTH = 128  # of the text encoder, and so of the cross-attention's input
TEXT_LAYERS = 2
CLIP_WIDTH, CLIP_TEXT_LAYERS, CLIP_IMAGE_LAYERS, CLIP_HEADS, PROJECTION, PATCH = 96, 2, 4, 4, 64, 8
SIDE, LATENT_SIDE = 64, 16
# The schedule of Stable Diffusion 1.
BETA_START, BETA_END, TRAIN_STEPS = 0.00085, 0.012, 1000


class Words:
    """Prompts to token ids, by the vocabulary and the merges of the model/ folder. Every word of the world is one
    token: nouns, scenes, tints, and what shapes look like."""

    def __init__(self, folder=None):
        folder = Path(folder or next(p for p in (HERE / "tokenizer", HERE / "model/tokenizer") if p.exists()))
        self.folder, self.ids = folder, json.loads((folder / "vocab.json").read_text())
        self.start, self.end = self.ids["<|startoftext|>"], self.ids["<|endoftext|>"]
        lines = (folder / "merges.txt").read_text().splitlines()[1:]
        self.rank = {tuple(line.split()): rank for rank, line in enumerate(lines)}
        self.cut = {}

    def id(self, word):
        return self.ids[word + "</w>"]

    def pieces(self, word):
        """Ids of a word in plain letters: byte-pair encoding."""
        if word not in self.cut:
            parts = [*word[:-1], word[-1] + "</w>"]
            while len(parts) > 1:
                rank, at = min((self.rank.get(pair, len(self.rank)), i) for i, pair in enumerate(zip(parts, parts[1:])))
                if rank == len(self.rank):
                    break
                parts[at:at + 2] = [parts[at] + parts[at + 1]]
            self.cut[word] = [self.ids[part] for part in parts]
        return self.cut[word]

    def length(self, prompt):
        """Tokens, start and end included."""
        return 2 + sum(len(self.pieces(word)) for word in prompt.lower().replace(",", " ,").split())

    def encode(self, prompt):
        found = [self.start]
        for word in prompt.lower().replace(",", " ,").split():
            found += self.cut.get(word) or self.pieces(word)
        found.append(self.end)
        if len(found) > LENGTH:
            raise ValueError(f"{len(found)} tokens, at most {LENGTH}: {prompt}")
        return found + [self.end] * (LENGTH - len(found))

    def batch(self, prompts):
        return torch.tensor([self.encode(prompt) for prompt in prompts])


class Attention(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            self.add_module(name, nn.Linear(width, width))

    def forward(self, x):
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, width, hidden, heads, causal):
        super().__init__()
        self.self_attn = Attention(width, heads, causal)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        hidden = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](hidden * torch.sigmoid(1.702 * hidden))  # quick_gelu


def encoder(width, hidden, heads, layers, causal):
    return nn.ModuleDict({"layers": nn.ModuleList(Layer(width, hidden, heads, causal) for _ in range(layers))})


def smaller(module):
    """CLIP's first weights, near enough: embeddings and projections of spread 0.02."""
    for name, parameter in module.named_parameters():
        if "embedding" in name:
            nn.init.normal_(parameter, std=0.02)
    return module


class TextTower(nn.Module):
    def __init__(self, vocabulary, width, heads, layers):
        super().__init__()
        self.embeddings = nn.ModuleDict({
            "token_embedding": nn.Embedding(vocabulary, width), "position_embedding": nn.Embedding(LENGTH, width)})
        self.encoder = encoder(width, 2 * width, heads, layers, causal=True)
        self.final_layer_norm = nn.LayerNorm(width)
        smaller(self)

    def embed(self, ids):
        return self.embeddings["token_embedding"](ids)

    def forward(self, ids=None, embedded=None):
        """[n, LENGTH, width], from ids or from their embeddings."""
        x = self.embed(ids) if embedded is None else embedded
        x = x + self.embeddings["position_embedding"].weight
        for layer in self.encoder["layers"]:
            x = layer(x)
        return self.final_layer_norm(x)


class ImageTower(nn.Module):
    def __init__(self, width, heads, layers):
        super().__init__()
        self.embeddings = nn.ModuleDict({
            "patch_embedding": nn.Conv2d(3, width, PATCH, PATCH, bias=False),
            "position_embedding": nn.Embedding((SIDE // PATCH) ** 2 + 1, width)})
        self.embeddings.register_parameter("class_embedding", nn.Parameter(torch.empty(width)))
        self.pre_layrnorm, self.post_layernorm = nn.LayerNorm(width), nn.LayerNorm(width)  # the name is transformers'
        self.encoder = encoder(width, 3 * width, heads, layers, causal=False)
        smaller(self)

    def forward(self, pictures):
        patches = self.embeddings["patch_embedding"](pictures).flatten(2).transpose(1, 2)
        first = self.embeddings.class_embedding.expand(len(patches), 1, -1)
        x = self.pre_layrnorm(torch.cat([first, patches], 1) + self.embeddings["position_embedding"].weight)
        for layer in self.encoder["layers"]:
            x = layer(x)
        return self.post_layernorm(x[:, 0])


class Clip(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.end = words.end
        self.text_model = TextTower(len(words.ids), CLIP_WIDTH, CLIP_HEADS, CLIP_TEXT_LAYERS)
        self.vision_model = ImageTower(CLIP_WIDTH, CLIP_HEADS, CLIP_IMAGE_LAYERS)
        self.text_projection = nn.Linear(CLIP_WIDTH, PROJECTION, bias=False)
        self.visual_projection = nn.Linear(CLIP_WIDTH, PROJECTION, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))

    def text(self, ids):
        last = (ids == self.end).int().argmax(1)
        hidden = self.text_model(ids)[torch.arange(len(ids), device=ids.device), last]
        return F.normalize(self.text_projection(hidden).float(), dim=-1)

    def image(self, pictures):
        """Of pictures in -1..1."""
        return F.normalize(self.visual_projection(self.vision_model(pictures)).float(), dim=-1)


def build_text_encoder(words):
    return TextTower(len(words.ids), WIDTH, 4, TEXT_LAYERS)


def build_unet():
    # Cross-attention at the latents' own resolution too, as Stable Diffusion has it: what a subject looks like is
    # decided there, and an object among four is but 6 latent pixels wide.
    from diffusers import UNet2DConditionModel
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE, in_channels=4, out_channels=4, block_out_channels=(64, 128, 128), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH, attention_head_dim=4, norm_num_groups=16)


def build_vae():
    from diffusers import AutoencoderKL
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 64), layers_per_block=1, latent_channels=4, norm_num_groups=8,
        sample_size=SIDE, mid_block_add_attention=False)


def alphas_cumprod():
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def velocity_loss(unet, context, clean, noise, times, alphas, snr_cap=5.0):
    """Min-SNR weighted squared error of the velocity, for each picture."""
    alpha = alphas[times][:, None, None, None]
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    kind = next(unet.parameters()).dtype
    output = unet(noisy.to(kind, memory_format=torch.channels_last), times, context.to(kind)).sample.float()
    snr = alpha / (1 - alpha)
    return ((output - velocity).square() * snr.clamp(max=snr_cap) / (snr + 1)).mean((1, 2, 3))


@torch.no_grad()
def sample(unet, context, empty, seeds, steps=24, guidance=2.5, batch=512):
    """Latents of prompts' contexts, as DPM-Solver++ of diffusers draws them; noise of picture i from seeds[i]."""
    from diffusers import DPMSolverMultistepScheduler
    device, drawn = context.device, []
    for first in range(0, len(context), batch):
        texts = context[first:first + batch]
        scheduler = DPMSolverMultistepScheduler(
            beta_start=BETA_START, beta_end=BETA_END, beta_schedule="scaled_linear", prediction_type="v_prediction",
            steps_offset=1)
        scheduler.set_timesteps(steps, device=device)
        latents = torch.cat([torch.randn(1, 4, LATENT_SIDE, LATENT_SIDE, generator=torch.Generator().manual_seed(s))
                             for s in seeds[first:first + batch]]).to(device)
        both = torch.cat([empty.expand_as(texts), texts])
        for time in scheduler.timesteps:
            times = time.expand(2 * len(texts))
            plain, told = unet(torch.cat([latents, latents]), times, both).sample.chunk(2)
            latents = scheduler.step(plain + guidance * (told - plain), time, latents).prev_sample
        drawn.append(latents)
    return torch.cat(drawn)


@torch.no_grad()
def decode(vae, latents, scaling, batch=256):
    """uint8 [n, SIDE, SIDE, 3] on the CPU."""
    pictures = [vae.decode(latents[i:i + batch] / scaling).sample for i in range(0, len(latents), batch)]
    scaled = ((torch.cat(pictures).clamp(-1, 1) + 1) * 127.5).round().byte()
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def to_tensor(pictures):
    """uint8 [n, h, w, 3], array or tensor, to -1..1 [n, 3, h, w]."""
    return torch.as_tensor(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1)
