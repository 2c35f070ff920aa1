#!/usr/bin/env python3
"""Writes what tests/it/published.rs and src/model/text/tokenizer/tests/ compare with: models in the shapes in which the
hub publishes Stable Diffusion, in miniature, and what diffusers and transformers make of them.

    python tests/golden/make_published.py [PYTHON_OF_TRANSFORMERS_4]
    (made with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0 and 4.57.6, on the CPU)

published/NAME/             the JSON files of a repository, with the keys it has and small numbers; see SHAPES
published/vocab.json, merges.txt      the vocabulary of all of them: all bytes, and merges towards some words
published/weights/KIND.json           names and shapes of a file of weights; the numbers follow from them (`tensor`)
published/prompts.txt       3,000 prompts, a JSON string a line
published/cases.json        for each shape: its files of weights, settings and prompt of its picture, the ids of the
                            first prompts, and a hash of the ids of each block of ten prompts (FNV-1a over
                            little-endian u32); `transformers_4` says how many prompts 4.57 reads otherwise, and which
                            is the first
published/pictures.safetensors        u8 [h, w, 3] by shape
"""

import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import warnings

os.environ.update(
    HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error", DIFFUSERS_VERBOSITY="error"
)
warnings.filterwarnings("ignore")

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "published"
START, END = "<|startoftext|>", "<|endoftext|>"
BLOCK = 10

WORDS = (
    "a an the of in on at with and photo picture painting dog cat crown hat cup park beach snow street night red "
    "green blue world hello don it's 2024 naïve über"
).split()


