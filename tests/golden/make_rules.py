#!/usr/bin/env python3
"""Writes what src/model/text/tokenizer/tests/ and src/model/clip/preprocess/tests.rs compare with: files that disagree,
and which of them transformers believes.

    python tests/golden/make_rules.py       (made with transformers 5.24.0)

published/tokenizers.json   prompts; the files of `base` (beside published/vocab.json and merges.txt); cases, each with
                            the files that it puts beside or in place of those (null: taken away), and `ids` of the
                            prompts, or the `error` that transformers ends with
published/processors.json   a picture; cases, each with files, and `pixels`: a few of them and their sum, or the `error`
"""

import copy
import json
import pathlib
import tempfile

import numpy as np
from byte_pairs import END, START
from make_published import OUT
from PIL import Image
from published_text import MERGES, SIZE, TURBO_TOKENIZER, VOCABULARY, flags, tokenizer, typed
from transformers import CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

CONFIG, MAP, ADDED, JSON = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"
LENGTH = 24

PROMPTS = [
    "",
    "a photo of a dog",
    "a dog! a cat!! wow!dog ! !",
    "a <|endoftext|> dog <|startoftext|> in the snow",
    "<|STARTOFTEXT|> a Dog<|EndOfText|>s",
    "a <sks> dog and a<SKS>cat",
    "a new1 dog, newer new1s",
    "a   !   b  <s> c </s>",
    "a photo of a red dog with a blue hat and a green cup on the beach at night and a cat in the park with a crown",
    "犬の写真 🐶 café naïve",
    "a [MASK] dog <pad> a",
    "snow",
]


def of_json(**changed) -> dict:
    """The tokenizer.json that transformers 5 writes, with keys changed: `a.b` is a key of a key."""
    with tempfile.TemporaryDirectory() as folder:
        CLIPTokenizer(vocab=VOCABULARY, merges=MERGES).save_pretrained(folder)
        value = json.loads((pathlib.Path(folder) / JSON).read_text())
    for key, new in changed.items():
        at = value
        *path, last = key.split("__")
        for part in path:
            at = at[part]
        at[last] = new
    return value


def told(error: Exception, folder: str | pathlib.Path) -> dict:
    """The same in every run, wherever the files lay."""
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    return {"error": line.replace(str(folder), "FOLDER")}


def config(base: dict, **changed) -> dict:
    return {key: value for key, value in (copy.deepcopy(base) | changed).items() if value != "ABSENT"}


