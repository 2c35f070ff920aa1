"""The pocket world: emoji objects on simple scenes, with honest captions.

    python world.py --work DIR [--pictures 64000]

writes DIR/pictures.npy (uint8, n x 64 x 64 x 3), DIR/captions.json (CAPTIONS_EACH captions per picture)
and DIR/world.png (a sheet to look at). The other scripts import the tables and the drawing from here.
"""
import argparse
import json
import random
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
FONT_SIZE = 109  # the one bitmap size that Noto Color Emoji holds
SIZE = 64
CAPTIONS_EACH = 4

# class -> {variant: the colour word that is true of it untinted, or None where no one word is}
CLASSES = {
    "dog": {"🐶": None, "🐕": None, "🦮": "yellow"},
    "cat": {"🐱": "yellow", "🐈": "yellow"},
    "bear": {"🐻": "brown", "🐼": None},
    "rabbit": {"🐰": "grey", "🐇": "grey"},
    "duck": {"🦆": None, "🐤": "yellow"},
    "fish": {"🐟": "blue", "🐠": "yellow"},
    "car": {"🚗": "red", "🚙": "blue"},
    "house": {"🏠": None, "🛖": None},
    "hat": {"🎩": "black", "👒": "yellow"},
    "flower": {"🌻": "yellow", "🌷": "pink"},
    "ball": {"⚽": "white", "🏀": "orange"},
    "cup": {"☕": "white", "🍵": None},
}

# tint -> (dark, middle, light) colours that a sprite's brightness is mapped onto
TINTS = {
    "red": ((70, 0, 8), (222, 38, 44), (255, 190, 180)),
    "green": ((0, 45, 12), (48, 176, 66), (200, 255, 190)),
    "blue": ((8, 8, 80), (45, 95, 232), (185, 215, 255)),
    "purple": ((45, 0, 65), (152, 58, 205), (238, 195, 255)),
}
NATURAL = "natural"

# (variant, tint) pairs never drawn for training: new subjects of known classes.
HELD_PAIRS = {
    ("🦮", "blue"), ("🐈", "green"), ("🐼", "purple"), ("🐇", "red"), ("🦆", "purple"), ("🐠", "red"),
    ("🚙", "green"), ("🛖", "blue"), ("🎩", "green"), ("🌷", "blue"), ("🏀", "purple"), ("☕", "green"),
}
# Variants never drawn for training in any colour.
UNSEEN_VARIANTS = {"dog": "🐩", "bear": "🐨", "hat": "🧢", "flower": "🌹"}

SCENES = [
    "in a park", "on the beach", "in the snow", "at night",
    "in the desert", "in a room", "in the forest", "on a street",
]
# Identifiers for new subjects: single tokens, never in a training caption.
IDENTIFIERS = ["sks", "zwx", "ohwx", "qev"]

SHARE_BY_COUNT = {1: 26, 2: 26, 3: 22, 4: 26}  # per cent of the pictures with so many objects
SIDES_BY_COUNT = {1: (36, 46), 2: (27, 31), 3: (26, 29), 4: (25, 28)}  # sprite side in pixels, inclusive
NATURAL_SHARE = 0.5


@lru_cache(None)
def glyph(emoji):
    """The emoji at font size, cropped and centred on a transparent square."""
    image = Image.new("RGBA", (160, 160))
    font = ImageFont.truetype(FONT, FONT_SIZE)
    ImageDraw.Draw(image).text((8, 8), emoji, font=font, embedded_color=True)
    image = image.crop(image.getbbox())
    side = max(image.size)
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


@lru_cache(None)
def tinted(emoji, tint):
    """The glyph in one tint: brightness, stretched over the glyph's own range, mapped onto the tint's ramp."""
    image = glyph(emoji)
    if tint == NATURAL:
        return image
    pixels = np.asarray(image, dtype=np.float32)
    brightness = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
    low, high = np.percentile(brightness[pixels[..., 3] > 128], [3, 97])
    brightness = np.clip((brightness - low) / max(high - low, 1), 0, 1)
    ramp = np.array(TINTS[tint], np.float32)
    coloured = np.stack([np.interp(brightness, [0, 0.55, 1], ramp[:, c]) for c in range(3)], -1)
    return Image.fromarray(np.dstack([coloured, pixels[..., 3]]).round().astype(np.uint8), "RGBA")


@lru_cache(None)
def sprite(emoji, tint, side):
    """Colour (side, side, 3) in 0..255 and coverage (side, side, 1) in 0..1."""
    pixels = np.asarray(tinted(emoji, tint).resize((side, side), Image.LANCZOS), dtype=np.float32)
    return pixels[..., :3], pixels[..., 3:] / 255