# ------------------------------------------------------------------------------------------------------- vocabulary


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """As in CLIP's: bytes, bytes at the end of a word, what the merges make, the two special tokens."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in shown] + [chr(256 + i) for i in range(256 - len(shown))]
    stand_in = dict(zip(shown + [b for b in range(256) if b not in shown], letters))
    tokens = letters + [letter + "</w>" for letter in letters]
    merges = []
    for word in WORDS:
        word = [stand_in[b] for b in word.encode()]
        left = word[0]
        for i, letter in enumerate(word[1:], 1):
            right = letter if i + 1 < len(word) else letter + "</w>"
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
            if left not in tokens:
                tokens.append(left)
    return {token: i for i, token in enumerate([*tokens, START, END])}, merges


VOCABULARY, MERGES = vocabulary()
SIZE = len(VOCABULARY)


# ----------------------------------------------------------------------------------------------------------- shapes


def flags(content: str, **changed) -> dict:
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False} | changed


def typed(content: str) -> dict:
    return {"__type": "AddedToken"} | flags(content)


def tokenizer(name_or_path: str | None, pad: str, **more) -> dict[str, dict]:
    """The two files of 2022: tokenizer_config.json pads with the end token whatever the map says."""
    config = {
        "add_prefix_space": False,
        "bos_token": typed(START),
        "do_lower_case": True,
        "eos_token": typed(END),
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": END,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": typed(END),
    } | more
    if name_or_path:
        config |= {"name_or_path": name_or_path, "special_tokens_map_file": "./special_tokens_map.json"}
    token_map = {"bos_token": flags(START), "eos_token": flags(END), "pad_token": pad, "unk_token": flags(END)}
    return {
        "tokenizer/tokenizer_config.json": dict(sorted(config.items())),
        "tokenizer/special_tokens_map.json": token_map,
    }


TURBO_TOKENIZER = {
    "tokenizer/tokenizer_config.json": {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            "0": flags("!", normalized=False, special=True),
            str(SIZE - 2): flags(START, special=True),
            str(SIZE - 1): flags(END, special=True),
        },
        "bos_token": START,
        "clean_up_tokenization_spaces": True,
        "do_lower_case": True,
        "eos_token": END,
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": "!",
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": END,
    },
    "tokenizer/special_tokens_map.json": {
        "bos_token": flags(START),
        "eos_token": flags(END),
        "pad_token": "!",
        "unk_token": flags(END),
    },
}


def text(second: bool, version: str, **more) -> dict:
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,
        "hidden_act": "gelu" if second else "quick_gelu",
        "hidden_size": 32,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": 4,
        "num_hidden_layers": 3 if second else 2,
        "pad_token_id": 1,
        "projection_dim": 16 if second else 32,
        "torch_dtype": "float32",
        "transformers_version": version,
        "vocab_size": SIZE,
    } | more


CROSS, PLAIN = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"


def unet(second: bool, version: str, **more) -> dict:
    both = (
        {
            "dual_cross_attention": False,
            "num_class_embeds": None,
            "only_cross_attention": False,
            "use_linear_projection": True,
        }
        if second
        else {}
    )
    return (
        {
            "_class_name": "UNet2DConditionModel",
            "_diffusers_version": version,
            "act_fn": "silu",
            "attention_head_dim": [1, 2, 4, 4] if second else 2,
            "block_out_channels": [8, 16, 32, 32],
            "center_input_sample": False,
            "cross_attention_dim": 32,
            "down_block_types": [CROSS, CROSS, CROSS, "DownBlock2D"],
            "downsample_padding": 1,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "in_channels": 4,
            "layers_per_block": 2,
            "mid_block_scale_factor": 1,
            "norm_eps": 1e-05,
            "norm_num_groups": 8,
            "out_channels": 4,
            "sample_size": 8,
            "up_block_types": ["UpBlock2D", PLAIN, PLAIN, PLAIN],
        }
        | both
        | more
    )


# Keys that diffusers has written since 2023.
NEW_KEYS = {
    "addition_embed_type": None,
    "addition_embed_type_num_heads": 64,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "mid_block_only_cross_attention": None,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "num_attention_heads": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "upcast_attention": None,
}
TURBO_KEYS = {
    "addition_time_embed_dim": None,
    "attention_type": "default",
    "dropout": 0.0,
    "reverse_transformer_layers_per_block": None,
    "transformer_layers_per_block": 1,
    "use_linear_projection": True,
}


def vae(version: str, **more) -> dict:
    # All widths are 32, as the files of 1.4 say nothing of norm_num_groups, which is then 32.
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": version,
        "act_fn": "silu",
        "block_out_channels": [32] * 4,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "out_channels": 3,
        "sample_size": 64,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    } | more


GROUPS = {"norm_num_groups": 32}


def scheduler(name: str, version: str, **more) -> dict:
    return {
        "_class_name": name,
        "_diffusers_version": version,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    } | more


def index(version: str, scheduler: str, **more) -> dict:
    return {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": version,
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    } | more


CHECKED = {
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
}
UNCHECKED = {
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
}
V2 = "hf-models/stable-diffusion-v2-768x768/"
CLIP_L = "openai/clip-vit-large-patch14"


def shape(model_index, sched, words, text_config, unet_config, vae_config) -> dict[str, dict]:
    return {
        "model_index.json": model_index,
        "scheduler/scheduler_config.json": sched,
        **words,
        "text_encoder/config.json": text_config,
        "unet/config.json": unet_config,
        "vae/config.json": vae_config,
    }


SHAPES = {
    # CompVis/stable-diffusion-v1-4
    "sd14": shape(
        index("0.2.2", "PNDMScheduler", **CHECKED | {"feature_extractor": ["transformers", "CLIPFeatureExtractor"]}),
        scheduler("PNDMScheduler", "0.7.0.dev0"),
        tokenizer(CLIP_L, END),
        text(False, "4.21.0.dev0", _name_or_path=CLIP_L),
        unet(False, "0.2.2"),
        vae("0.2.2"),
    ),
    # stable-diffusion-v1-5/stable-diffusion-v1-5
    "sd15": shape(
        index("0.6.0", "PNDMScheduler", **CHECKED),
        scheduler("PNDMScheduler", "0.6.0"),
        tokenizer(CLIP_L, END),
        text(False, "4.22.0.dev0", _name_or_path=CLIP_L),
        unet(False, "0.6.0"),
        vae("0.6.0", **GROUPS),
    ),
    # stabilityai/stable-diffusion-2
    "sd20": shape(
        index("0.8.0", "DDIMScheduler", **UNCHECKED),
        scheduler("DDIMScheduler", "0.8.0", prediction_type="v_prediction"),
        tokenizer(V2 + "tokenizer", "!"),
        text(True, "4.25.0.dev0", _name_or_path=V2 + "text_encoder"),
        unet(True, "0.8.0", _name_or_path=V2 + "unet"),
        vae("0.8.0", _name_or_path=V2 + "vae", **GROUPS),
    ),
    # stabilityai/stable-diffusion-2-1
    "sd21": shape(
        index("0.10.0.dev0", "DDIMScheduler", **UNCHECKED),
        scheduler("DDIMScheduler", "0.8.0", prediction_type="v_prediction"),
        tokenizer(V2 + "tokenizer", "!"),
        text(True, "4.25.0.dev0", _name_or_path=V2 + "text_encoder"),
        unet(True, "0.10.0.dev0", _name_or_path=V2 + "unet", upcast_attention=True),
        vae("0.10.0.dev0", _name_or_path=V2 + "vae", **GROUPS),
    ),
    # stabilityai/stable-diffusion-2-1-base
    "sd21-base": shape(
        index("0.10.0.dev0", "PNDMScheduler", **UNCHECKED),
        scheduler("PNDMScheduler", "0.10.0.dev0", prediction_type="epsilon"),
        tokenizer("hf-models/stable-diffusion-v2-1-base/tokenizer", "!"),
        text(True, "4.25.0.dev0", _name_or_path="hf-models/stable-diffusion-v2-1-base/text_encoder"),
        unet(True, "0.10.0.dev0", _name_or_path="hf-models/stable-diffusion-v2-1-base/unet"),
        vae("0.10.0.dev0", _name_or_path="hf-models/stable-diffusion-v2-1-base/vae", **GROUPS),
    ),
    # stabilityai/sd-turbo
    "sd-turbo": shape(
        index(
            "0.24.0.dev0",
            "EulerDiscreteScheduler",
            feature_extractor=[None, None],
            image_encoder=[None, None],
            requires_safety_checker=False,
            safety_checker=[None, None],
        ),
        scheduler(
            "EulerDiscreteScheduler",
            "0.24.0.dev0",
            interpolation_type="linear",
            prediction_type="epsilon",
            sample_max_value=1.0,
            timestep_spacing="trailing",
            use_karras_sigmas=False,
        ),
        TURBO_TOKENIZER,
        text(True, "4.36.0.dev0", _name_or_path="stabilityai/stable-diffusion-2-1"),
        unet(True, "0.24.0.dev0", **NEW_KEYS, **TURBO_KEYS),
        vae("0.24.0.dev0", force_upcast=True, scaling_factor=0.18215, **GROUPS),
    ),
    # stable-diffusion-v1-5/stable-diffusion-inpainting
    "sd15-inpainting": shape(
        index("0.6.0", "DDIMScheduler", **CHECKED | {"feature_extractor": ["transformers", "CLIPFeatureExtractor"]})
        | {"_class_name": "StableDiffusionInpaintPipeline"},
        scheduler("DDIMScheduler", "0.6.0.dev0"),
        tokenizer(CLIP_L, END),
        text(False, "4.22.0.dev0", _name_or_path=CLIP_L),
        unet(False, "0.6.0.dev0", in_channels=9),
        vae("0.6.0.dev0", **GROUPS),
    ),
    # segmind/tiny-sd
    "tiny-sd": shape(
        index(
            "0.19.0.dev0",
            "DPMSolverMultistepScheduler",
            feature_extractor=["transformers", "CLIPFeatureExtractor"],
            requires_safety_checker=False,
            safety_checker=[None, None],
        ),
        scheduler(
            "DPMSolverMultistepScheduler",
            "0.19.0.dev0",
            algorithm_type="dpmsolver++",
            dynamic_thresholding_ratio=0.995,
            lambda_min_clipped=-float("inf"),
            lower_order_final=True,
            prediction_type="epsilon",
            sample_max_value=1.0,
            solver_order=2,
            solver_type="midpoint",
            thresholding=False,
            timestep_spacing="linspace",
            use_karras_sigmas=False,
            variance_type=None,
        ),
        tokenizer(None, END, clean_up_tokenization_spaces=True),
        text(False, "4.30.2", _name_or_path="SG161222/Realistic_Vision_V4.0"),
        unet(
            False,
            "0.19.0.dev0",
            _name_or_path="SG161222/Realistic_Vision_V4.0",
            **NEW_KEYS | {"mid_block_type": None, "upcast_attention": False, "use_linear_projection": False},
            block_out_channels=[8, 16, 32],
            down_block_types=[CROSS] * 3,
            layers_per_block=1,
            up_block_types=[PLAIN] * 3,
        ),
        vae("0.19.0.dev0", _name_or_path="SG161222/Realistic_Vision_V4.0", scaling_factor=0.18215, **GROUPS),
    ),
}

# Names of 2022: the VAE's attention had its own, and the text encoder kept a tensor that counts positions.
LEGACY = {name for name in SHAPES if name not in ("sd-turbo", "tiny-sd")}

PICTURE = dict(prompt="a photo of a dog in the snow! hello", negative="blurry", steps=8, guidance=7.5, seed=5, size=64)
SAMPLERS = {
    "PNDMScheduler": "pndm",
    "DDIMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "DPMSolverMultistepScheduler": "dpm++2m",
}
PICTURES = {
    name: PICTURE | {"sampler": SAMPLERS[files["scheduler/scheduler_config.json"]["_class_name"]]}
    for name, files in SHAPES.items()
    if name != "sd15-inpainting"
}
PICTURES["sd-turbo"] |= dict(steps=2, guidance=1.0, negative="")


# ---------------------------------------------------------------------------------------------------------- weights


def tensor(name: str, shape: list[int]) -> np.ndarray:
    """Numbers that follow from the name: SplitMix64 from the FNV-1a hash of it, eleven bits each, about as large as
    a network wants them; tests/it/published.rs has the same rule. All are exact in f32."""
    if name.endswith("position_ids"):
        return np.arange(shape[-1], dtype=np.int64).reshape(shape)
    seed = fnv(name.encode())
    count, inputs = int(np.prod(shape)), int(np.prod(shape[1:]))
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    values = (2 * (z >> np.uint64(53)).astype(np.float64) - 2047) / 2048
    if len(shape) == 1:
        values = values / 8 + (1 if name.endswith(".weight") else 0)
    else:
        halvings = 0
        while 3 * 4**halvings < inputs:
            halvings += 1
        values /= 2**halvings
    return values.astype(np.float32).reshape(shape)


def fnv(data: bytes) -> int:
    hash = 0xCBF29CE484222325
    for byte in data:
        hash = (hash ^ byte) * 0x100000001B3 % 2**64
    return hash


def old_names(tensors: dict[str, list[int]], network: str) -> dict[str, list[int]]:
    if network == "vae":
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            tensors = {name.replace(f".{new}.", f".{old}."): shape for name, shape in tensors.items()}
    if network == "text_encoder":
        tensors |= {"text_model.embeddings.position_ids": [1, 77]}
    return tensors


def write_weights(folder: pathlib.Path, name: str) -> dict[str, str]:
    """Writes a shape's weights into `folder`, and what they are called under weights/; returns which file has which."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.numpy import save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    files, used = SHAPES[name], {}
    modules = {
        "unet": UNet2DConditionModel.from_config(files["unet/config.json"]),
        "vae": AutoencoderKL.from_config(files["vae/config.json"]),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**files["text_encoder/config.json"])),
    }
    for network, module in modules.items():
        tensors = {key: list(value.shape) for key, value in module.state_dict().items()}
        if network == "text_encoder":
            tensors = {key if key.startswith("text_model.") else f"text_model.{key}": s for key, s in tensors.items()}
        if name in LEGACY:
            tensors = old_names(tensors, network)
        text = json.dumps(dict(sorted(tensors.items())), indent=0).replace("\n", "").replace('], "', '],\n"') + "\n"
        kind = f"{network}-{hashlib.sha256(text.encode()).hexdigest()[:6]}.json"
        (OUT / "weights").mkdir(exist_ok=True)
        (OUT / "weights" / kind).write_text(text)
        file = f"{network}/{'model' if network == 'text_encoder' else 'diffusion_pytorch_model'}.safetensors"
        used[file] = kind
        save_file({key: tensor(key, s) for key, s in tensors.items()}, folder / file, metadata={"format": "pt"})
    return used


