"""The JSON files of repositories of the hub, with the keys that they have and small numbers."""

from byte_pairs import END
from published_text import SIZE, TURBO_TOKENIZER, tokenizer


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
