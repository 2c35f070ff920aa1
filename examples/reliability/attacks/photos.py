"""Photos that are damaged, huge, or none."""

import os
import pathlib
import shutil
import struct
import time
import zlib

from . import formats
from .harness import MINI, QUICK, ROOT

CORPUS = ROOT / "tests/fuzz/corpus"


def take(world, name, path, **how):
    """A photo given to a command that reads one."""
    size = ["--size", "16", "--model", str(MINI), *QUICK]
    command = world.chance.choice([
        ["find", "--subject", "dog", "--batch", "1", "--model", str(MINI), *QUICK, "-o", "o.idx", str(path)],
        ["generate", "a dog", "--init", str(path), *size, "-o", "o.png"], ["inspect", str(path)]])
    return world.case(f"{name}: {command[0]}", command, given=path if os.path.isfile(path) else None, **how)


def changed(world):
    good = [path for path in sorted(CORPUS.iterdir()) if path.suffix in (".png", ".jpg")]
    good += sorted(pathlib.Path(world.photos).iterdir())[:1]
    for i in range(round(350 * world.many)):
        of = world.chance.choice(good)
        path = world.write("x" + of.suffix, formats.changed(of.read_bytes(), world.chance))
        take(world, f"change {i} of {of.name}", path)


def odd_png(world):
    """Chunks that are right by their sums, and wrong by what they say."""
    tries = {}
    for depth in (0, 1, 2, 3, 4, 8, 16, 17, 255):
        for color in range(8):
            tries[f"depth {depth}, colours {color}"] = formats.plain_png(depth=depth, color=color)
    for width, height in [(0, 8), (8, 0), (1, 1), (2**31 - 1, 1), (2**31, 1), (2**32 - 1, 2**32 - 1), (65536, 65536)]:
        tries[f"{width}x{height}"] = formats.plain_png(width, height)
    for interlace in (1, 2, 255):
        tries[f"interlace {interlace}"] = formats.plain_png(interlace=interlace)
    tries["rows too few"] = formats.plain_png(rows=b"\0")
    tries["rows too many"] = formats.plain_png(rows=bytes(1_000_000))
    tries["no filter such"] = formats.plain_png(rows=(b"\x09" + bytes(24)) * 8)
    head, data, end = formats.chunks_of(formats.plain_png(color=3))[::2][0], *formats.chunks_of(formats.plain_png())[1:]
    for length in (0, 1, 2, 3, 4, 5, 768, 769, 771, 3000):
        tries[f"palette of {length}"] = formats.png([head, (b"PLTE", bytes(length)), data, end])
    head = formats.chunks_of(formats.plain_png())[0]
    names = "tRNS gAMA cHRM sRGB iCCP bKGD pHYs eXIf tEXt zTXt iTXt acTL fcTL fdAT sBIT hIST tIME ABCD \0\0\0\0"
    for name in names.encode().split(b" "):
        for body in (b"", b"\0", b"\xff" * 40, b"parameters\0" + b"x" * 70_000,
                     b"cones\0\0" + zlib.compress(bytes(20_000_000))):
            tries[f"{name} of {len(body)}"] = formats.png([head, (name, body), data, end])
    orders = {"no end": [head, data], "no data": [head, end], "no head": [data, end],
              "two heads": [head, head, data, end], "end first": [end, head, data], "nothing": []}
    tries |= {name: formats.png(order) for name, order in orders.items()}
    for name, png in tries.items():
        take(world, name, world.write("x.png", png))


def jpeg_segment(marker, body):
    return bytes([0xff, marker]) + struct.pack(">H", len(body) + 2) + body


