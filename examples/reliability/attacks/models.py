"""Models and encoders whose files are damaged, hostile, or changed during a run."""

import json
import os
import pathlib
import struct
import time

from . import formats
from .harness import MINI, POCKET, QUICK

UNET = "unet/diffusion_pytorch_model.safetensors"
WEIGHTS = [UNET, "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"]
DRAW = ["generate", "a photo of a dog", *QUICK, "--size", "16", "-o", "o.png", "--model"]


def find(world, model):
    return ["find", "--subject", "dog", *QUICK, "--batch", "1", "-o", "o.idx", world.mini_photos, "--model", str(model)]


def use(world, model, name, **how):
    """Draws with a model, or now and then finds with it."""
    if world.chance.randrange(4) == 0:
        return world.case(f"{name}: find", find(world, model), **how)
    return world.case(f"{name}: generate", [*DRAW, str(model)], **how)


def values(world):
    """Every place of every JSON file with every value."""
    for of in (MINI, POCKET / "model"):
        model = world.model(of=of)
        files = [path for path in model.rglob("*.json") if "token" not in path.name and path.name != "vocab.json"]
        for path in sorted(file for file in files if "clip" not in str(file.relative_to(model))):
            good = path.read_text()
            changes = formats.json_changes(json.loads(good), 100, world.chance)
            for name, text in world.some(changes, 90 if of == MINI else 30):
                path.write_text(text, errors="replace")
                use(world, model, f"{path.relative_to(model)}: {name[:60]}", given=path)
            path.write_text(good)


