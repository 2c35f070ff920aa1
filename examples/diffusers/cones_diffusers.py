"""Shuts concepts of `cones` in a pipeline of diffusers: Stable Diffusion 1.x, 2.x and XL.

    from cones_diffusers import shut
    pipe = StableDiffusionPipeline.from_pretrained(MODEL)
    concepts = shut(pipe, "dog.idx", "cat.idx")
    pipe("a photo of a sks dog and a sks cat in a park", generator=torch.Generator("cpu").manual_seed(7)).images[0]
    concepts.undo()

Neurons of scope `words` are shut at the subject's own words alone, wherever the prompt, or the negative one, has
them; those of scope `prompt` in the whole prompt; with `strength=0.5` by a half. Write the subjects as
`concepts.phrases` says: `sks dog`. Words are put into no prompt here. Several prompts, several pictures of each, and
guidance work as ever; embeddings in place of a prompt do not, for they do not say where the words are.

What K and V give at the words is exchanged behind the layers `to_k` and `to_v`, so that every attention processor
works. This file needs numpy, torch and diffusers, and reads an index by itself. It trusts the file to be one that
`cones` wrote.
"""

import functools
import inspect
import json
import re
import unicodedata

import numpy as np
import torch

# --------------------------------------------------- the same text in ../comfyui/cones_comfyui.py: a test compares


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


def fold(text: str) -> str:
    """Texts are compared without regard to case, and to how white space and accents are written."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).lower()


def spans(text: str, phrases: list[str]) -> list[list[tuple[int, int]]]:
    """For each phrase where it stands in a folded text: as whole words, a longer phrase before a shorter one."""
    found, taken = [[] for _ in phrases], []
    for k in sorted(range(len(phrases)), key=lambda k: -len(phrases[k])):
        # A word ends where letters, digits, _ and hyphens between them end.
        words = r"(?<!\w)(?<!\w-)" + re.escape(fold(phrases[k])) + r"(?!\w)(?!-\w)"
        for match in re.finditer(words, text):
            if all(match.end() <= a or match.start() >= b for a, b in taken):
                taken.append(match.span())
                found[k].append(match.span())
    return found


def word_tokens(tokenizer, prompt: str, phrases: list[str]) -> np.ndarray:
    """For each phrase which of the prompt's tokens are its words: bool [phrases, tokens]."""
    length = tokenizer.model_max_length
    count = lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)
    text, mask = fold(prompt), np.zeros((len(phrases), length), dtype=bool)
    for k, places in enumerate(spans(text, phrases)):
        for start, end in places:
            first = 1 + count(text[:start])  # behind the start token
            mask[k, first : min(first + count(text[start:end]), length - 1)] = True
    return mask


class Shut:
    """What `shut` did: `phrases` are the words of the subjects, and `undo()` takes everything back."""

    def __init__(self, pipe, paths, strength):
        self.strength = strength
        self.pipe, self.hooks, self.stored, self.words = pipe, [], {}, None
        concepts = [Index(path) for path in paths]
        self.phrases = [phrase for c in concepts if c.at_words for phrase in c.phrases()]
        others = [phrase for c in concepts if not c.at_words for phrase in c.phrases()]
        self.known = self.phrases + others  # the others keep their words
        layers = dict(pipe.unet.named_modules())
        for concept in concepts:
            for name, (shape, *_) in concept.sites.items():
                layer = layers.get(name.removesuffix(".weight"))
                if layer is None or list(layer.weight.shape) != shape:
                    raise ValueError(f"the index is of another model: no {name} of shape {shape} in this one")
        # In the whole prompt first: at a subject's own words its own are shut besides.
        for concept in (c for c in concepts if not c.at_words):
            for name, (_, places, values, _) in concept.sites.items():
                weight = layers[name.removesuffix(".weight")].weight
                # What several concepts shut is shut once.
                before = self.stored.setdefault(name, weight.detach().clone())
                self._put(weight, places, values, before)
        own, number = {}, 0  # by site: the number of a subject, and its weight
        for concept in (c for c in concepts if c.at_words):
            for k in range(len(concept.subjects)):
                for name, (_, places, values, owners) in concept.sites.items():
                    if len(owners[k]):
                        weight = layers[name.removesuffix(".weight")].weight.detach().clone()
                        self._put(weight, places[owners[k]], values[owners[k]], weight)
                        own.setdefault(name, []).append((number, weight))
                number += 1
        for name, weights in own.items():
            layer = layers[name.removesuffix(".weight")]
            self.hooks.append(layer.register_forward_hook(functools.partial(self._at_words, weights=weights)))
        if own:
            self.encode = pipe.encode_prompt
            pipe.encode_prompt = self._encode

    @torch.no_grad()
    def _put(self, weight, places, values, before):
        places, values = (torch.as_tensor(part, device=weight.device) for part in (places, values))
        old = before.view(-1)[places].float()
        weight.view(-1)[places] = ((1 - self.strength) * old + self.strength * values).to(weight.dtype)

    def _encode(self, *args, **kwargs):
        """`encode_prompt`, noting where the words are."""
        given = inspect.signature(self.encode).bind(*args, **kwargs).arguments
        prompt, n = given.get("prompt"), given.get("num_images_per_prompt", 1)
        if prompt is None:
            raise ValueError("shut neurons at words: give a prompt, not its embeddings")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        negative = given.get("negative_prompt") or ""
        negatives = [negative] * len(prompts) if isinstance(negative, str) else list(negative)
        rows = lambda texts: np.stack([word_tokens(self.pipe.tokenizer, t, self.known) for t in texts]).repeat(n, 0)
        self.words = torch.from_numpy(np.concatenate([rows(negatives), rows(prompts)]))  # [rows, phrases, tokens]
        return self.encode(*args, **kwargs)

    def _at_words(self, layer, inputs, output, weights):
        """K or V, `[b, t, c]`: at the words of each subject by its own weight."""
        x, words = inputs[0], self.words
        if words is None or x.shape[1] != words.shape[2]:
            raise ValueError("shut neurons at words: give a prompt that fits into the model's text length")
        if x.shape[0] * 2 == words.shape[0]:
            words = words[x.shape[0] :]  # without guidance there is no negative prompt
        for number, weight in weights:
            mask = words[:, number, :, None].to(x.device)
            output = torch.where(mask, torch.nn.functional.linear(x, weight.to(x), layer.bias), output)
        return output

    @torch.no_grad()
    def undo(self):
        """The pipeline is as it was."""
        for hook in self.hooks:
            hook.remove()
        if "encode_prompt" in vars(self.pipe):
            del self.pipe.encode_prompt
        for name, weight in self.stored.items():
            self.pipe.unet.get_parameter(name).copy_(weight)
        self.hooks, self.stored = [], {}


def shut(pipe, *paths: str, strength: float = 1.0) -> Shut:
    """Shuts the neurons of these indices together, as far as `strength` says, from 0 to 1."""
    return Shut(pipe, paths, strength)
