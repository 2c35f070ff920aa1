"""Concepts of `cones` in ComfyUI: Stable Diffusion 1.x, 2.x and XL.

    cp -r examples/comfyui ComfyUI/custom_nodes/cones     and put indices (`.idx`) into ComfyUI/models/cones

*Load Concept* reads an index; further ones are chained by its input `concepts`. *Apply Concepts* takes the model and
the CLIP of a checkpoint, as a LoRA loader does, and gives both back. Encode prompts with that CLIP, and write the
subjects as its output `words` says: `sks dog`. Words are put into no prompt here.

Neurons of scope `words` are shut at the subject's own words alone, wherever a prompt has them that this CLIP encoded:
give the negative prompt the checkpoint's own CLIP, and it stays as it is in any case. Those of scope `prompt` are shut
for all prompts: that is a patch of the weights. A word is what CLIP's tokens show as one: here a hyphen ends it.

What K and V give at the words is exchanged behind the layers `to_k` and `to_v`, with the weights that they have then,
so that it goes together with LoRAs, ControlNets and other attention patches. This file needs what ComfyUI has, and
reads an index by itself. It trusts the file to be one that `cones` wrote.
"""

import functools
import json
import logging
import os

import comfy.conds
import comfy.ops
import comfy.patcher_extension
import comfy.utils
import comfy.weight_adapter
import folder_paths
import numpy as np
import torch

# ------------------------------------------------- the same text in ../diffusers/cones_diffusers.py: a test compares