# ---------------------------------------------------------------------------------------------------------- prompts


def prompts() -> list[str]:
    draw = random.Random(14)
    words = WORDS + [
        "zebra",
        "Hippopotamus",
        "DOG",
        "cats",
        "don't",
        "it's",
        "we'll",
        "I'd",
        "they've",
        "12",
        "3.5",
        "½",
        "²",
        "Ⅷ",
    ]
    scripts = [
        "犬の写真",
        "привет мир",
        "नमस्ते दुनिया",
        "مرحبا بالعالم",
        "שלום",
        "สวัสดี",
        "안녕하세요",
        "Ελληνικά ΣΑΣ",
        "ﬁlm ﬂow",
        "ÅNGSTRÖM İstanbul",
        "e\u0301le\u0300ve",
        "caf\u00e9",
        "cafe\u0301",
        "ᚠᚢᚦ",
        "𝔘𝔫𝔦",
        "ǅungla",
        "ßẞ",
        "Ꭰꭰ",
        "𐐀𐐨",
        "ខ្មែរ",
        "አማርኛ",
    ]
    emoji = ["🐶", "🐱🐭", "👩‍👩‍👧", "🏳️‍🌈", "👍🏽", "🇩🇪", "☃️", "1️⃣", "\U0001fae8", "♥"]
    marks = list("!?.,;:()[]{}<>|/\\@#$%^&*_+-=~`'\"") + [
        "!!",
        "...",
        "--",
        "—",
        "…",
        "€",
        "«»",
        "¡",
        "、",
        "!a",
        "a!b",
        "<|",
        "|>",
        "''s",
    ]
    special = [
        START,
        END,
        "<|STARTOFTEXT|>",
        "<|EndOfText|>",
        "<|endoftext|",
        "|endoftext|>",
        "</w>",
        "dog</w>",
        "!",
        "#version",
    ]
    spaces = [
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\u00a0",
        "\u2003",
        "\u3000",
        "\u200b",
        "\u200d",
        "\u2028",
        "\u0085",
        "\ufeff",
        "\u180e",
        "",
    ]
    control = [chr(c) for c in (0, 1, 7, 8, 11, 12, 27, 31, 127, 0x80, 0x9F, 0xAD, 0x202E, 0xFFFD, 0xE000, 0x10FFFF)]
    combining = [
        "\u0301",
        "\u0327",
        "\u20dd",
        "\u0345",
        "\u3099",
        "\u1e9b\u0323",
        "\u0958",
        "\u2126",
        "\u212b",
        "\ufb1d",
        "\uac01",
        "\u1100\u1161",
    ]

    def any_letter() -> str:
        while True:
            c = draw.choice([draw.randrange(0x3000), draw.randrange(0x10000), draw.randrange(0x20000)])
            if not 0xD800 <= c < 0xE000:
                return chr(c)

    kinds = [words] * 12 + [scripts, emoji, marks, marks, special, control, combining]
    found = [
        "",
        " ",
        "!",
        "!!",
        "\n",
        START,
        END,
        "a",
        "\u0301",
        "\0",
        "a photo of a dog",
        "a photo of a dog!",
        "wow!dog ! !",
    ]
    while len(found) < 2600:
        length = draw.choice([1, 2, 3, 5, 8, 8, 12, 20] if draw.random() < 0.95 else [60, 90])
        text = ""
        for _ in range(length):
            text += draw.choice(draw.choice(kinds)) + (" " if draw.random() < 0.6 else draw.choice(spaces))
        found.append(text if draw.random() < 0.5 else text.strip())
    while len(found) < 3000:
        found.append("".join(any_letter() if draw.random() < 0.8 else " " for _ in range(draw.randrange(1, 24))))
    assert len(found) == 3000
    return found


