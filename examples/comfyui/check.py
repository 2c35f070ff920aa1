"""Draws the same seeds in ComfyUI's engine and in `cones`, and says how far they are apart: at most 2 of 255.

    python examples/comfyui/check.py COMFYUI [target/release/cones]       (exit status 1 if anything is further apart)

COMFYUI is a checkout of ComfyUI, with what it needs installed; it computes on the CPU. The models are miniatures of
Stable Diffusion 1, 2 and XL with random weights, which ComfyUI itself makes and saves as single files; all that is
told to it besides are their sizes. Two concepts at once, of scope `words`, of scope `prompt`, and one of each; merged
to one file, with tuned values, by a half; with several pictures, a negative prompt with a subject in it; and what
`cones export` wrote.

ComfyUI draws by the levels of noise that `cones`' DDIM has. Its own scheduler `ddim_uniform` has the same but for the
last, and begins with noise that is smaller by √(1 + 1/σ²): how far that is away is said too.
"""

import importlib.util
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PHOTOS = ROOT / "tests/golden/photos"
COMFY = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
CONES = str(pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "target/release/cones").resolve())
sys.path.insert(0, COMFY)

from comfy.cli_args import args  # noqa: E402

args.cpu = args.fp32_unet = args.fp32_vae = args.fp32_text_enc = True

import comfy.model_base  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models as supported  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402

# Prompts with both subjects, one twice, and one among words that it is not in.
PROMPT = "a sks dog and a zwx cat in the (snow:1.0), a sks dog by dogs"
NEGATIVE, WITH_SUBJECT = "blurry, a dog, sks cat", "blurry, a sks dog"
STEPS, SEED, GUIDANCE, SIZE = 8, 5, 7.5, 128

DOWN = dict(num_res_blocks=[1, 1, 1], channel_mult=[1, 2, 2])
SD = dict(transformer_depth=[1, 1, 0], transformer_depth_output=[1, 1, 1, 1, 0, 0], transformer_depth_middle=1)
XL = dict(transformer_depth=[0, 1, 2], transformer_depth_output=[0, 0, 1, 1, 2, 2], transformer_depth_middle=2)
UNETS = {
    "sd1": dict(model_channels=32, context_dim=64, use_linear_in_transformer=False, adm_in_channels=None, **SD),
    "sd2": dict(model_channels=64, context_dim=64, use_linear_in_transformer=True, adm_in_channels=None, **SD),
    "xl": dict(model_channels=64, context_dim=128, use_linear_in_transformer=True, adm_in_channels=64 + 6 * 256,
               num_classes="sequential", **XL),
}
TEXT = dict(hidden_size=64, intermediate_size=96, num_attention_heads=1)
SHORT = TEXT | dict(num_hidden_layers=3)
TEXTS = {"clip_l_model_config": SHORT, "clip_g_model_config": SHORT, "clip_h_model_config": TEXT}
VAE = dict(embed_dim=4, ddconfig=dict(double_z=True, z_channels=4, resolution=256, in_channels=3, out_ch=3, ch=32,
                                      ch_mult=[1, 1, 2, 2], num_res_blocks=1, attn_resolutions=[], dropout=0.0))
FAMILIES = {"sd1": supported.SD15, "sd2": supported.SD20, "xl": supported.SDXL}


def small(kind):
    """ComfyUI's family with the sizes of the miniature. Stable Diffusion 2's predicts the velocity."""
    keys = [key for key in FAMILIES[kind].unet_config if key in UNETS[kind]]
    more = dict(unet_config={key: UNETS[kind][key] for key in keys})
    if kind == "sd2":
        more["model_type"] = lambda self, state_dict, prefix="": comfy.model_base.ModelType.V_PREDICTION
    return type(FAMILIES[kind].__name__, (FAMILIES[kind],), more)


