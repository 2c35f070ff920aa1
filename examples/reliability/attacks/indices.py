"""Indices, scores, parts, states of unfinished work, prompts and metadata of pictures that lie."""

import hashlib
import json
import pathlib
import shutil
import struct

from . import formats
from .formats import TEXTS, VALUES
from .harness import MINI, PHOTOS, QUICK

# Memory of the program with its model, and the bound of the README beyond the size of a file.
INSPECT, DRAW = 80 << 20, 400 << 20


def shown(world, name, data, **how):
    """An index given to a command that reads one."""
    path = world.write("x.idx", data)
    command = world.chance.choice([
        ["inspect", path], ["inspect", "--json", path], ["inspect", "--dump", path], ["inspect", path, world.index],
        ["inspect", path, "--indices", "plain.safetensors"], ["merge", path, "-o", "m.idx"],
        ["merge", path, world.other, "-o", "m.idx"]])
    world.case(f"{name}: {command[0]}", command, memory=INSPECT + 40 * (len(data) >> 3), given=path, **how)


def bytes_changed(world):
    good = [pathlib.Path(path).read_bytes() for path in (world.index, world.other, world.prompt_index)]
    for i in range(round(400 * world.many)):
        shown(world, f"change {i}", formats.changed(world.chance.choice(good), world.chance))


def checksum_right(world):
    """The container and the checksum are right; what is in it is not."""
    for i in range(round(200 * world.many)):
        metadata, tensors = formats.load(world.chance.choice([world.index, world.other, world.prompt_index]))
        name = world.chance.choice(list(tensors))
        dtype, _, data = tensors[name]
        match world.chance.randrange(4):
            case 0:
                data = formats.changed(data, world.chance)
            case 1:
                data = bytes([world.chance.randrange(256)]) + data[1:]
            case 2:
                data = data[:world.chance.randrange(len(data) + 1)]
            case _:
                tensors[world.chance.choice([name + ".values", "x", "", "../x", name.replace("to_", "to_q_")])] = (
                    dtype, [len(data)], data)
        tensors[name] = (dtype, [len(data)], data)
        shown(world, f"{i}: {name[:40]}", formats.index(metadata, tensors))


def lies_of_metadata(world):
    metadata, tensors = formats.load(world.index)
    texts = [*TEXTS, *map(json.dumps, VALUES), "-1", "1e9", "[" * 10_000, "2", "words", "prompt"]
    lies = [(key, text) for key in [*metadata, "format", "version", "surprise", "a" * 5000] for text in texts]
    for key, text in world.some(lies, 400):
        shown(world, f"{key} = {text[:30]!r}", formats.index({**metadata, key: text}, tensors, sign=key != "sha256"))
    for key in metadata:
        left = {other: text for other, text in metadata.items() if other != key}
        shown(world, f"without {key}", formats.index(left, tensors, sign=key != "sha256"))


def lies_of_headers(world):
    """Offsets, shapes and types that do not fit; lengths; keys twice; deep and broken JSON."""
    metadata, tensors = formats.load(world.index)
    header, body = formats.header_of({**metadata, "sha256": formats.checksum(tensors)}, tensors)
    name = next(iter(tensors))
    places = [way for way in formats.places(header) if way and way[0] == name or way == ()]
    texts = [*map(json.dumps, VALUES), *formats.RAW]
    for way, text in world.some([(way, text) for way in places for text in texts], 250):
        lie = formats.with_value(header, way, text).encode()
        shown(world, f"{way} = {text[:30]}", formats.container(lie, body))
    text = formats.compact(header)
    for length in (0, 1, len(text) - 1, len(text) + 1, len(text) + len(body), 2**31, 2**32, 2**63, 2**64 - 1):
        shown(world, f"length {length}", struct.pack("<Q", length) + text + body)
    for name, odd in {"spaces": text + b" " * 3_000_000, "too long": text + b" " * 5_000_000, "NUL": b"\0" + text,
                      "twice": text[:-1] + b"," + text[1:], "BOM": b"\xef\xbb\xbf" + text, "no UTF-8": text.replace(
                          b"pocket", b"p\xffcket"), "list": b"[" + text + b"]", "empty": b""}.items():
        shown(world, name, formats.container(odd, body))
    for name, odd in {"longer": body + b"x", "shorter": body[:-1], "none": b""}.items():
        shown(world, f"{name} data", formats.container(text, odd))


