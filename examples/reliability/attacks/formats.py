"""File formats, to make hostile files whose outside is right; and changes of bytes and of JSON."""

import hashlib
import json
import struct
import zlib

SIZES = {"F64": 8, "I64": 8, "F32": 4, "U32": 4, "F16": 2, "BF16": 2, "U8": 1}
# What readers trip over.
VALUES = [None, True, False, 0, -1, 1, 2, 3, 0.5, -0.5, 1e-30, 1e30, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, 2**64 - 1,
          2**64, 10**30, "", "x", "0", "\x1b[2J", "\u202e\n", "é" * 300, "../" * 20, "/dev/zero", [], {}, [0],
          [1, 2, 3], {"a": 1}, [[]], ["x"]]
RAW = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "01", "1.", "+1", "'x'", "nul", "\"\\ud800\"",
       "[" * 200 + "]" * 200, "[" * 100_000, "{\"a\":" * 50_000, "9" * 5000, "\"" + "\\u0000" * 50 + "\""]
TEXTS = ["\x1b]0;title\x07\x1b[2J", "pocket\n  shut         0 of 0 neurons", "\u202etxt.exe", "\u2066x\u2069", "\x9b2J",
         "a\rb", "\u200b", "x" * 100_000, "\x00", "%s%n", "$(reboot)", "`id`", "<script>", "é\u0301" * 50]


def load(path):
    """Metadata and tensors of a safetensors file: name to dtype, shape and bytes."""
    data = open(path, "rb").read()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__", {})
    body = data[8 + length:]
    return metadata, {name: (t["dtype"], t["shape"], body[slice(*t["data_offsets"])]) for name, t in header.items()}


def header_of(metadata, tensors):
    """The header as a dictionary, and the bytes behind it."""
    header, body = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name in sorted(tensors, key=lambda name: (-SIZES[tensors[name][0]], name.encode())):
        dtype, shape, data = tensors[name]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    return header, body


def container(header, body):
    text = header if isinstance(header, bytes) else compact(header)
    return struct.pack("<Q", len(text)) + text + body


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def checksum(tensors):
    """The SHA-256 of an index over its tensors."""
    whole = hashlib.sha256()
    for name in sorted(tensors, key=str.encode):
        dtype, _, data = tensors[name]
        for text in (name.encode(), dtype.encode()):
            whole.update(struct.pack("<Q", len(text)) + text)
        whole.update(struct.pack("<QQ", len(data) // SIZES[dtype], len(data)) + data)
    return whole.hexdigest()


def index(metadata, tensors, sign=True):
    """An index; with its checksum right."""
    metadata = {**metadata, "sha256": checksum(tensors)} if sign else metadata
    return container(*header_of(metadata, tensors))


def golomb(gaps, code):
    """Gaps of sorted indices, as the README has them, by a divisor's code."""
    divisor = (4 + code % 4) << (code // 4 - 1) if code > 3 else code
    width = divisor.bit_length() - 1
    short = (2 << width) - divisor
    bits = []
    for gap in gaps:
        quotient, rest = divmod(gap, divisor)
        low = (format(rest, f"0{width}b") if width else "") if rest < short else format(rest + short, f"0{width + 1}b")
        bits.append("1" * quotient + "0" + low)
    bits = "".join(bits)
    bits += "1" * (-len(bits) % 8)
    return bytes([code]) + bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def chunks_of(data):
    at, found = 8, []
    while at + 8 <= len(data):
        length = int.from_bytes(data[at:at + 4], "big")
        found.append((data[at + 4:at + 8], data[at + 8:at + 8 + length]))
        at += 12 + length
    return found


def plain_png(width=8, height=8, depth=8, color=2, rows=None, interlace=0):
    """A PNG that says what it is told to."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 1)
    row = b"\0" + bytes((width % 4096 * samples * depth + 7) // 8)
    rows = row * (height % 4096) if rows is None else rows
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    palette = [(b"PLTE", bytes(range(48)))] if color == 3 else []
    return png([(b"IHDR", head), *palette, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


def pixels(path):
    """The pixels of an RGB PNG, unfiltered."""
    found = chunks_of(open(path, "rb").read())
    width, height = struct.unpack(">II", found[0][1][:8])
    data = zlib.decompress(b"".join(body for name, body in found if name == b"IDAT"))
    above, out = bytearray(3 * width), bytearray()
    for y in range(height):
        kind, row = data[y * (3 * width + 1)], bytearray(data[y * (3 * width + 1) + 1:(y + 1) * (3 * width + 1)])
        for x in range(len(row)):
            left, up, corner = (row[x - 3], above[x], above[x - 3]) if x > 2 else (0, above[x], 0)
            near = left + up - corner
            paeth = min((abs(near - left), 0, left), (abs(near - up), 1, up), (abs(near - corner), 2, corner))[2]
            row[x] = (row[x] + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
        out += row
        above = row
    return bytes(out)


def is_flat(path):
    data = pixels(path)
    return all(data[i::3].count(data[i]) == len(data) // 3 for i in range(3))


def is_whole(path):
    """Whether a file is complete, by what it says of itself."""
    data = path.read_bytes()
    if path.suffix == ".png":
        return data.startswith(b"\x89PNG") and data.endswith(b"IEND\xaeB`\x82")
    if path.suffix in (".idx", ".safetensors", ".scores"):
        try:
            length = int.from_bytes(data[:8], "little")
            header = json.loads(data[8:8 + length])
            ends = [value["data_offsets"][1] for name, value in header.items() if name != "__metadata__"]
            return len(data) == 8 + length + max(ends, default=0)
        except (ValueError, KeyError):
            return False
    if path.suffix == ".part" and data:
        return data.startswith(b"cones.part ") and hashlib.sha256(data[:-32]).digest() == data[-32:]
    return True


def changed(data, chance):
    """Bytes with one to four changes."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice([1, 4, 64, 1000]))
        match chance.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(data):
                data[at] = chance.choice([0, 1, 32, 34, 127, 128, 255])
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = data[at:end] * chance.choice([1, 2, 50])
            case 4:
                data[at:at] = bytes(chance.randrange(256) for _ in range(end - at))
            case 5:
                number = chance.choice([0, 1, 255, 2**16, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1])
                data[at:at + 8] = struct.pack(chance.choice("<>") + "Q", number)
            case _:
                del data[at:]
    return bytes(data)


def places(value, way=()):
    """Every place in a JSON value."""
    yield way
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*way, key))


MARK = "@@raw@@"


def with_value(value, way, new):
    """A JSON text with another value at a place; `new` may be text that is no JSON."""
    value = json.loads(json.dumps(value))
    if way:
        at = value
        for key in way[:-1]:
            at = at[key]
        at[way[-1]] = MARK
    else:
        value = MARK
    return json.dumps(value).replace(json.dumps(MARK), new, 1)


def without(value, way):
    value = json.loads(json.dumps(value))
    at = value
    for key in way[:-1]:
        at = at[key]
    del at[way[-1]]
    return json.dumps(value)


def json_changes(value, most_places, chance):
    """Texts of a JSON value with one place changed: what was done, and the text."""
    ways = list(places(value))
    for way in ways if len(ways) <= most_places else chance.sample(ways, most_places):
        name = ".".join(map(str, way))
        for new in [*map(json.dumps, VALUES), *RAW]:
            yield f"{name} = {new[:40]}", with_value(value, way, new)
        if way:
            yield f"{name} left out", without(value, way)
            key = json.dumps(str(way[-1]))
            if isinstance(way[-1], str):
                yield f"{name} twice", with_value(value, way, f"1, {key}: 2")
