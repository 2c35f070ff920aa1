"""Writes orientation.json: what Pillow's ImageOps.exif_transpose makes of orientations in every place that has one.

usage: python make_orientation.py      (Pillow 13)

Each case is what is put into a small PNG (chunks behind IHDR, and behind the pixels) or a small JPEG (segments behind
SOI), in hexadecimal, and the number from 1 to 8 of the turn that Pillow makes; 1 where Pillow gives up.
"""

import io, json, struct, zlib
from pathlib import Path
from PIL import Image, ImageOps

TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # number to Image.Transpose


def tiff(value, kind=3, count=1, order="<", tag=0x112, before=(), at=None):
    """EXIF with one entry more than `before`, of this type and count; a value of more than 4 bytes lies behind."""
    pack = lambda form, *values: struct.pack(order + form, *values)
    raw = value if isinstance(value, bytes) else {1: "B", 3: "H", 4: "I", 8: "h", 9: "i"}[kind]
    if not isinstance(raw, bytes):
        raw = pack(raw, value)
    entries = [pack("HHI", t, 3, 1) + pack("H", v) + b"\0\0" for t, v in before]
    end = 8 + 2 + 12 * (len(entries) + 1) + 4
    inline = raw.ljust(4, b"\0") if len(raw) <= 4 else pack("I", at or end)
    entries.append(pack("HHI", tag, kind, count) + inline)
    head = (b"II*\0" if order == "<" else b"MM\0*") + pack("I", 8)
    return head + pack("H", len(entries)) + b"".join(entries) + pack("I", 0) + (raw if len(raw) > 4 else b"")


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def profile(exif, name=b"exif", length=None):
    digits = exif.hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    return b"\n%s\n%8d\n%s\n" % (name, length or len(exif), lines.encode())


RAW = b"Raw profile type exif"
text = lambda key, body: chunk(b"tEXt", key + b"\0" + body)
packed = lambda key, body: chunk(b"zTXt", key + b"\0\0" + zlib.compress(body))
wide = lambda key, body: chunk(b"iTXt", key + b"\0\0\0\0\0" + body)
wide_packed = lambda key, body: chunk(b"iTXt", key + b"\0\1\0en\0\0" + zlib.compress(body))
exif_chunk = lambda body: chunk(b"eXIf", body)
XMP = b"XML:com.adobe.xmp"


def xmp(value, element=False):
    inner = b" tiff:Orientation=\"%s\"/>" % value
    if element:
        inner = b"><tiff:Orientation>%s</tiff:Orientation></rdf:Description>" % value
    return b"<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF><rdf:Description" + inner + b"</rdf:RDF></x:xmpmeta>"


def segment(body, marker=0xE1):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


app_exif = lambda body: segment(b"Exif\0\0" + body)
app_xmp = lambda body: segment(b"http://ns.adobe.com/xap/1.0/\0" + body)

