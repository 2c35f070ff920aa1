#!/usr/bin/env python3
"""Writes what src/checkpoint/single and tests/it/single_file/ compare with: how diffusers' own converters take the
single files of Stable Diffusion 1.x, 2.x and XL apart, and CLIP's token ids with the vocabulary that is in the program.

    python tests/golden/make_single.py WHEEL_FOLDER
    (made with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0; WHEEL_FOLDER holds open_clip, of PyPI's
    open_clip_torch, for its bpe_simple_vocab_16e6.txt.gz)

single/names.tsv.gz   a row for each tensor that diffusers makes of a file: family, name in the file, its shape
                      in a model of full size, diffusers' network and name, and which of three parts it is, or
                      `t` where it is transposed
single/ids.txt.gz     the token ids of each line of published/prompts.txt, without padding, by transformers'
                      CLIPTokenizer with the settings of Stable Diffusion 1.5's repository
../../src/checkpoint/single/clip_merges.txt.gz      the merges of CLIP's vocabulary

The names of a file are made from diffusers' by the rules below, which are the inverse of what is checked: every row is
then what `convert_ldm_unet_checkpoint`, `convert_ldm_vae_checkpoint`, `convert_ldm_clip_checkpoint` and
`convert_open_clip_checkpoint` gave for tensors of one number each.
"""
import gzip
import json
import pathlib
import re
import shutil
import sys
import tempfile

import torch
from byte_pairs import vocabulary
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as sf
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "single"

DOWN, UP = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
UNETS = {
    "sd1": dict(cross_attention_dim=768, attention_head_dim=8, down_block_types=DOWN, up_block_types=UP),
    "sd2": dict(cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True,
                down_block_types=DOWN, up_block_types=UP),
    "xl": dict(cross_attention_dim=2048, attention_head_dim=[5, 10, 20], use_linear_projection=True,
               block_out_channels=(320, 640, 1280),
               transformer_layers_per_block=[1, 2, 10], addition_embed_type="text_time", addition_time_embed_dim=256,
               projection_class_embeddings_input_dim=2816,
               down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
               up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",)),
}
CLIP_L = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
VIT_H = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16)
BIG_G = dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20,
             projection_dim=1280)
TEXTS = {
    "sd1": [("text_encoder", CLIPTextModel, CLIP_L, "cond_stage_model.transformer.", False)],
    "sd2": [("text_encoder", CLIPTextModel, VIT_H, "cond_stage_model.model.", True)],
    "xl": [("text_encoder", CLIPTextModel, CLIP_L, "conditioner.embedders.0.transformer.", False),
           ("text_encoder_2", CLIPTextModelWithProjection, BIG_G, "conditioner.embedders.1.model.", True)],
}


def meta(make) -> dict[str, list[int]]:
    with torch.device("meta"):
        return {k: list(v.shape) for k, v in make().state_dict().items() if not k.endswith("position_ids")}


# ------------------------------------------------------------------------------------------- names of single files

def swap(name: str, *pairs) -> str:
    for new, old in pairs:
        name = re.sub(new, old, name)
    return name