def odd_jpeg(world):
    good = [(CORPUS / name).read_bytes() for name in ("plain.jpg", "grey.jpg", "cmyk.jpg", "progressive.jpg")]
    for which, data in enumerate(good):
        places = [i for i in range(len(data) - 3) if data[i] == 0xff and 0xc0 <= data[i + 1] <= 0xfe]
        for at in places:
            for marker in world.some(range(0xc0, 0x100), 4):
                lie = data[:at + 1] + bytes([marker]) + data[at + 2:]
                take(world, f"{which}: marker {marker:x} at {at}", world.write("x.jpg", lie))
            for length in (0, 1, 2, 65535):
                lie = data[:at + 2] + struct.pack(">H", length) + data[at + 4:]
                take(world, f"{which}: length {length} at {at}", world.write("x.jpg", lie))
        for orientation in (*range(10), 255, 65535):
            exif = b"Exif\0\0MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHHI", 0x112, 3, 1, orientation, 0, 0)
            lie = data[:2] + jpeg_segment(0xe1, exif) + data[2:]
            take(world, f"{which}: turned {orientation}", world.write("x.jpg", lie))
        for exif in (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", bytes(65_000)):
            take(world, f"{which}: exif", world.write("x.jpg", data[:2] + jpeg_segment(0xe1, exif) + data[2:]))
        for icc in (b"ICC_PROFILE\0\0\0", b"ICC_PROFILE\0\1\xff" + bytes(1000)):
            take(world, f"{which}: colours", world.write("x.jpg", data[:2] + jpeg_segment(0xe2, icc) * 20 + data[2:]))


def bombs(world):
    """Small files of many pixels."""
    def zeros(width, height, color):
        row = b"\0" + bytes(width * {0: 1, 2: 3, 6: 4}[color])
        packer = zlib.compressobj(9)
        packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
        head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
        return formats.png([(b"IHDR", head), (b"IDAT", packed), (b"IEND", b"")])

    sizes = [(8000, 8000, 0), (12_000, 10_000, 2), (32_768, 2000, 2), (100_000, 10, 2), (20_000, 12_000, 0)]
    for width, height, color in sizes:
        path = world.write("x.png", zeros(width, height, color))
        take(world, f"{width}x{height}", path, limit=60, memory=1500 << 20)
    side, far = b"\xff\xff\xff\xff", 2**31 - 1
    for name, data in {
        "gif": b"GIF89a" + side + b"\xf0\0\0\0\0\0\xff\xff\xff,\0\0\0\0" + side + b"\0\x08\1\0\0;",
        "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, far, far, 1, 24, 0, 0, 0, 0, 0, 0),
        "webp": b"RIFF\x1a\0\0\0WEBPVP8L\r\0\0\0\x2f\xff\xff\xff\x0f\0\0\0\0\0\0\0\0",
        "tiff": b"II*\0\x08\0\0\0\xff\xff" + bytes(100), "tiff loop": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    }.items():
        take(world, name, world.write("x." + name[:4].strip(), data), limit=20)


def no_photos(world):
    """Folders, links and devices in the place of photos."""
    here = world.at / "photos"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    one = sorted(pathlib.Path(world.photos).iterdir())[0]
    (here / "empty").mkdir()
    (here / "loop").mkdir()
    os.symlink(here / "loop", here / "loop/again")
    os.symlink("/dev/zero", here / "zero.png")
    os.symlink(here / "none.png", here / "none.png")
    os.mkfifo(here / "pipe.png")
    (here / "folder.png").mkdir()
    (here / "hole.png").touch()
    os.truncate(here / "hole.png", 1 << 30)
    (here / "text.png").write_text("no picture")
    deep = here / "/".join(["d"] * 100)
    deep.mkdir(parents=True)
    shutil.copy(one, deep / "p.png")
    (here / "link").symlink_to(world.photos)
    find = ["find", "--subject", "dog", "--model", str(MINI), *QUICK, "-o", "o.idx"]
    for name in ["empty", "loop", "zero.png", "none.png", "pipe.png", "folder.png", "hole.png", "text.png", "d", "link",
                 "", "nowhere", "/dev/zero", "/dev/null", "/dev/random", "/proc", "/proc/self/fd", "/dev", "/"]:
        path = name if name.startswith("/") else here / name
        for command in ([*find, "--batch", "1", str(path)],
                        ["generate", "dog", "--init", str(path), "--model", str(MINI), *QUICK, "-o", "o.png"],
                        ["eval", world.index, "--images", str(path), "--count", "1", *QUICK, "--loss-draws", "0",
                         "--class-images", world.photos],
                        [*find, "--method", "paper", "--class-images", str(path), world.mini_photos]):
            world.case(f"{name or 'all'}: {command[0]}", command, limit=20)


def many(world):
    """Thousands of photos: time in proportion, Ctrl-C heard meanwhile."""
    here = world.at / "many"
    here.mkdir(exist_ok=True)
    data = sorted(pathlib.Path(world.photos).iterdir())[0].read_bytes()
    count = round(1500 * world.many)
    for i in range(count):
        (here / f"{i}.png").write_bytes(data + struct.pack("<I", i))
    find = ["find", "--subject", "dog", "--batch", "1", *QUICK, "-o", "o.idx", str(here)]
    for wait in (0.3, 1, 2):
        for number in (2, 15):
            world.clear()
            run = world.start(find)
            time.sleep(wait)
            run.signal(number)
            sent = time.time()
            ended = run.end(120)
            late = lambda _: f"heard after {time.time() - sent:.1f} s" if time.time() - sent > 3 else None
            world.judge(f"signal {number} after {wait} s, {count} photos", ended, want=(0, 130), check=late)
    world.case(f"{count} photos", find, limit=180)


KINDS = {"photos: bytes changed": changed, "photos: PNG": odd_png, "photos: JPEG": odd_jpeg, "photos: bombs": bombs,
         "photos: none": no_photos, "photos: many": many}