def background(scene, rng):
    """One of the eight scenes; the horizon and the brightness vary a little."""
    horizon = rng.randint(28, 36)
    light = rng.uniform(0.94, 1.04)
    picture = np.zeros((SIZE, SIZE, 3), np.float32)

    def gradient(first, last, top_colour, bottom_colour):
        share = np.linspace(0, 1, last - first, dtype=np.float32)[:, None, None]
        picture[first:last] = np.float32(top_colour) * (1 - share) + np.float32(bottom_colour) * share

    if scene == "in a park":
        gradient(0, horizon, (110, 185, 250), (200, 230, 255))
        gradient(horizon, SIZE, (115, 195, 85), (70, 145, 55))
    elif scene == "on the beach":
        gradient(0, horizon - 8, (100, 190, 250), (190, 230, 255))
        gradient(horizon - 8, horizon, (35, 125, 195), (60, 160, 210))
        gradient(horizon, SIZE, (245, 222, 165), (228, 195, 125))
    elif scene == "in the snow":
        gradient(0, horizon, (175, 195, 218), (215, 225, 236))
        gradient(horizon, SIZE, (250, 252, 255), (226, 236, 248))
    elif scene == "at night":
        gradient(0, horizon, (10, 12, 40), (36, 34, 88))
        gradient(horizon, SIZE, (20, 32, 42), (10, 18, 24))
        for _ in range(6):
            y, x = rng.randint(1, 18), rng.randint(1, SIZE - 3)
            picture[y:y + 2, x:x + 2] = (250, 245, 205)
    elif scene == "in the desert":
        gradient(0, horizon, (250, 200, 130), (255, 232, 185))
        gradient(horizon, SIZE, (222, 155, 85), (190, 120, 60))
    elif scene == "in a room":
        gradient(0, horizon + 6, (228, 208, 238), (214, 194, 224))
        gradient(horizon + 6, SIZE, (152, 104, 72), (120, 80, 55))
        picture[horizon + 4:horizon + 7] = (242, 242, 242)
    elif scene == "in the forest":
        gradient(0, horizon + 4, (44, 98, 54), (32, 72, 42))
        gradient(horizon + 4, SIZE, (74, 64, 38), (52, 44, 26))
        for slot in range(5):
            x = 3 + slot * 13 + rng.randint(-2, 2)
            picture[:horizon + 4, x:x + 4] = (76, 54, 34)
    elif scene == "on a street":
        gradient(0, horizon, (172, 194, 216), (204, 214, 224))
        for slot in range(5):
            top = horizon - rng.randint(10, 22)
            picture[top:horizon, slot * 13:slot * 13 + 11] = (142, 132, 128)
        gradient(horizon, SIZE, (92, 92, 97), (72, 72, 77))
        start = rng.randint(0, 7)
        for x in range(start, SIZE, 16):
            picture[horizon + 12:horizon + 14, x:x + 8] = (240, 228, 120)
    else:
        raise ValueError(f"no such scene: {scene}")
    return np.clip(picture * light, 0, 255)


def places(count, rng):
    """Where each object stands: (middle, lowest and highest feet); one alone, two side by side, more in two rows."""
    if count == 1:
        return [(SIZE / 2, 52, 60)]
    if count == 2:
        found = [(SIZE / 4, 46, 56), (3 * SIZE / 4, 46, 56)]
    else:
        found = [(x, low, high) for low, high in [(28, 31), (58, 63)] for x in (SIZE / 4, 3 * SIZE / 4)]
    rng.shuffle(found)
    return found[:count]


def compose(objects, scene, rng):
    """Draw objects, each (class, variant, tint), into the scene, none over another; returns a uint8 picture."""
    picture = background(scene, rng)
    for (_, emoji, tint), (middle, low, high) in zip(objects, places(len(objects), rng)):
        side = rng.randint(*SIDES_BY_COUNT[len(objects)])
        colour, coverage = sprite(emoji, tint, side)
        wander = 5 if len(objects) == 1 else 1
        x = round(middle - side / 2) + rng.randint(-wander, wander)
        x, y = min(max(x, 0), SIZE - side), max(rng.randint(low, high) - side, 0)
        region = picture[y:y + side, x:x + side]
        region += coverage * (colour - region)
    return picture.round().astype(np.uint8)


def random_objects(rng):
    """One to four objects of different classes, never a held-out pair."""
    count = rng.choices(list(SHARE_BY_COUNT), list(SHARE_BY_COUNT.values()))[0]
    objects = []
    for noun in rng.sample(list(CLASSES), count):
        emoji = rng.choice(list(CLASSES[noun]))
        # A tint that the variant has by nature would only be a second look for the same words.
        tints = [t for t in TINTS if (emoji, t) not in HELD_PAIRS and t != CLASSES[noun][emoji]]
        objects.append((noun, emoji, NATURAL if rng.random() < NATURAL_SHARE else rng.choice(tints)))
    return objects


def colour_word(noun, emoji, tint):
    return CLASSES[noun].get(emoji) if tint == NATURAL else tint


def with_article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def caption(objects, scene, rng):
    """A tint is nearly always named and a natural colour seldom, so that a bare noun means the natural look."""
    phrases = []
    for noun, emoji, tint in objects:
        colour = colour_word(noun, emoji, tint)
        named = colour and rng.random() < (0.35 if tint == NATURAL else 0.92)
        phrases.append(with_article(f"{colour} {noun}" if named else noun))
    rng.shuffle(phrases)
    text = phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
    opening = rng.choices(["a photo of ", "a picture of ", "an image of ", ""], [5, 2, 1, 2])[0]
    place = " " + scene if rng.random() < 0.85 else ""
    return opening + text + place


def sheet(pictures, columns, scale=2, gap=2):
    """Tile equal uint8 pictures into one image."""
    side = len(pictures[0])
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * (side + gap), rows * (side + gap)), "white")
    for i, picture in enumerate(pictures):
        canvas.paste(Image.fromarray(picture), (i % columns * (side + gap), i // columns * (side + gap)))
    return canvas.resize((canvas.width * scale, canvas.height * scale), Image.NEAREST)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=64000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rng = random.Random(options.seed)
    pictures = np.zeros((options.pictures, SIZE, SIZE, 3), np.uint8)
    captions = []
    for i in range(options.pictures):
        objects, scene = random_objects(rng), rng.choice(SCENES)
        pictures[i] = compose(objects, scene, rng)
        captions.append([caption(objects, scene, rng) for _ in range(CAPTIONS_EACH)])
    np.save(options.work / "pictures.npy", pictures)
    (options.work / "captions.json").write_text(json.dumps(captions))
    sheet(pictures[:84], 14).save(options.work / "world.png")


if __name__ == "__main__":
    main()