def of_unet(name: str, levels: int) -> str:
    block = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
    if block:
        way, level, kind, place, rest = block[1], int(block[2]), block[3], int(block[4]), block[5]
        n = 3 * level + place + (way == "down")
        # The last block of a level holds what makes it larger; a level of its own makes it smaller.
        root = f"{'input' if way == 'down' else 'output'}_blocks.{n}"
        if kind == "downsamplers":
            return swap(f"input_blocks.{3 * level + 3}.0.{rest}", (r"\.conv\.", ".op."))
        if kind == "upsamplers":
            return f"output_blocks.{3 * level + 2}.UP.{rest}"
        name = f"{root}.{0 if kind == 'resnets' else 1}.{rest}"
    name = swap(name, (r"^mid_block\.resnets\.0", "middle_block.0"), (r"^mid_block\.attentions\.0", "middle_block.1"),
                (r"^mid_block\.resnets\.1", "middle_block.2"), (r"^time_embedding\.linear_1", "time_embed.0"),
                (r"^time_embedding\.linear_2", "time_embed.2"), (r"^add_embedding\.linear_1", "label_emb.0.0"),
                (r"^add_embedding\.linear_2", "label_emb.0.2"), (r"^conv_in", "input_blocks.0.0"),
                (r"^conv_norm_out", "out.0"), (r"^conv_out", "out.2"))
    if re.match(r"(input_blocks\.\d+\.0|output_blocks\.\d+\.0|middle_block\.[02])\.", name):
        name = swap(name, (r"\.norm1\.", ".in_layers.0."), (r"\.conv1\.", ".in_layers.2."),
                    (r"\.time_emb_proj\.", ".emb_layers.1."),
                    (r"\.norm2\.", ".out_layers.0."), (r"\.conv2\.", ".out_layers.3."),
                    (r"\.conv_shortcut\.", ".skip_connection."))
    return name