def fill(module, seed):
    """Random weights, such that what flows through keeps its size."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(module.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim == 1:
            weight.data = 0.1 * noise + (0 if name.endswith("bias") else 1)
        elif weight.ndim > 1:
            weight.data = noise * (0.5 if "embedding" in name else weight[0].numel() ** -0.5)


def make(kind, path):
    """Writes a single file, as ComfyUI's node Save Checkpoint does."""
    family = small(kind)(dict(use_checkpoint=False, image_size=32, in_channels=4, out_channels=4, legacy=False,
                              use_spatial_transformer=True, use_temporal_attention=False,
                              use_temporal_resblock=False, dtype=torch.float32, **DOWN, **UNETS[kind]))
    model = family.get_model({}, device="cpu")
    clip = comfy.sd.CLIP(family.clip_target(), model_options=TEXTS)
    vae = comfy.ldm.models.autoencoder.AutoencoderKL(**VAE)
    for seed, module in enumerate((model.diffusion_model, clip.cond_stage_model, vae)):
        fill(module, seed)
    tensors = model.state_dict_for_saving(clip.get_sd(), vae.state_dict())
    comfy.utils.save_torch_file({name: t.contiguous() for name, t in tensors.items()}, str(path))


def load(path):
    model, clip, _, _ = comfy.sd.load_checkpoint_guess_config(str(path), output_vae=False, te_model_options=TEXTS)
    prefix = "first_stage_model."
    tensors = comfy.utils.load_torch_file(str(path))
    vae = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    return model, clip, comfy.sd.VAE(sd=vae, config=dict(params=VAE))


def encode(clip, text):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def noise_of(count):
    return torch.cat([torch.randn(1, 4, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(SEED + i))
                      for i in range(count)])


def pixels(vae, latents):
    return (vae.decode(latents).numpy() * 255).round().astype("uint8")


def theirs(model, vae, positive, negative, count=1):
    """By the levels of DDIM: from √(1 + σ²) times the noise, in units where the signal is 1, to the first level."""
    sigmas = model.get_model_object("model_sampling").sigmas
    stride = 1000 // STEPS
    levels = torch.stack([*(sigmas[1 + i * stride] for i in reversed(range(STEPS))), sigmas[0]])
    noise = noise_of(count) * (1 + levels[0] ** -2) ** 0.5
    latents = comfy.sample.sample_custom(model, noise, GUIDANCE, comfy.samplers.sampler_object("ddim"), levels,
                                         positive, negative, torch.zeros_like(noise), disable_pbar=True, seed=SEED)
    return pixels(vae, latents * (1 + sigmas[0] ** 2) ** -0.5)


def by_the_node(model, vae, positive, negative):
    noise = noise_of(1)
    latents = comfy.sample.sample(model, noise, STEPS, GUIDANCE, "ddim", "ddim_uniform", positive, negative,
                                  torch.zeros_like(noise), disable_pbar=True, seed=SEED)
    return pixels(vae, latents)