def subjects(world):
    """Several subjects, with lies of who they are."""
    world.run(["merge", world.index, world.other, "-o", str(world.at / "pair.idx")])
    metadata, tensors = formats.load(world.at / "pair.idx")
    two = json.loads(metadata["subjects"])
    lies = [[], two[:1], two + two, two * 33, two * 500, [{}], [1], [{"noun": "dog"}],
            *([{"noun": text, "token": "sks"}, two[1]] for text in TEXTS),
            *([two[0], {"noun": "cat", "token": text}] for text in TEXTS)]
    for lie in lies:
        text = json.dumps(lie)
        shown(world, f"subjects {text[:40]!r}", formats.index({**metadata, "subjects": text}, tensors))
    names = [name for name in tensors if ".subject." in name or name.endswith(".shared")]
    for name in world.some(names, 20):
        for new in ("2", "-1", "99999999999999999999", "x", "0.0", "01"):
            others = dict(tensors)
            others[name.rsplit(".", 1)[0] + "." + new] = others.pop(name)
            shown(world, f"{name[-12:]} as {new}", formats.index(metadata, others))
    for count in (2, 8, 64, 65, 1000):
        many = [{"noun": f"n{i}", "token": "t"} for i in range(count)]
        site = names[0].split(".subject.")[0].removesuffix(".shared")
        all_of = {site: ("U8", [2], formats.golomb([3], 1))}
        told = [f"{site}.subject.{i}" for i in range(count - 1)] + [f"{site}.shared"]
        all_of |= {name: ("U8", [2], formats.golomb([3], 1)) for name in told}
        all_of = {name: (dtype, [len(data)], data) for name, (dtype, _, data) in all_of.items()}
        shape = json.loads(metadata["shapes"])[site]
        plan = {**metadata, "subjects": json.dumps(many), "subject": ", ".join(one["noun"] for one in many),
                "token": ", ".join("t" for _ in many), "shapes": json.dumps({site: shape}), "shut": "1",
                "total": str(shape[0] * shape[1])}
        path = world.write("many.idx", formats.index(plan, all_of))
        for command in (["inspect", path], ["generate", "a dog", *QUICK, "--concepts", path]):
            world.case(f"{count} subjects: {command[0]}", command, memory=DRAW, limit=10)