def indices(data: bytes) -> list[int]:
    """Golomb coded gaps: a byte for the parameter m, then for each gap q ones, a zero, and the remainder."""
    if not data:
        return []
    m = (4 + data[0] % 4) << (data[0] // 4 - 1) if data[0] > 3 else data[0]
    bits = "".join(f"{byte:08b}" for byte in data[1:])
    width, at, index, out = m.bit_length() - 1, 0, -1, []
    while (zero := bits.find("0", at)) >= 0:
        rest, end = int("0" + bits[zero + 1 : zero + 1 + width], 2), zero + 1 + width
        if rest >= (2 << width) - m:
            rest, end = 2 * rest + int(bits[end]) - (2 << width) + m, end + 1
        index, at = index + (zero - at) * m + rest + 1, end
        out.append(index)
    return out


class Index:
    """An index file: for each site the places of neurons, the values that they take, and whose they are."""

    def __init__(self, path: str):
        file = open(path, "rb").read()
        start = 8 + int.from_bytes(file[:8], "little")
        header = json.loads(file[8:start])
        notes = header.pop("__metadata__", {})
        if notes.get("format") != "cones.index" or notes.get("version") != "1":
            raise ValueError(f"{path}: expected an index of cones, version 1")
        part = {name: file[start + t["data_offsets"][0] : start + t["data_offsets"][1]] for name, t in header.items()}
        self.subjects = json.loads(notes["subjects"])
        self.at_words = notes.get("scope") == "words"
        self.sites = {}  # by name: shape, places, values, and for each subject the numbers of its places
        for name, shape in json.loads(notes["shapes"]).items():
            places = np.array(indices(part[name]), dtype=np.int64)
            values = np.zeros(len(places), dtype=np.float32)
            if name + ".values" in part:
                values = np.frombuffer(part[name + ".values"], dtype="<f2").astype(np.float32)
            own = [np.arange(len(places))] * len(self.subjects)
            if name + ".shared" in part:  # of the last subject is said which it has of those that others have
                own = [indices(part[f"{name}.subject.{k}"]) for k in range(len(own) - 1)]
                others = sorted(set().union(*own))
                shared = [others[k] for k in indices(part[name + ".shared"])]
                own.append(sorted({*range(len(places))} - set(others) | set(shared)))
                own = [np.array(o, dtype=np.int64) for o in own]
            self.sites[name] = (shape, places, values, own)

    def phrases(self) -> list[str]:
        return [" ".join(f"{s['token']} {s['noun']}".split()) for s in self.subjects]


# --------------------------------------------------------------------------------------------------- end of that text

# What a conditioning calls the mask of its words, f32 [1, tokens, subjects].
KEY = "cones_words"
# The token that ends a text.
END = 49407
FOLDER = os.path.join(folder_paths.models_dir, "cones")
folder_paths.folder_names_and_paths.setdefault("cones", ([FOLDER], {".idx"}))


class Neurons(comfy.weight_adapter.WeightAdapterBase):
    """Neurons of one layer, the values that they take, and how far each goes there. A patch of weights, too."""

    name = "cones"

    def __init__(self, places: np.ndarray, values: np.ndarray, shares: np.ndarray):
        self.loaded_keys = set()
        self.weights = [torch.from_numpy(np.ascontiguousarray(a)) for a in (places, values, shares)]

    def put(self, weight: torch.Tensor) -> torch.Tensor:
        """Changes a weight in place."""
        self.weights = [part.to(weight.device) for part in self.weights]
        places, values, shares = self.weights
        flat = weight.view(-1)
        flat[places] = ((1 - shares) * flat[places].float() + shares * values).to(weight.dtype)
        return weight

    def calculate_weight(self, weight, key, strength, *args, **kwargs):
        return self.put(weight)


class Concept:
    """An index, and how far its neurons are shut."""

    def __init__(self, path: str, strength: float):
        self.index, self.strength = Index(path), strength

    def neurons(self, subject: int | None = None):
        """For each site with neurons, of one subject or of all: its name, and places, values and shares."""
        for name, (_, places, values, own) in self.index.sites.items():
            chosen = slice(None) if subject is None else own[subject]
            places, values = places[chosen], values[chosen]
            if len(places):
                yield name, (places, values, np.full(len(places), self.strength, dtype=np.float32))


def last_of_each(parts: list[tuple]) -> Neurons:
    """Neurons of several concepts at one site: what several shut is shut once, as the last one has it."""
    places, values, shares = (np.concatenate(part) for part in zip(*parts))
    places, at = np.unique(places[::-1], return_index=True)
    at = len(values) - 1 - at
    return Neurons(places, values[at], shares[at])


class AtWords:
    """Around a pass of the UNet: behind each layer, what it gives at a subject's words is the subject's own."""

    def __init__(self, layers: dict[str, list[tuple[int, Neurons]]]):
        self.layers = layers

    def __call__(self, executor, x, timesteps, context, y, control, transformer_options, **kwargs):
        words = kwargs.pop(KEY, None)  # [rows, tokens, subjects]
        if words is None and 0 in transformer_options.get("cond_or_uncond", []):
            raise ValueError("Apply Concepts: the prompt was encoded with another CLIP: take the one that it gave")
        hooks = []
        try:
            if words is not None and (words > 0.5).any():
                for name, own in self.layers.items():
                    layer = executor.class_obj.get_submodule(name)
                    hook = functools.partial(self.at_words, own=own, words=words > 0.5)
                    hooks.append(layer.register_forward_hook(hook))
            return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()

    @staticmethod
    def at_words(layer, inputs, output, own, words):
        """K or V, [rows, tokens, width]: at the words of each subject by its own weight."""
        x = inputs[0]
        if x.shape[:2] != words.shape[:2]:
            raise ValueError("Apply Concepts: a conditioning is longer than its prompt: join texts, not conditionings")
        weight, bias = comfy.ops.cast_bias_weight(layer, x)
        for number, neurons in own:
            given = torch.nn.functional.linear(x, neurons.put(weight.clone()), bias)
            output = torch.where(words[:, :, number, None], given, output)
        return output


class MarkingEncoder:
    """A text encoder that also says where subjects have their words: a mask in the conditioning."""

    def __init__(self, encoder, tokenizer, marked: list[str], others: list[str]):
        self.encoder, self.marked = encoder, len(marked)
        self.phrases = [content(tokenizer.tokenize_with_weights(escaped(p)))[1] for p in marked + others]
        # A longer phrase comes before a shorter one that is in it.
        self.order = sorted(range(len(self.phrases)), key=lambda k: -len((marked + others)[k]))
        towers = (getattr(tokenizer, name, None) for name in ("clip_l", "clip_h", "clip_g"))
        self.vocabulary = next(tower for tower in towers if tower is not None).inv_vocab

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def encode_token_weights(self, tokens):
        cond, pooled, *more = self.encoder.encode_token_weights(tokens)
        extra = dict(more[0]) if more else {}
        words = comfy.conds.CONDCrossAttn(self.words(tokens, cond.shape[1]))
        extra["model_conds"] = {**extra.get("model_conds", {}), KEY: words}
        return cond, pooled, extra

    def words(self, tokens, length: int) -> torch.Tensor:
        """The mask of a text of so many tokens."""
        places, ids = content(tokens)
        mask, taken = torch.zeros(1, length, self.marked), set()
        for k in self.order:
            phrase = self.phrases[k]
            for start in range(len(ids) - len(phrase) + 1):
                span = range(start, start + len(phrase))
                begins = start == 0 or self.ends_word(ids[start - 1])
                if begins and ids[start : span.stop] == phrase and taken.isdisjoint(span):
                    taken.update(span)
                    if k < self.marked:
                        mask[0, [places[at] for at in span], k] = 1
        return mask

    def ends_word(self, token: int | None) -> bool:
        return token is None or self.vocabulary[token].endswith("</w>")


def escaped(text: str) -> str:
    return text.replace("(", "\\(").replace(")", "\\)")


def content(tokens) -> tuple[list[int], list]:
    """The tokens of a text, in all its chunks, without those of starts and ends: their places, and their numbers; what
    an embedding takes the place of is `None`."""
    found = []
    for chunks in tokens.values():
        places, ids, at = [], [], 0
        for chunk in chunks:
            for place, (token, *_) in enumerate(chunk[1:], at + 1):
                number = int(token) if isinstance(token, (int, np.integer)) else None
                if number == END:
                    break
                places.append(place)
                ids.append(number)
            at += len(chunk)
        found.append((places, ids))
    if any(other != found[0] for other in found[1:]):
        raise ValueError("Apply Concepts: the two text encoders have their words in different places")
    return found[0]


class LoadConcept:
    @classmethod
    def INPUT_TYPES(cls):
        strength = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05})
        files = (folder_paths.get_filename_list("cones"),)
        return {"required": {"file": files, "strength": strength}, "optional": {"concepts": ("CONES_CONCEPTS",)}}

    RETURN_TYPES, RETURN_NAMES = ("CONES_CONCEPTS",), ("concepts",)
    FUNCTION, CATEGORY = "load", "loaders/cones"
    DESCRIPTION = "Reads an index of cones (models/cones), behind the concepts that are there already."

    @classmethod
    def IS_CHANGED(cls, file, strength, concepts=None):
        path = folder_paths.get_full_path_or_raise("cones", file)
        return f"{path} {os.path.getmtime(path)} {strength}"

    def load(self, file, strength, concepts=()):
        return ([*concepts, Concept(folder_paths.get_full_path_or_raise("cones", file), strength)],)