# ------------------------------------------------------------------------------------------------ what is made of them

IDS_4 = """
import json, sys
from transformers import CLIPTokenizer, CLIPTokenizerFast
prompts = json.load(sys.stdin)
for kind in CLIPTokenizer, CLIPTokenizerFast:
    t = kind.from_pretrained(sys.argv[1])
    print(json.dumps(t(prompts, padding="max_length", truncation=True, max_length=t.model_max_length).input_ids))
"""


def hashes(ids: list[list[int]]) -> list[str]:
    blocks = [ids[i : i + BLOCK] for i in range(0, len(ids), BLOCK)]
    return [f"{fnv(np.array(block, dtype='<u4').tobytes()):016x}" for block in blocks]


def read_by_4(python: str, folder: pathlib.Path, texts: list[str], ids: list[list[int]]) -> dict:
    run = subprocess.run(
        [python, "-c", IDS_4, folder / "tokenizer"], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    found = {}
    for kind, line in zip(("CLIPTokenizer", "CLIPTokenizerFast"), run.stdout.splitlines()):
        other = [i for i, (a, b) in enumerate(zip(ids, json.loads(line), strict=True)) if a != b]
        found[kind] = {"differ": len(other), "first": texts[other[0]] if other else None}
    return found


def write_json(path: pathlib.Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def assemble(folder: pathlib.Path, name: str) -> None:
    shutil.copytree(OUT / name, folder)
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(OUT / file, folder / "tokenizer" / file)


def draw(pipe, settings: dict) -> np.ndarray:
    import torch

    picture = pipe(
        settings["prompt"],
        negative_prompt=settings["negative"],
        num_inference_steps=settings["steps"],
        guidance_scale=settings["guidance"],
        height=settings["size"],
        width=settings["size"],
        generator=torch.Generator("cpu").manual_seed(settings["seed"]),
        output_type="np",
    ).images[0]
    return np.ascontiguousarray((picture * 255).round().astype(np.uint8))  # as safetensors writes memory as it lies


def main() -> None:
    import diffusers.utils.logging
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors.numpy import save_file
    from transformers import CLIPTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    python_4 = sys.argv[1] if len(sys.argv) > 1 else None
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    (OUT / "vocab.json").write_text(json.dumps(VOCABULARY, ensure_ascii=False) + "\n")
    (OUT / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, MERGES)]) + "\n")
    texts = prompts()
    (OUT / "prompts.txt").write_text("".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts))
    cases, drawn = {}, {}
    for name, files in SHAPES.items():
        for file, value in files.items():
            write_json(OUT / name / file, value)
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary) / name
            assemble(folder, name)
            used = write_weights(folder, name)
            t = CLIPTokenizer.from_pretrained(folder / "tokenizer")
            ids = t(texts, padding="max_length", truncation=True, max_length=t.model_max_length).input_ids
            cases[name] = case = {"weights": used, "ids": json.dumps(ids[:12]), "hashes": " ".join(hashes(ids))}
            if python_4:
                case["transformers_4"] = read_by_4(python_4, folder, texts, ids)
                print(name, case["transformers_4"])
            if settings := PICTURES.get(name):
                pipe = StableDiffusionPipeline.from_pretrained(
                    folder,
                    torch_dtype=torch.float32,
                    local_files_only=True,
                    safety_checker=None,
                    feature_extractor=None,
                )
                pipe.set_progress_bar_config(disable=True)
                assert SAMPLERS[type(pipe.scheduler).__name__] == settings["sampler"]
                picture = draw(pipe, settings)
                case["picture"], drawn[name] = settings, picture
                inside, pad = ((picture > 0) & (picture < 255)).mean(), t.pad_token
                pipe.tokenizer.pad_token = END if pad == "!" else "!"
                moved = np.abs(draw(pipe, settings).astype(int) - picture).max()
                print(
                    f"{name}: {inside:.0%} of the values are neither 0 nor 255, "
                        f"padding otherwise than with {pad} moves one by {moved}"
                )
                assert inside > 0.6 and moved > 20, "such a picture says little"
    write_json(OUT / "cases.json", cases)
    save_file(drawn, OUT / "pictures.safetensors")


if __name__ == "__main__":
    main()