def large(world):
    """Files that would grow in memory, or take long."""
    metadata, _ = formats.load(world.index)
    site = next(iter(json.loads(metadata["shapes"])))
    for megabytes, byte in [(mb, byte) for mb in (1, 8, 64) for byte in (0, 255, 85)]:
        bits = 8 * megabytes << 20
        shape = [bits // 4096, 4096]
        body = b"\1" + bytes([byte]) * (bits // 8)
        plan = {**metadata, "shapes": json.dumps({site: shape}), "shut": str(bits), "total": str(bits)}
        path = world.write("large.idx", formats.index(plan, {site: ("U8", [len(body)], body)}))
        most = (64 << 20) + 2 * len(body)
        world.case(f"{megabytes} MB of {byte}", ["inspect", path], memory=most, limit=10 + megabytes)
    with open(world.at / "hole.idx", "wb") as file:
        file.truncate(2 << 30)
    world.case("a hole of 2 GB", ["inspect", str(world.at / "hole.idx")], memory=INSPECT)


def escapes(world):
    """Nothing of a file acts on the terminal, or forges a line."""
    metadata, tensors = formats.load(world.index)
    for key, text in world.some([(key, text) for key in metadata for text in TEXTS if key != "sha256"], 150):
        path = world.write("e.idx", formats.index({**metadata, key: text}, tensors))
        for command in (["inspect", path], ["generate", "a dog", *QUICK, "--concepts", path],
                        ["eval", path, "--images", str(PHOTOS)][:2] + ["--images", "nowhere"]):
            forged = lambda ended: "a line is forged" if "\n  shut         0 of 0" in ended.out else None
            world.case(f"{key} = {text[:20]!r}: {command[0]}", command, check=forged)


def read_again(world):
    """What `merge` writes is read again, or not written."""
    metadata, tensors = formats.load(world.index)
    for count, pictures in [(2, 10), (3, 3000), (8, 9000), (4, 30_000), (20, 5), (64, 2), (65, 2)]:
        files = []
        for i in range(count):
            hashes = [hashlib.sha256(f"{i} {k}".encode()).hexdigest() for k in range(pictures)]
            subject = [{"noun": f"n{i}", "token": "sks"}]
            plan = {**metadata, "pictures": json.dumps(hashes), "subjects": json.dumps(subject),
                    "subject": f"n{i}", "prompts": json.dumps([f"a photo of a sks n{i}"])}
            files.append(world.write(f"p{i}.idx", formats.index(plan, tensors)))
        def read(ended):
            if ended.status == 0 and world.run(["inspect", "m.idx"]).status != 0:
                return "what was written cannot be read"
        world.case(f"{count} of {pictures} pictures", ["merge", *files, "-o", "m.idx"], check=read)


def scores(world):
    """Scores and parts of them, changed."""
    again = ["find", "--density", "0.02", "-o", "s.idx", "--from-scores"]
    good = [pathlib.Path(path).read_bytes() for path in (world.scores, *world.parts)]
    for i in range(round(150 * world.many)):
        which = world.chance.randrange(3)
        path = world.write("x.scores", formats.changed(good[which][:200_000], world.chance))
        files = [path] if which == 0 else [path, world.parts[2 - which]]
        world.case(f"change {i}", [*again, *files], given=path)
    for which, source in enumerate((world.scores, *world.parts)):
        metadata, tensors = formats.load(source)
        for key in metadata:
            about = json.loads(metadata[key]) if metadata[key].startswith("{") else metadata[key]
            for name, text in world.some(formats.json_changes(about, 12, world.chance), 60):
                path = world.write("x.scores", formats.container(*formats.header_of({**metadata, key: text}, tensors)))
                files = [path] if which == 0 else [path, world.parts[2 - which]]
                world.case(f"{which}: {key} {name}", [*again, *files], given=path)
    one, two = world.parts
    wrong = [[one], [one, one], [two, one, two], [one, world.scores], [world.index], [one, "nowhere"], ["/dev/zero"]]
    for files in wrong:
        world.case(f"{len(files)} files", [*again, *files], want=(1,))


def states(world):
    """What a killed run left, changed; and other things in its place."""
    find = ["find", "--subject", "dog", "--batch", "1", "--steps", "40", "--model", str(MINI), "-o", "o.idx",
            world.mini_photos]
    often = {"CONES_STATE_SECONDS": "0"}
    world.clear()
    world.run(find)
    want, part = (world.out / "o.idx").read_bytes(), world.out / "o.idx.part"
    world.clear()
    run = world.start(find, environment=often)
    while run.poll() is None and not (part.is_file() and part.stat().st_size > 0):
        pass
    run.signal(9)
    run.end()
    good = part.read_bytes()

    def try_with(name, make, may_differ=False):
        world.clear()
        make()
        before = part.read_bytes() if part.is_file() and not part.is_symlink() else None
        ended = world.run(find, environment=often)
        now = part.read_bytes() if part.is_file() and not part.is_symlink() else None
        other = ended.status == 0 and not may_differ and (world.out / "o.idx").read_bytes() != want
        problem = "another result" if other else "the state was changed" if ended.status and before != now else None
        if part.exists() or part.is_symlink():
            shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink()
        world.judge(name, ended, check=lambda _: problem)

    try_with("left as it is", lambda: part.write_bytes(good))
    for i in range(round(40 * world.many)):
        data, sealed = formats.changed(good, world.chance), world.chance.randrange(2) == 1
        if sealed:
            data = data[:-32] + hashlib.sha256(data[:-32]).digest()
        try_with(f"change {i}", lambda: part.write_bytes(data), may_differ=sealed)
    for name, data in {"empty": b"", "one byte": b"c", "another version": good.replace(b"part 1", b"part 2", 1),
                       "zeros": bytes(10_000), "half": good[:len(good) // 2]}.items():
        try_with(name, lambda: part.write_bytes(data))
    try_with("a folder", part.mkdir)
    try_with("a link", lambda: part.symlink_to(world.index))
    try_with("a dangling link", lambda: part.symlink_to("nowhere"))


def prompt_files(world):
    """Files of prompts."""
    files = {"empty": b"", "newlines": b"\n" * 1000, "no UTF-8": b"\xff\xfe\n", "NUL": b"\0",
             "long line": b"x" * 11_000, "many": b"dog\n" * 10_001, "brackets": b"(" * 5000,
             "weights": b"(dog:1e999)\n(dog:nan)\n[[[[dog]]]]:9",
             "networks": b"<lora:x:1>", "braces": b"{}" * 2000, "escapes": "".join(TEXTS[:12]).encode(),
             "nouns": b"dog " * 2400, "comment": b"# x", "one": b"a dog", "bidi": "\u202edog".encode()}
    for name, data in files.items():
        path = world.write("prompts.txt", data)
        draw = ["generate", "--prompts", path, *QUICK, "--concepts", world.index]
        # As many prompts may be drawn, in their time.
        for command in (draw if name != "many" else [*draw, "--dry-run"],
                        ["eval", world.index, "--images", world.photos, "--prompts", path, "--count", "2", *QUICK,
                         "--loss-draws", "0", "--class-images", world.photos]):
            world.case(f"{name}: {command[0]}", command, limit=60)


def pictures_again(world):
    """`--from` and `inspect` of pictures whose metadata lie."""
    good = pathlib.Path(world.at / "good.png").read_bytes()
    chunks = formats.chunks_of(good)
    at = next(i for i, (_, data) in enumerate(chunks) if data.startswith(b"cones\0"))
    kind, data = chunks[at]
    start = data.index(b"{")
    value = json.loads(data[start:])
    for name, text in world.some(formats.json_changes(value, 40, world.chance), 150):
        lie = (kind, data[:start] + text.encode("utf-8", "replace"))
        path = world.write("x.png", formats.png([*chunks[:at], lie, *chunks[at + 1:]]))
        for command in (["generate", "--from", path, "-o", "o.png"], ["inspect", path]):
            world.case(f"{name[:60]}: {command[0]}", command, want=(0, 1, 2), given=path)
    for i in range(round(60 * world.many)):
        path = world.write("x.png", formats.changed(good, world.chance))
        world.case(f"change {i}", ["generate", "--from", path, "-o", "o.png"], want=(0, 1, 2), given=path)


KINDS = {
    "index: bytes changed": bytes_changed, "index: checksum right": checksum_right, "index: metadata": lies_of_metadata,
    "index: header": lies_of_headers, "index: subjects": subjects, "index: large": large, "index: escapes": escapes,
    "index: merged and read again": read_again, "scores and parts": scores, "unfinished work": states,
    "prompt files": prompt_files, "pictures drawn again": pictures_again,
}