class ApplyConcepts:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "clip": ("CLIP",), "concepts": ("CONES_CONCEPTS",)}}

    RETURN_TYPES, RETURN_NAMES = ("MODEL", "CLIP", "STRING"), ("model", "clip", "words")
    FUNCTION, CATEGORY = "apply", "loaders/cones"
    DESCRIPTION = (
        "Shuts the neurons of concepts, each at its subject's words or in the whole prompt. Encode prompts with the "
        "CLIP that this gives, with the subjects written as `words` says."
    )

    def apply(self, model, clip, concepts):
        wrapper = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
        if model.get_wrappers(wrapper, KEY) or isinstance(clip.cond_stage_model, MarkingEncoder):
            raise ValueError("Apply Concepts: once is enough: chain the nodes Load Concept in place of these")
        names = self.layers(model, concepts)
        model, clip = model.clone(), clip.clone()
        # In the whole prompt: a patch of weights.
        whole, own, number = {}, {}, 0
        for concept in concepts:
            if not concept.index.at_words:
                for site, part in concept.neurons():
                    whole.setdefault(names[site], []).append(part)
                continue
            for k in range(len(concept.index.subjects)):
                for site, part in concept.neurons(k):
                    own.setdefault(names[site], []).append((number, Neurons(*part)))
                number += 1
        patches = {f"diffusion_model.{name}.weight": last_of_each(parts) for name, parts in whole.items()}
        if len(model.add_patches(patches)) != len(patches):
            raise ValueError("Apply Concepts: the model does not take patches of these weights")
        # At words: around each pass, with what the text encoder marks.
        marked = [phrase for c in concepts if c.index.at_words for phrase in c.index.phrases()]
        others = [phrase for c in concepts if not c.index.at_words for phrase in c.index.phrases()]
        if marked:
            model.add_wrapper_with_key(wrapper, KEY, AtWords(own))
            clip.cond_stage_model = MarkingEncoder(clip.cond_stage_model, clip.tokenizer, marked, others)
        logging.info("cones: %s", ", ".join(marked + others))
        return model, clip, ", ".join(marked + others)

    @staticmethod
    def layers(model, concepts) -> dict[str, str]:
        """For each site, which is named as diffusers names its weight, the layer of this model."""
        theirs = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
        names = {}
        for concept in concepts:
            for site, (shape, *_) in concept.index.sites.items():
                name = theirs.get(site, "").removesuffix(".weight")
                layer = model.model.diffusion_model.get_submodule(name) if name else None
                if layer is None or list(layer.weight.shape) != shape:
                    found = "none" if layer is None else list(layer.weight.shape)
                    raise ValueError(f"Apply Concepts: expected an index of this model, found one of another: {site} "
                                     f"is of shape {shape} in it, and {found} here")
                names[site] = name
        return names


NODE_CLASS_MAPPINGS = {"ConesLoadConcept": LoadConcept, "ConesApplyConcepts": ApplyConcepts}
NODE_DISPLAY_NAME_MAPPINGS = {"ConesLoadConcept": "Load Concept", "ConesApplyConcepts": "Apply Concepts"}