PNG = {f"eXIf {n}": (exif_chunk(tiff(n)), b"") for n in range(1, 9)}
PNG |= {
    "eXIf big-endian": (exif_chunk(tiff(6, order=">")), b""),
    "eXIf behind the pixels": (b"", exif_chunk(tiff(8))),
    "eXIf with the segment's name": (exif_chunk(b"Exif\0\0" + tiff(6)), b""),
    "eXIf that is no TIFF": (exif_chunk(b"nothing at all"), b""),
    "eXIf cut off": (exif_chunk(tiff(6)[:20]), b""),
    "eXIf of three bytes": (exif_chunk(b"II*"), b""),
    "eXIf without orientation": (exif_chunk(tiff(6, tag=0x100)), b""),
    "eXIf 0": (exif_chunk(tiff(0)), b""),
    "eXIf 9": (exif_chunk(tiff(9)), b""),
    "eXIf second entry": (exif_chunk(tiff(3, before=[(0x100, 96), (0x101, 48)])), b""),
    "eXIf twice, other numbers": (exif_chunk(tiff(1, before=[(0x112, 6)])), b""),
    "long": (exif_chunk(tiff(6, kind=4)), b""),
    "byte": (exif_chunk(tiff(6, kind=1)), b""),
    "signed short": (exif_chunk(tiff(8, kind=8)), b""),
    "signed long": (exif_chunk(tiff(8, kind=9, order=">")), b""),
    "text": (exif_chunk(tiff(b"6\0", kind=2, count=2)), b""),
    "two shorts": (exif_chunk(tiff(struct.pack("<HH", 6, 1), count=2)), b""),
    "four shorts, elsewhere": (exif_chunk(tiff(struct.pack("<HHHH", 8, 1, 1, 1), count=4)), b""),
    "shorts elsewhere, outside": (exif_chunk(tiff(struct.pack("<HHHH", 8, 1, 1, 1), count=4, at=5000)), b""),
    "rational": (exif_chunk(tiff(struct.pack("<II", 6, 1), kind=5)), b""),
    "float": (exif_chunk(tiff(struct.pack("<f", 6.0), kind=11)), b""),
    "no type": (exif_chunk(tiff(6, kind=3).replace(b"\x12\x01\x03\0", b"\x12\x01\x63\0")), b""),
    "none of them": (exif_chunk(tiff(6, count=0)), b""),
    "profile zTXt": (packed(RAW, profile(tiff(6))), b""),
    "profile tEXt": (text(RAW, profile(tiff(8, order=">"))), b""),
    "profile iTXt": (wide(RAW, profile(tiff(3))), b""),
    "profile iTXt packed": (wide_packed(RAW, profile(tiff(5))), b""),
    "profile behind the pixels": (b"", packed(RAW, profile(tiff(6)))),
    "profile with the segment's name": (packed(RAW, profile(b"Exif\0\0" + tiff(7))), b""),
    "profile with a wrong length": (packed(RAW, profile(tiff(6), length=3)), b""),
    "profile that is not hexadecimal": (packed(RAW, b"\nexif\n 4\nzzzz\n"), b""),
    "profile of an odd number of digits": (packed(RAW, b"\nexif\n 4\n49492\n"), b""),
    "profile APP1": (packed(b"Raw profile type APP1", profile(b"Exif\0\0" + tiff(6), b"app1")), b""),
    "profile in capitals": (text(RAW, profile(tiff(6)).upper().replace(b"EXIF", b"exif")), b""),
    "eXIf before profile": (packed(RAW, profile(tiff(6))) + exif_chunk(tiff(8)), b""),
    "eXIf without orientation, profile": (packed(RAW, profile(tiff(6))) + exif_chunk(tiff(6, tag=0x100)), b""),
    "eXIf without orientation, XMP": (exif_chunk(tiff(6, tag=0x100)) + wide(XMP, xmp(b"8")), b""),
    "eXIf 1, XMP 6": (exif_chunk(tiff(1)) + wide(XMP, xmp(b"6")), b""),
    "profile 3, XMP 6": (packed(RAW, profile(tiff(3))) + wide(XMP, xmp(b"6")), b""),
    "XMP attribute": (wide(XMP, xmp(b"6")), b""),
    "XMP element": (wide(XMP, xmp(b"8", element=True)), b""),
    "XMP packed": (wide_packed(XMP, xmp(b"3")), b""),
    "XMP behind the pixels": (b"", wide(XMP, xmp(b"6"))),
    "XMP tEXt": (text(XMP, xmp(b"6")), b""),
    "XMP not UTF-8": (wide(XMP, b"\xff" + xmp(b"6")), b""),
    "XMP of two digits": (wide(XMP, xmp(b"66")), b""),
    "XMP without a number": (wide(XMP, xmp(b"six")), b""),
    "XMP the second": (wide(XMP, xmp(b"x") + xmp(b"6")), b""),
}
JPEG = {f"EXIF {n}": app_exif(tiff(n)) for n in (1, 3, 6, 8)}
JPEG |= {
    "EXIF big-endian": app_exif(tiff(5, order=">")),
    "EXIF in two segments": app_exif(tiff(6, before=[(256 + i, i) for i in range(9)])[:60])
    + app_exif(tiff(6, before=[(256 + i, i) for i in range(9)])[60:]),
    "EXIF cut off": app_exif(tiff(6)[:15]),
    "EXIF that is no TIFF": app_exif(b"garbage garbage"),
    "EXIF behind a comment": segment(b"hello", 0xFE) + app_exif(tiff(6)),
    "EXIF in another segment": segment(b"Exif\0\0" + tiff(6), 0xE2),
    "XMP attribute": app_xmp(xmp(b"6")),
    "XMP element": app_xmp(xmp(b"8", element=True)),
    "XMP twice": app_xmp(xmp(b"8")) + app_xmp(xmp(b"6")),
    "EXIF 1, XMP 6": app_exif(tiff(1)) + app_xmp(xmp(b"6")),
    "EXIF 6, XMP 8": app_xmp(xmp(b"8")) + app_exif(tiff(6)),
    "EXIF without orientation, XMP": app_exif(tiff(6, tag=0x100)) + app_xmp(xmp(b"3")),
    "EXIF cut off, XMP": app_exif(tiff(6)[:15]) + app_xmp(xmp(b"3")),
}


def turn(data, plain):
    """The number of what Pillow does."""
    try:
        turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    except Exception as error:
        print("  Pillow gives up:", repr(error))
        return 1
    same = lambda n: (plain.transpose(Image.Transpose(TURNS[n])) if n > 1 else plain).tobytes() == turned.tobytes()
    size = lambda n: (plain.transpose(Image.Transpose(TURNS[n])) if n > 1 else plain).size == turned.size
    return next(n for n in range(1, 9) if size(n) and same(n))


def main():
    plain = Image.new("RGB", (3, 2))
    plain.putdata([(40 * i, 255 - 40 * i, 7 * i) for i in range(6)])
    raw = io.BytesIO()
    plain.save(raw, "png")
    raw = raw.getvalue()
    head, rest = raw[:33], raw[33:]
    big = plain.resize((24, 16), Image.Resampling.NEAREST)
    jpeg = io.BytesIO()
    big.save(jpeg, "jpeg", quality=95)
    jpeg = jpeg.getvalue()
    decoded = Image.open(io.BytesIO(jpeg)).convert("RGB")
    cases = []
    for name, (front, back) in PNG.items():
        print("png", name)
        data = head + front + rest[:-12] + back + rest[-12:]
        cases.append({"name": name, "png": [front.hex(), back.hex()], "turn": turn(data, plain)})
    for name, front in JPEG.items():
        print("jpeg", name)
        data = jpeg[:2] + front + jpeg[2:]
        cases.append({"name": name, "jpeg": front.hex(), "turn": turn(data, decoded)})
    lines = ",\n".join(json.dumps(case) for case in cases)
    here = Path(__file__).resolve().parent
    (here / "orientation.json").write_text(f"[\n{lines}\n]\n")
    for case in cases:
        print(case["turn"], case["name"])


main()