def single_file(world):
    """The header of a file, with the bytes behind it as they were."""
    model = world.model()
    for file in WEIGHTS:
        path = model / file
        good = path.read_bytes()
        metadata, tensors = formats.load(path)
        header, body = formats.header_of(metadata or None, tensors)
        names = world.some(tensors, 12)
        for name in names:
            dtype, shape, data = tensors[name]
            others = {other: tensors[other] for other in tensors if other != name}
            tries = {"missing": others, "extra": {**tensors, name + ".x": (dtype, shape, data)},
                     "no numbers": {**others, name: (dtype, [0], b"")},
                     "turned": {**others, name: (dtype, shape[::-1] + [1], data)},
                     "scalar": {**others, name: (dtype, [], data[:formats.SIZES[dtype]])},
                     "whole numbers": {**others, name: ("I64", [len(data) // 8], data[:len(data) // 8 * 8])},
                     "U8": {**others, name: ("U8", [len(data)], data)}}
            for what, lie in tries.items():
                path.write_bytes(formats.container(*formats.header_of(metadata or None, lie)))
                use(world, model, f"{name[-40:]} {what}")
            for way in [(name, "shape"), (name, "dtype"), (name, "data_offsets"), (name, "data_offsets", 1)]:
                for text in world.some([*map(json.dumps, formats.VALUES), *formats.RAW], 6):
                    path.write_bytes(formats.container(formats.with_value(header, way, text).encode(), body))
                    use(world, model, f"{way[0][-30:]} {way[1:]} = {text[:30]}")
        length = int.from_bytes(good[:8], "little")
        cuts = [0, 1, 7, 8, 9, 8 + length - 1, 8 + length, 9 + length, len(good) - 1]
        cuts += [world.chance.randrange(len(good)) for _ in range(round(12 * world.many))]
        for cut in cuts:
            path.write_bytes(good[:cut])
            use(world, model, f"cut at {cut}")
        for claim in (0, 1, length - 1, length + 1, len(good), 2**31, 2**40, 2**63, 2**64 - 1):
            path.write_bytes(struct.pack("<Q", claim) + good[8:])
            use(world, model, f"header of {claim}")
        for i in range(round(40 * world.many)):
            start = formats.changed(good[:8 + length], world.chance)
            path.write_bytes(start + good[8 + length:])
            use(world, model, f"header, change {i}")
        path.write_bytes(good + b"longer")
        use(world, model, "longer")
        path.write_bytes(good)


def vocabularies(world):
    model = world.model()
    for file in ("tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/tokenizer_config.json",
                 "tokenizer/special_tokens_map.json"):
        path = model / file
        if not path.is_file():
            continue
        good = path.read_bytes()
        odd = [b"", b"\xff", b"{}", b"[]", b"#version: 0.2\n", b"a b\n" * 100_000, b"a\n", b" \n", good * 2, good[:-5],
               good.replace(b"\n", b"\r\n"), b"\0" * 1000]
        for i, data in enumerate(odd + [formats.changed(good, world.chance) for _ in range(round(40 * world.many))]):
            path.write_bytes(data)
            use(world, model, f"{file}: {i}", given=path)
        path.write_bytes(good)


def tokenizers(world):
    """tokenizer.json: every place with every value, parts of other tokenizers, changed bytes; and the same twice."""
    model = world.model(of=POCKET / "model")
    path = model / "tokenizer/tokenizer.json"
    good = json.loads(path.read_text())
    parts = [
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        ("normalizer", {"type": "Replace", "pattern": {"String": ""}, "content": "ab"}),
        ("normalizer", {"type": "Sequence", "normalizers": [
            {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 3}),
        ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}),
        ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}),
        ("post_processor", None), ("post_processor", {"type": "TemplateProcessing", "single": [], "pair": [],
                                                       "special_tokens": {}}),
        ("decoder", {"type": "CTC"}), ("truncation", {"max_length": 0, "strategy": "LongestFirst", "stride": 10}),
        ("padding", {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_id": 0, "pad_type_id": 0,
                     "pad_token": "x", "pad_to_multiple_of": None}),
        ("model", {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}),
        ("model", {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]}),
        ("model", {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 10**9}),
        *(("model", {**good["model"], key: value}) for key, value in [
            ("dropout", 0.5), ("dropout", -1), ("continuing_subword_prefix", "(a+)+$"), ("end_of_word_suffix", ""),
            ("fuse_unk", True), ("byte_fallback", True), ("ignore_merges", True), ("unk_token", "nothing"),
            ("vocab", {}), ("merges", []), ("merges", [["a"]]), ("merges", ["a b c"]), ("vocab", {"a": 2**32}),
            ("vocab", {"a": -1})]),
        ("added_tokens", good["added_tokens"] * 1000), ("added_tokens", []),
    ]
    texts = [(f"{key} {str(value)[:40]}", json.dumps({**good, key: value})) for key, value in parts]
    small = {**good, "model": {key: value for key, value in good["model"].items() if key not in ("vocab", "merges")}}

    def whole(text):
        """The vocabulary back in its place, where the model is an object still."""
        try:
            value = json.loads(text)
            value["model"] = {**{key: good["model"][key] for key in ("vocab", "merges")}, **value["model"]}
            return json.dumps(value)
        except (ValueError, TypeError, KeyError, RecursionError):
            return text

    changes = world.some(formats.json_changes(small, 200, world.chance), 400)
    texts += [(name[:60], whole(text)) for name, text in changes]
    raw = json.dumps(good).encode()
    texts += [(f"change {i}", formats.changed(raw, world.chance)) for i in range(round(80 * world.many))]
    for name, text in texts:
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
        ended = world.case(name, [*DRAW[:-1], "--no-metadata", "--model", str(model)], given=path, limit=10)
        if ended.status == 0:
            first = (world.out / "o.png").read_bytes()
            other = lambda _: None if (world.out / "o.png").read_bytes() == first else "another picture of one seed"
            world.case(f"{name}, again", [*DRAW[:-1], "--no-metadata", "--model", str(model)], check=other, given=path)