def of_vae(name: str, levels: int) -> str:
    name = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}", name)
    return swap(name, (r"down_blocks\.(\d+)", r"down.\1"), (r"mid_block\.resnets\.0", "mid.block_1"),
                (r"mid_block\.resnets\.1", "mid.block_2"),
                (r"resnets\.", "block."), (r"(down|up)samplers\.0\.", r"\1sample."), ("conv_shortcut", "nin_shortcut"),
                ("conv_norm_out", "norm_out"), (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
                (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
                (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"))


def of_openclip(name: str) -> str:
    return swap(name, (r"encoder\.layers\.", "transformer.resblocks."), (r"layer_norm(\d)", r"ln_\1"),
                (r"mlp\.fc1", "mlp.c_fc"),
                (r"mlp\.fc2", "mlp.c_proj"), (r"self_attn\.", "attn."), (r"^final_layer_norm", "ln_final"),
                (r"^embeddings\.token_embedding", "token_embedding"),
                (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
                (r"^text_projection\.weight", "text_projection"))


# ------------------------------------------------------------------------------------------------------------- rows

class Numbered:
    """Tensors of one number each, by which they are known again."""

    def __init__(self):
        self.rows = []

    def tensor(self, row: dict, dims: int) -> torch.Tensor:
        self.rows.append(row)
        return torch.full((1,) * dims, float(len(self.rows)))

    def row(self, tensor: torch.Tensor) -> dict:
        return self.rows[int(tensor.flatten()[0].item()) - 1]


def family(kind: str) -> list[tuple]:
    numbered, file = Numbered(), {}
    unet = meta(lambda: UNet2DConditionModel(**UNETS[kind]))
    attended = {m[1] for k in unet if (m := re.match(r"up_blocks\.(\d+)\.attentions", k))}
    for name, shape in unet.items():
        old = "model.diffusion_model." + of_unet(name, 0)
        if m := re.match(r".*output_blocks\.(\d+)\.UP", old):
            old = old.replace("UP", "2" if str(int(m[1]) // 3) in attended else "1")
        file[old] = numbered.tensor(dict(network="unet", name=name, old=old, shape=shape, part="-"), len(shape))
    vae = meta(lambda: AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
                                     down_block_types=("DownEncoderBlock2D",) * 4,
                                     up_block_types=("UpDecoderBlock2D",) * 4))
    for name, shape in vae.items():
        old = "first_stage_model." + of_vae(name, 4)
        if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", old):
            shape = [*shape, 1, 1]
        file[old] = numbered.tensor(dict(network="vae", name=name, old=old, shape=shape, part="-"), len(shape))
    for network, cls, config, root, openclip in TEXTS[kind]:
        packed = {}
        for name, shape in meta(lambda: cls(CLIPTextConfig(**config))).items():
            bare = name.removeprefix("text_model.")
            name = bare if bare.startswith("text_projection") else "text_model." + bare
            row = dict(network=network, name=name, shape=shape, part="-")
            if not openclip:
                row["old"] = root + name
                file[row["old"]] = numbered.tensor(row, len(shape))
                continue
            if m := re.match(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", bare):
                row |= dict(old=f"{root}transformer.resblocks.{m[1]}.attn.in_proj_{m[3]}",
                            shape=[3 * shape[0], *shape[1:]], part=str("qkv".index(m[2])))
                packed.setdefault(row["old"], []).append((row["part"], numbered.tensor(row, len(shape))))
                continue
            row["old"] = root + of_openclip(bare)
            if bare.startswith("text_projection"):
                row["part"] = "t"
            file[row["old"]] = numbered.tensor(row, len(shape))
        for old, parts in packed.items():
            file[old] = torch.cat([t for _, t in sorted(parts, key=lambda p: p[0])])

    rows, seen = [], set()

    def take(network: str, found: dict, want: dict) -> None:
        for name, tensor in found.items():
            if tensor is None:
                raise SystemExit(f"{kind}: {network}: {name}: nothing")
            row = numbered.row(tensor)
            if (row["network"], row["name"]) != (network, name):
                raise SystemExit(f"{kind}: {network}: {name} is {row}")
            rows.append((kind, row["old"], "x".join(map(str, row["shape"])), network, name, row["part"]))
            seen.add((network, name))

    config = {"layers_per_block": 2} | ({"addition_embed_type": "text_time"} if kind == "xl" else {})
    take("unet", sf.convert_ldm_unet_checkpoint(dict(file), config), unet)
    vae_only = {k: v for k, v in file.items() if k.startswith("first_stage_model.")}
    take("vae", sf.convert_ldm_vae_checkpoint(vae_only, {"down_block_types": [0] * 4, "up_block_types": [0] * 4}), vae)
    for network, cls, config, root, openclip in TEXTS[kind]:
        own = {k: v for k, v in file.items() if k.startswith(root)}
        if openclip:
            class Model:
                config = CLIPTextConfig(hidden_size=1, num_attention_heads=1)
            take(network, sf.convert_open_clip_checkpoint(Model, own, prefix=root), None)
        else:
            take(network, sf.convert_ldm_clip_checkpoint(own), None)
    missing = [row for row in numbered.rows if (row["network"], row["name"]) not in seen]
    if missing:
        raise SystemExit(f"{kind}: diffusers leaves out {missing[:3]}")
    print(kind, len(file), "tensors in the file,", len(rows), "in diffusers")
    return sorted(rows)


def write(path: pathlib.Path, text: str) -> None:
    with open(path, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0, compresslevel=9) as f:
        f.write(text.encode())
    print(path.name, path.stat().st_size, "bytes")


def merges() -> list[str]:
    """As open_clip's and OpenAI's tokenizers cut the list."""
    text = gzip.open(pathlib.Path(sys.argv[1]) / "open_clip/bpe_simple_vocab_16e6.txt.gz").read().decode()
    return text.split("\n")[1:49152 - 256 - 2 + 1]


def ids() -> str:
    tokens = vocabulary([line.split(" ", 1) for line in merges()])
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(HERE / "published/sd15/tokenizer", folder, dirs_exist_ok=True)
        folder = pathlib.Path(folder)
        (folder / "vocab.json").write_text(json.dumps(tokens))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges()) + "\n")
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    prompts = [json.loads(line) for line in (HERE / "published/prompts.txt").read_text().split("\n") if line]
    return "".join(" ".join(map(str, tokenizer(p, truncation=True, max_length=77).input_ids)) + "\n" for p in prompts)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    rows = [row for kind in UNETS for row in family(kind)]
    write(OUT / "names.tsv.gz", "".join("\t".join(row) + "\n" for row in rows))
    write(HERE.parent.parent / "src/checkpoint/single/clip_merges.txt.gz", "\n".join(merges()) + "\n")
    write(OUT / "ids.txt.gz", ids())