def run(*arguments) -> None:
    done = subprocess.run([CONES, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"cones {' '.join(map(str, arguments))}:\n{done.stderr}")


def mine(path, kind, out, concepts=(), negative=NEGATIVE, count=1, more=()):
    named = [part for index in concepts for part in ("--concepts", index)]
    run("generate", "--model", path, *predicts(kind), *named, "--raw-prompt", PROMPT, "--negative-prompt", negative,
        "--steps", STEPS, "--seed", SEED, "--count", count, "--sampler", "ddim", "--guidance-scale", GUIDANCE,
        "--size", SIZE, "-o", out / "out.png", *more)
    files = [out / "out.png"] if count == 1 else [out / f"out-{SEED + i}.png" for i in range(count)]
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def predicts(kind):
    return ("--prediction", "v" if kind == "sd2" else "epsilon")


def find(path, kind, noun, token, scope, out):
    index = out / f"{noun}-{scope}.idx"
    more = ["--class-images", PHOTOS / "class"] if scope == "prompt" else []
    run("find", "--model", path, *predicts(kind), "--subject", noun, "--token", token, "--scope", scope, "--steps", 2,
        "--batch", 1, "--seed", 1, "-o", index, *more, PHOTOS / "subject")
    return index


def nodes(out):
    """The nodes, as ComfyUI finds them."""
    folder_paths.folder_names_and_paths["cones"] = ([str(out)], {".idx"})
    spec = importlib.util.spec_from_file_location("cones_nodes", HERE / "__init__.py",
                                                  submodule_search_locations=[str(HERE)])
    package = importlib.util.module_from_spec(spec)
    sys.modules["cones_nodes"] = package
    spec.loader.exec_module(package)
    return {name: node() for name, node in package.NODE_CLASS_MAPPINGS.items()}


def apart(a, b) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def check(kind, out) -> bool:
    good, path = True, out / f"{kind}.safetensors"

    def say(what, distance, far=None):
        nonlocal good
        fine = distance <= 2 and (far is None or far > 2)
        good &= fine
        beside = "" if far is None else f" (plain is {far} away)"
        print(f"{kind}: {what}: {distance}{beside}{'' if fine else ' FAILED'}", flush=True)

    supported.models.insert(0, small(kind))
    make(kind, path)
    model, clip, vae = load(path)
    node = nodes(out)
    texts = encode(clip, PROMPT), encode(clip, NEGATIVE)
    plain, own = theirs(model, vae, *texts), mine(path, kind, out)
    say("plain", apart(own, plain))
    print(f"{kind}: by KSampler's own ddim_uniform: {apart(own, by_the_node(model, vae, *texts))}")

    def applied(indices, strength=1.0, to=(model, clip)):
        concepts = ()
        for index in indices:
            (concepts,) = node["ConesLoadConcept"].load(index.name, strength, concepts)
        return node["ConesApplyConcepts"].apply(*to, concepts)[:2]

    def drawn(indices, negative=NEGATIVE, count=1, strength=1.0):
        shut, marking = applied(indices, strength)
        return theirs(shut, vae, encode(marking, PROMPT), encode(marking, negative), count)

    words = [find(path, kind, *concept, "words", out) for concept in (("dog", "sks"), ("cat", "zwx"))]
    whole = [find(path, kind, *concept, "prompt", out) for concept in (("dog", "sks"), ("cat", "zwx"))]
    one, tuned = out / "merged.idx", out / "tuned.idx"
    run("merge", *words, "-o", one)
    run("merge", *words, "-o", tuned, "--model", path, *predicts(kind), "--tune", 1, "--batch", 1,
        "--images", f"dog={PHOTOS / 'subject'}", "--images", f"cat={PHOTOS / 'subject'}")
    rows = (("two at words", words), ("two in the whole prompt", whole), ("one of each", [words[0], whole[1]]),
            ("merged to one file", [one]), ("tuned", [tuned]))
    for what, indices in rows:
        shown = drawn(indices)
        say(what, apart(mine(path, kind, out, indices), shown), apart(plain, shown))
    say("by a half", apart(mine(path, kind, out, words, more=["--strength", 0.5]), drawn(words, strength=0.5)))
    say("three pictures", apart(mine(path, kind, out, words, count=3), drawn(words, count=3)))
    both = drawn(words, WITH_SUBJECT)
    say("a subject in the negative prompt", apart(mine(path, kind, out, words, WITH_SUBJECT), both))
    shut, marking = applied(words)
    alone = theirs(shut, vae, encode(marking, PROMPT), encode(clip, WITH_SUBJECT))
    say("the same, left as it is: not so", 0, apart(both, alone))
    say("without", apart(plain, theirs(model, vae, *texts)))
    run("export", *whole, "--model", path, *predicts(kind), "--as", "checkpoint", "-o", out / "shut.safetensors")
    model, clip, vae = load(out / "shut.safetensors")
    shown = theirs(model, vae, encode(clip, PROMPT), encode(clip, NEGATIVE))
    say("exported", apart(mine(path, kind, out, whole), shown), apart(plain, shown))
    return good


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    results = []
    for kind in UNETS:
        with tempfile.TemporaryDirectory() as folder:
            results.append(check(kind, pathlib.Path(folder)))
    sys.exit(0 if all(results) else 1)