def not_finite(world):
    """NaN and infinities are an error, or do not matter: no flat picture, no index of nothing."""
    numbers = {"NaN": float("nan"), "Inf": float("inf"), "-Inf": float("-inf"), "3e38": 3e38}
    model = world.model()
    flat = lambda ended: "a flat picture" if ended.status == 0 and formats.is_flat(world.out / "o.png") else None
    for file in WEIGHTS:
        path = model / file
        metadata, tensors = formats.load(path)
        for name in world.some(tensors, 14):
            dtype, shape, data = tensors[name]
            for said, number in numbers.items():
                for every in (False, True):
                    value = struct.pack("<f", number)
                    lie = value * (len(data) // 4) if every else value + data[4:]
                    lies = {**tensors, name: (dtype, shape, lie)}
                    path.write_bytes(formats.container(*formats.header_of(metadata, lies)))
                    what = f"{name[-40:]} {'all ' if every else ''}{said}"
                    world.case(f"{what}: generate", [*DRAW, str(model)], check=flat)
                    if world.chance.randrange(2):
                        world.case(f"{what}: find", find(world, model))
        path.write_bytes(formats.container(*formats.header_of(metadata, tensors)))


def no_files(world):
    """Named pipes, devices, links, folders in the place of a model's files."""
    for file in [*WEIGHTS, "unet/config.json", "model_index.json", "tokenizer/vocab.json", "tokenizer/merges.txt",
                 "scheduler/scheduler_config.json", "vae/config.json", "text_encoder/config.json"]:
        for what, make in {
            "a named pipe": os.mkfifo, "/dev/zero": lambda path: os.symlink("/dev/zero", path),
            "/dev/null": lambda path: os.symlink("/dev/null", path), "a loop": lambda path: os.symlink(path, path),
            "/dev/random": lambda path: os.symlink("/dev/random", path), "a folder": os.mkdir,
            "a dangling link": lambda path: os.symlink("nowhere", path), "nothing": lambda _: None,
            "/proc/self/mem": lambda path: os.symlink("/proc/self/mem", path),
            "/proc/kmsg": lambda path: os.symlink("/proc/kmsg", path),
            "2 GB of zeros": lambda path: os.truncate(path, 2 << 30) if open(path, "w").close() is None else None,
            "/dev/tty": lambda path: os.symlink("/dev/tty", path),
        }.items():
            model = world.model()
            if (model / file).is_file():
                (model / file).unlink()
                make(model / file)
                # Without an index the folders themselves say what they are.
                none = (0,) if (file, what) == ("model_index.json", "nothing") else (1,)
                world.case(f"{file} is {what}", [*DRAW, str(model)], want=none, limit=10)


def names(world):
    """What `--model` may be."""
    (world.at / "empty").mkdir(exist_ok=True)
    odd = ["", ".", "..", "/", "/dev/null", "/dev/zero", "/proc/self/mem", "nowhere", "a/b", "../..", "a/b/c", "a/b@",
           "@", "a/b@../..", "-", "--", " ", "a\nb", "\x1b[2J/x", "x" * 5000, "https://example.org/x", "hf://a/b",
           "pocket/",
           "Pocket", str(world.at / "empty"), world.index, world.photos, "a/" + "b" * 300, "a/..", "../b", "C:\\x",
           "\u202ea/b", world.scores, str(world.at / "good.png"), "~", "~/x", "file:///", "a//b", "a/b@main@main"]
    for name in odd:
        for option in ("--model", "--encoder", "--vae", "--config", "--variant"):
            if option == "--encoder":
                command = ["eval", world.index, "--images", world.photos, f"--encoder={name}", "--count", "1", *QUICK,
                           "--loss-draws", "0"]
            else:
                command = ["generate", "x", *QUICK, f"{option}={name}"]
            hub = {"HF_HOME": str(world.at / "hub"), "HF_HUB_OFFLINE": "1"}
            world.case(f"{option}={name[:30]!r}", command, want=(0, 1, 2), limit=15, environment=hub)
    cache = world.at / "hub/hub/models--a--b"
    for text in ("../..", "/", "x" * 300, "\0", "", "main\n", "../../../etc"):
        (cache / "refs").mkdir(parents=True, exist_ok=True)
        (cache / "refs/main").write_text(text)
        hub = {"HF_HOME": str(world.at / "hub"), "HF_HUB_OFFLINE": "1"}
        world.case(f"refs/main {text[:20]!r}", ["generate", "x", "--model", "a/b"], want=(1,), environment=hub)


def changed_meanwhile(world):
    """Files made shorter, overwritten, replaced, deleted while they are used."""
    long = ["find", "--subject", "dog", "--steps", "60", "--batch", "1", "-o", "o.idx", world.mini_photos, "--model"]
    many = ["generate", "dog", "--count", "40", "--size", "16", *QUICK, "-o", "o.png", "--model"]
    world.run([*long, str(MINI)])
    want = (world.out / "o.idx").read_bytes()
    for _ in range(max(1, round(world.many))):
        for file in WEIGHTS:
            for what in ("shorter", "empty", "overwritten", "replaced", "deleted"):
                for command in (long, many):
                    model = world.model()
                    path = model / file
                    good = path.read_bytes()
                    world.clear()
                    run = world.start([*command, str(model)], environment={"CONES_STATE_SECONDS": "0"})
                    time.sleep(world.chance.uniform(0.02, 0.6))
                    still = run.poll() is None
                    length = 8 + int.from_bytes(good[:8], "little")
                    changed = bytearray(good[length:])
                    changed[1::4] = bytes(byte ^ 32 for byte in changed[1::4])
                    other = good[:length] + changed
                    match what:
                        case "shorter":
                            os.truncate(path, length + world.chance.randrange(1000))
                        case "empty":
                            os.truncate(path, 0)
                        case "overwritten":
                            with open(path, "r+b") as into:
                                into.write(other)
                        case "replaced":
                            (model / "new").write_bytes(other)
                            (model / "new").rename(path)
                        case _:
                            path.unlink()
                    ended = run.end()
                    for part in world.out.glob("*.part"):
                        part.unlink()
                    def silently(ended):
                        if command is long and ended.status == 0 and still and what != "deleted":
                            found = (world.out / "o.idx").read_bytes()
                            return None if found == want else "another index, and no word of it"
                    world.judge(f"{file} {what}: {command[0]}", ended, check=silently)


def encoders(world):
    """The CLIP encoder of `eval`: configuration, weights, NaN."""
    model = world.model(name="clip", of=POCKET / "model/clip")
    command = ["eval", world.index, "--images", world.photos, "--count", "1", *QUICK, "--loss-draws", "0",
               "--class-images", world.photos, "--encoder", str(model)]
    for file in ("config.json", "preprocessor_config.json"):
        path = model / file
        good = path.read_text()
        for name, text in world.some(formats.json_changes(json.loads(good), 60, world.chance), 120):
            path.write_text(text, errors="replace")
            world.case(f"{file}: {name[:60]}", command, given=path, limit=60)
        path.write_text(good)
    path = model / "model.safetensors"
    good = path.read_bytes()
    length = 8 + int.from_bytes(good[:8], "little")
    for i in range(round(20 * world.many)):
        path.write_bytes(formats.changed(good[:length], world.chance) + good[length:])
        world.case(f"weights, change {i}", command, limit=60)
    metadata, tensors = formats.load(path) if path.write_bytes(good) else (None, None)
    for name in world.some(tensors, 10):
        dtype, shape, data = tensors[name]
        value = struct.pack("<f" if dtype == "F32" else "<e", float("nan"))
        lie = {**tensors, name: (dtype, shape, value * (len(data) // len(value)))}
        path.write_bytes(formats.container(*formats.header_of(metadata, lie)))
        world.case(f"{name[-40:]} NaN", command, want=(1,), limit=60,
                   check=lambda ended: "figures of NaN" if "CLIP-I" in ended.out else None)


KINDS = {
    "model: JSON values": values, "model: weights": single_file, "model: vocabularies": vocabularies,
    "model: tokenizer.json": tokenizers, "model: not finite": not_finite, "model: no files": no_files,
    "model: names": names, "model: changed meanwhile": changed_meanwhile, "eval: encoders": encoders,
}