def token_cases() -> tuple[dict, dict]:
    base = {
        file.removeprefix("tokenizer/"): value for file, value in tokenizer(None, END, model_max_length=LENGTH).items()
    }
    turbo = {file.removeprefix("tokenizer/"): value for file, value in TURBO_TOKENIZER.items()}
    old, old_map, new = base[CONFIG], base[MAP], turbo[CONFIG] | {"model_max_length": LENGTH}
    c = lambda **k: config(old, **k)
    m = lambda **k: config(old_map, **k)
    n = lambda **k: config(new, **k)
    added = lambda *tokens: [{"id": i, **flags(content, **more)} for i, content, more in tokens]
    swapped = (
        dict(VOCABULARY) | {"dog</w>": VOCABULARY["cat</w>"], "cat</w>": VOCABULARY["dog</w>"]}
        if "cat</w>" in VOCABULARY
        else dict(VOCABULARY) | {"a</w>": VOCABULARY["b</w>"], "b</w>": VOCABULARY["a</w>"]}
    )
    forms = dict(special=True)
    cases = {
        "pad: only the config": {MAP: None, CONFIG: c(pad_token="!")},
        "pad: the map's against the config's": {MAP: m(pad_token="!")},
        "pad: the config's against the map's": {CONFIG: c(pad_token="!")},
        "pad: only the map": {CONFIG: c(pad_token="ABSENT"), MAP: m(pad_token="!")},
        "pad: an object in the map": {MAP: m(pad_token=flags("!", normalized=False))},
        "pad: takes spaces with it": {MAP: m(pad_token=flags("!", lstrip=True, rstrip=True))},
        "pad: a single word": {MAP: m(pad_token=flags("!", single_word=True))},
        "pad: a form in the config": {MAP: None, CONFIG: c(pad_token=typed("!") | {"rstrip": True})},
        "pad: no form where a key is left out": {MAP: m(pad_token={"content": "!"})},
        "pad: not in the vocabulary": {MAP: m(pad_token="<pad>")},
        "pad: null in the map": {MAP: m(pad_token=None)},
        "pad: null in the config, the map's": {CONFIG: c(pad_token=None), MAP: m(pad_token="!")},
        "pad: null in the config": {MAP: None, CONFIG: c(pad_token=None)},
        "no config": {CONFIG: None, MAP: m(pad_token="!")},
        "no config, no map": {CONFIG: None, MAP: None},
        "decoder: the map is not read": {CONFIG: n(pad_token=END), MAP: m(pad_token="a")},
        "decoder: pad special, another pads": {CONFIG: n(pad_token=END), MAP: m(pad_token="!")},
        "decoder: empty": {CONFIG: n(added_tokens_decoder={}), MAP: m(pad_token="a")},
        "decoder: null": {CONFIG: n(added_tokens_decoder=None)},
        "decoder: the form that holds": {CONFIG: n(added_tokens_decoder={"0": flags("!", rstrip=True, special=True)})},
        "decoder: new tokens": {
            CONFIG: n(
                added_tokens_decoder=new["added_tokens_decoder"]
                | {
                    str(SIZE + 1): flags("new1", special=False),
                    str(SIZE): flags("<sks>", normalized=False, special=False),
                }
            )
        },
        "decoder: added_tokens.json is not read": {CONFIG: n(), ADDED: {"<sks>": SIZE}},
        "decoder: added tokens of tokenizer.json are not read": {
            CONFIG: n(),
            JSON: of_json(added_tokens=added((0, "a", forms), (1, "new1", {}))),
        },
        "decoder: a token that is a string": {CONFIG: n(added_tokens_decoder={"0": "!"})},
        "added_tokens.json: new": {ADDED: {"<sks>": SIZE, "new1": SIZE + 1}},
        "added_tokens.json: in order of ids": {ADDED: {"<sks>": SIZE + 1, "new1": SIZE}},
        "added_tokens.json: a special one": {ADDED: {"<sks>": SIZE, END: SIZE - 1}, MAP: m(pad_token="<sks>")},
        "added_tokens.json: an extra one": {
            ADDED: {"<sks>": SIZE},
            MAP: m(additional_special_tokens=["<sks>", "new1"]),
        },
        "added_tokens.json and tokenizer.json": {
            ADDED: {"<sks>": SIZE, "new1": SIZE + 1},
            JSON: of_json(added_tokens=added((SIZE, "new1", forms | {"normalized": False}))),
        },
        "tokenizer.json: its vocabulary holds": {JSON: of_json(model__vocab=swapped)},
        "tokenizer.json: merges as strings": {JSON: of_json(model__merges=[" ".join(pair) for pair in MERGES])},
        "tokenizer.json: merges as pairs": {JSON: of_json(model__merges=[list(pair) for pair in MERGES])},
        "tokenizer.json: its pad token does not hold": {
            JSON: of_json(
                padding={
                    "strategy": {"Fixed": 7},
                    "direction": "Right",
                    "pad_to_multiple_of": 8,
                    "pad_id": 5,
                    "pad_type_id": 0,
                    "pad_token": "a",
                }
            ),
            MAP: m(pad_token="!"),
        },
        "tokenizer.json: pads on the left": {
            JSON: of_json(
                padding={
                    "strategy": "BatchLongest",
                    "direction": "Left",
                    "pad_to_multiple_of": None,
                    "pad_id": 5,
                    "pad_type_id": 0,
                    "pad_token": "a",
                }
            )
        },
        "tokenizer.json: pads on the left, the config on the right": {
            CONFIG: c(padding_side="right"),
            JSON: of_json(
                padding={
                    "strategy": "BatchLongest",
                    "direction": "Left",
                    "pad_to_multiple_of": None,
                    "pad_id": 5,
                    "pad_type_id": 0,
                    "pad_token": "a",
                }
            ),
        },
        "tokenizer.json: cuts on the left, at 8": {
            JSON: of_json(truncation={"direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0})
        },
        "tokenizer.json: another normalizer": {JSON: of_json(normalizer={"type": "Lowercase"})},
        "tokenizer.json: no normalizer, other words": {
            JSON: of_json(normalizer=None, pre_tokenizer={"type": "Whitespace"}, post_processor=None, decoder=None)
        },
        "tokenizer.json: the form of its tokens": {
            JSON: of_json(
                added_tokens=added((0, "!", forms | {"rstrip": True, "normalized": False}), (SIZE - 1, END, forms))
            ),
            MAP: m(pad_token="!"),
        },
        "tokenizer.json: a token that is no role's": {
            JSON: of_json(added_tokens=added((0, "!", forms), (9, "wow", {})))
        },
        "tokenizer.json: unk_token of the config": {JSON: of_json(model__unk_token="a")},
        "side: padding left": {CONFIG: c(padding_side="left")},
        "side: padding left in the map": {MAP: m(padding_side="left")},
        "side: padding in the middle": {CONFIG: c(padding_side="middle")},
        "side: truncation left": {CONFIG: c(truncation_side="left")},
        "side: both left": {CONFIG: c(truncation_side="left", padding_side="left", model_max_length=9)},
        "length: the map's": {MAP: m(model_max_length=16)},
        "length: max_len": {CONFIG: c(model_max_length="ABSENT", max_len=12)},
        "length: both": {CONFIG: c(max_len=12)},
        "roles: start and end change places": {MAP: m(bos_token=END, eos_token=START)},
        "roles: one text in two forms": {
            MAP: m(eos_token=flags(END, normalized=False), unk_token=END, pad_token=flags(END))
        },
        "roles: end is new": {MAP: m(eos_token="</s>")},
        "roles: start is new, in a form": {MAP: m(bos_token=flags("<s>", lstrip=True))},
        "roles: others that CLIP does not use": {
            MAP: m(cls_token="<sks>", mask_token=flags("[MASK]", lstrip=True), sep_token="new1")
        },
        "roles: end is null": {MAP: m(eos_token=None)},
        "roles: start is null in the config": {MAP: None, CONFIG: c(bos_token=None)},
        "roles: unknown is null": {MAP: m(unk_token=None)},
        "roles: an object without its type": {MAP: None, CONFIG: c(pad_token=flags("!"))},
        "roles: a number": {MAP: m(pad_token=0)},
        "extra: in the config": {CONFIG: c(additional_special_tokens=["<sks>", "new1"])},
        "extra: the newer name": {CONFIG: c(extra_special_tokens=["<sks>"], additional_special_tokens=["new1"])},
        "extra: the newer name is empty": {CONFIG: c(extra_special_tokens=[], additional_special_tokens=["new1"])},
        "extra: forms": {
            CONFIG: c(
                additional_special_tokens=[typed("<sks>"), typed("new1") | {"single_word": True, "special": True}]
            )
        },
        "extra: the map's besides the config's": {
            CONFIG: c(extra_special_tokens=["new1"]),
            MAP: m(extra_special_tokens=["<sks>", "new1", flags("wow")]),
        },
        "extra: the map's older name": {MAP: m(additional_special_tokens=["<sks>"])},
        "extra: the map's older name against the config's": {
            CONFIG: c(additional_special_tokens=["new1"]),
            MAP: m(additional_special_tokens=["<sks>"]),
        },
        "extra: null": {CONFIG: c(additional_special_tokens=None, extra_special_tokens=None)},
        "special tokens are split": {CONFIG: c(split_special_tokens=True), MAP: m(pad_token="!")},
        "what changes nothing": {
            CONFIG: c(
                do_lower_case=False,
                add_prefix_space=True,
                errors="strict",
                use_fast=False,
                tokenizer_class="GPT2Tokenizer",
                clean_up_tokenization_spaces=True,
                strip_accents=True,
                add_bos_token=False,
                name_or_path="x",
                vocab_file="nowhere",
                tokenizer_file="nowhere",
            )
        },
    }
    return base, cases


def put(folder: pathlib.Path, files: dict) -> None:
    for file, value in files.items():
        if value is None:
            (folder / file).unlink(missing_ok=True)
        else:
            (folder / file).write_text(json.dumps(value))


def read_tokens(base: dict, files: dict) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for file in ("vocab.json", "merges.txt"):
            (folder / file).write_bytes((OUT / file).read_bytes())
        put(folder, base | files)
        try:
            t = CLIPTokenizer.from_pretrained(folder)
            # Where the files say nothing of it, the text encoder's length holds.
            length = min(t.model_max_length, LENGTH)
            return {"ids": t(PROMPTS, padding="max_length", truncation=True, max_length=length).input_ids}
        except Exception as error:
            return told(error, folder)


PLAIN = {
    "crop_size": 30,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "resample": 3,
    "size": 33,
    "feature_extractor_type": "CLIPFeatureExtractor",
}
FULL = {
    "crop_size": {"height": 30, "width": 30},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_processor_type": "CLIPImageProcessor",
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 33},
}


def processor_cases() -> dict:
    old, new = "preprocessor_config.json", "processor_config.json"
    other = FULL | {"size": {"shortest_edge": 40}, "image_mean": [0.5, 0.5, 0.5]}
    one = lambda **k: {old: config(FULL, **k)}
    return {
        "preprocessor_config.json of 2022": {old: PLAIN},
        "preprocessor_config.json": {old: FULL},
        "processor_config.json alone": {new: {"image_processor": other, "processor_class": "CLIPProcessor"}},
        "both: processor_config.json holds": {
            old: FULL,
            new: {"image_processor": other, "processor_class": "CLIPProcessor"},
        },
        "both: processor_config.json without image_processor": {old: FULL, new: {"processor_class": "CLIPProcessor"}},
        "both: image_processor is null": {old: FULL, new: {"image_processor": None}},
        "processor_config.json without image_processor": {new: {"processor_class": "CLIPProcessor"}},
        "neither": {},
        "size: height and width": one(size={"height": 31, "width": 36}),
        "size: a list": one(size=[31, 36]),
        "size: a number": one(size=32),
        "size: a number, made square": one(size=32, default_to_square=True),
        "size: null": one(size=None),
        "size: absent": {old: {"crop_size": 30}},
        "size: longest edge alone": one(size={"longest_edge": 33}),
        "crop: a number": one(crop_size=30),
        "crop: a list": one(crop_size=[30, 30]),
        "crop: a shortest edge": one(crop_size={"shortest_edge": 30}),
        "crop: null": one(crop_size=None),
        "crop: none, as the size is exact": one(
            size={"height": 30, "width": 30}, do_center_crop=False, crop_size="ABSENT"
        ),
        "crop: null for no, as the size is exact": one(size={"height": 30, "width": 30}, do_center_crop=None),
        "resample: absent": one(resample="ABSENT"),
        "resample: null": one(resample=None),
        "rescale: no": one(do_rescale=False),
        "rescale: null": one(do_rescale=None),
        "rescale: another factor": one(rescale_factor=1 / 127.5),
        "rescale: null factor": one(rescale_factor=None),
        "normalize: no": one(do_normalize=False),
        "normalize: null": one(do_normalize=None),
        "normalize: one number for all": one(image_mean=0.5, image_std=0.25),
        "normalize: null": one(do_normalize=None),
        "normalize: a null mean": one(image_mean=None),
        "flags absent": {old: {"crop_size": 30, "size": 33}},
        "neither rescaled nor normalized": one(do_rescale=False, do_normalize=False),
    }


def read_pixels(picture: Image.Image, files: dict) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        put(pathlib.Path(folder), files)
        try:
            pixels = CLIPImageProcessorPil.from_pretrained(folder)(picture, return_tensors="np").pixel_values[0]
            return {
                "shape": list(pixels.shape),
                "pixels": [float(v) for v in pixels.reshape(-1)[::61]],
                "sum": float(pixels.astype(np.float64).sum()),
            }
        except Exception as error:
            return told(error, folder)


def lines(cases: dict) -> str:
    """A case a line."""
    return (
        "{\n"
        + ",\n".join(f"{json.dumps(name)}: {json.dumps(case, ensure_ascii=False)}" for name, case in cases.items())
        + "\n}\n"
    )


def main() -> None:
    base, cases = token_cases()
    found = {name: {"files": files} | read_tokens(base, files) for name, files in cases.items()}
    for case in found.values():
        if json_file := case["files"].get(JSON):
            # What the file would repeat is not written: null stands for the vocabulary and merges beside it.
            model = json_file["model"]
            if model["vocab"] == VOCABULARY:
                model["vocab"] = None
            if (
                [tuple(pair) for pair in model["merges"]] == MERGES
                and len(case["files"])
                and isinstance(model["merges"][0], list)
            ):
                model["merges"] = None
    plain = found["pad: the map's against the config's"].get("ids")
    for name, case in found.items():
        print(f"{name}: {case.get('error') or ('as the map says' if case['ids'] == plain else 'otherwise')}")
    (OUT / "tokenizers.json").write_text(lines({"prompts": PROMPTS, "length": LENGTH, "base": base, "cases": found}))
    y, x = np.mgrid[0:47, 0:58]
    rgb = np.stack([x * 4 % 256, y * 5 % 256, x * y % 256], -1).astype(np.uint8)
    picture = Image.fromarray(rgb)
    found = {name: {"files": files} | read_pixels(picture, files) for name, files in processor_cases().items()}
    for name, case in found.items():
        print(f"{name}: {case.get('error') or (case['shape'], round(case['sum'], 2))}")
    (OUT / "processors.json").write_text(lines(found))


if __name__ == "__main__":
    main()
