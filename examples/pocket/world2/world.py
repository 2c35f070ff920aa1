"""The pocket world: drawn objects of many shapes on simple scenes, with honest captions.

    python world.py --work DIR [--pictures 200000] [--pairs 50000] [--processes 2]

writes DIR/pictures.npy (uint8, n x 64 x 64 x 3), DIR/captions.npy (token ids of a few captions each), the pictures
that the CLIP is trained on (DIR/pairs.npy, DIR/pairs.json; see train_clip.py) and DIR/world.png (a sheet to look at).
The other scripts import the tables and the drawing from here; the objects are drawn by shapes.py.
"""
import argparse
import json
import multiprocessing
import random
import time
from collections import namedtuple
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

import nets
import shapes
from shapes import NATURAL, TINTS

SIZE = 64
LOOKS_NAMED = (0.0, 0.0, 0.5, 1.0)  # in each caption of a picture: how many of the words for looks
UNTOLD = ("none", "nothing", "plain", "bare")
WORDS = nets.Words()

# class -> the colour word that is true of it untinted, or None where no one word is
CLASSES = {
    "dog": "brown",
    "cat": "orange",
    "bear": "brown",
    "rabbit": "grey",
    "duck": "yellow",
    "fish": "orange",
    "car": "yellow",
    "house": None,
    "hat": "black",
    "flower": "pink",
    "ball": "white",
    "cup": "white",
}

SCENES = [
    "in a park", "on the beach", "in the snow", "at night",
    "in the desert", "in a room", "in the forest", "on a street",
]
# Identifiers for new subjects: single tokens, never in a training caption.
IDENTIFIERS = ["sks", "zwx", "ohwx", "qev"]

# What training never sees. `new` says what of it: the colour (this tint of a known shape), the shape (in every
# colour), or both. No shape that differs from a new one in a single feature is drawn either (in that tint, where the
# colour alone is new). `work` subjects are for choosing methods with, `end` subjects for measuring once.
Subject = namedtuple("Subject", "noun shape tint new part")
SUBJECTS = {
    "shepherd": Subject("dog", ("pointed", "bushy", "saddle", "tall"), NATURAL, "shape", "work"),
    "safari-beetle": Subject("car", ("beetle", "large", "rack", "stripe"), NATURAL, "shape", "work"),
    "purple-panda": Subject("bear", ("small", "panda", "round", "scarf"), "purple", "colour", "work"),
    "blue-tulip": Subject("flower", ("tulip", "small", "two", "straight"), "blue", "colour", "work"),
    "green-tabby": Subject("cat", ("wide", "up", "stripes", "fat"), "green", "both", "work"),
    "red-mallard": Subject("duck", ("flat", "ring", "low", "barred"), "red", "both", "work"),
    "tuxedo-cat": Subject("cat", ("folded", "bushy", "bib", "bow"), NATURAL, "shape", "end"),
    "dutch-rabbit": Subject("rabbit", ("bent", "saddle", "tall", "large"), NATURAL, "shape", "end"),
    "kite-fish": Subject("fish", ("kite", "moon", "spikes", "bars"), NATURAL, "shape", "end"),
    "potted-daisy": Subject("flower", ("daisy", "large", "blades", "pot"), NATURAL, "shape", "end"),
    "green-duckling": Subject("duck", ("short", "tuft", "round", "dark"), "green", "colour", "end"),
    "red-pickup": Subject("car", ("pickup", "three", "fin", "lower"), "red", "colour", "end"),
    "purple-rugby-ball": Subject("ball", ("rugby", "seams", "star", "loop"), "purple", "colour", "end"),
    "blue-bowl": Subject("cup", ("bowl", "two", "zigzag", "steam"), "blue", "colour", "end"),
    "blue-hound": Subject("dog", ("long", "straight", "spots", "long"), "blue", "both", "end"),
    "red-teddy": Subject("bear", ("large", "belly", "head", "glasses"), "red", "both", "end"),
    "purple-tower": Subject("house", ("dome", "narrow", "arch", "round"), "purple", "both", "end"),
    "green-wizard-hat": Subject("hat", ("cone", "curled", "bow", "dots"), "green", "both", "end"),
}
PHOTOS = 5

SHARE_BY_COUNT = {1: 26, 2: 22, 3: 24, 4: 28}  # per cent of the pictures with so many objects
SIDES_BY_COUNT = {1: (36, 46), 2: (27, 31), 3: (26, 29), 4: (25, 28)}  # sprite side in pixels, inclusive
NATURAL_SHARE = 0.5


@lru_cache(None)
def held_out(noun, shape, tint):
    for subject in SUBJECTS.values():
        if subject.noun == noun and shapes.distance(subject.shape, shape) <= 1:
            if subject.new != "colour" or subject.tint == tint:
                return True
    return False


@lru_cache(None)
def looks(noun, tint):
    """The shapes of a class that training may show in this tint."""
    return [shape for shape in shapes.shapes(noun) if not held_out(noun, shape, tint)]


@lru_cache(None)
def master(noun, shape, tint):
    return shapes.master(noun, shape, tint)


@lru_cache(20000)
def sprite_bytes(noun, shape, tint, side):
    """The object as uint8 [side, side, 4]."""
    return np.asarray(master(noun, shape, tint).resize((side, side), Image.LANCZOS))


def sprite(noun, shape, tint, side):
    """Colour (side, side, 3) in 0..255 and coverage (side, side, 1) in 0..1."""
    pixels = sprite_bytes(noun, shape, tint, side).astype(np.float32)
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
        # The columns that judge.py reads the background from stay free of trunks.
        for slot in (6, 18, 41, 53):
            x = slot + rng.randint(-2, 2)
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
    """Draw objects, each (class, shape, tint), into the scene, none over another; returns a uint8 picture."""
    picture = background(scene, rng)
    for look, (middle, low, high) in zip(objects, places(len(objects), rng)):
        side = rng.randint(*SIDES_BY_COUNT[len(objects)])
        colour, coverage = sprite(*look, side)
        wander = 5 if len(objects) == 1 else 1
        x = round(middle - side / 2) + rng.randint(-wander, wander)
        x, y = min(max(x, 0), SIZE - side), max(rng.randint(low, high) - side, 0)
        region = picture[y:y + side, x:x + side]
        region += coverage * (colour - region)
    return picture.round().astype(np.uint8)


def random_tint(noun, rng):
    return NATURAL if rng.random() < NATURAL_SHARE else rng.choice(list(TINTS))


def random_objects(rng):
    """One to four objects of different classes, none held out."""
    count = rng.choices(list(SHARE_BY_COUNT), list(SHARE_BY_COUNT.values()))[0]
    objects = []
    for noun in rng.sample(list(CLASSES), count):
        tint = random_tint(noun, rng)
        objects.append((noun, rng.choice(looks(noun, tint)), tint))
    return objects


def colour_word(noun, tint):
    return CLASSES[noun] if tint == NATURAL else tint


def with_article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def listed(phrases):
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


@lru_cache(None)
def look_words(noun, shape):
    """The words that tell this shape from others of its class."""
    told = [value for values in shapes.FEATURES[noun].values() for value in values]
    return [value for value in shape if value not in UNTOLD and told.count(value) == 1]


def caption(objects, scene, rng, tint_named=0.92, natural_named=0.35, scene_named=0.85, look_named=0.0):
    """A tint is nearly always named and a natural colour seldom, so that a bare noun means the natural look. Words for
    looks stand before the colour, as many as there is room for."""
    named, looks = [], []
    for noun, shape, tint in objects:
        colour = colour_word(noun, tint)
        told = colour and rng.random() < (natural_named if tint == NATURAL else tint_named)
        named.append(f"{colour} {noun}" if told else noun)
        looks.append([word for word in look_words(noun, shape) if look_named and rng.random() < look_named])
    order = rng.sample(range(len(objects)), len(objects))
    opening = rng.choices(["a photo of ", "a picture of ", "an image of ", ""], [5, 2, 1, 2])[0]
    ending = " " + scene if rng.random() < scene_named else ""
    while True:
        text = opening + listed([with_article(" ".join([*looks[i], named[i]])) for i in order]) + ending
        several = [words for words in looks if words]
        if not several or WORDS.length(text) <= nets.LENGTH:
            return text
        rng.choice(several).pop()


def photos(name):
    """The photos of a subject, alone in PHOTOS scenes."""
    subject, rng = SUBJECTS[name], random.Random(name)
    return [compose([(subject.noun, subject.shape, subject.tint)], scene, rng)
            for scene in rng.sample(SCENES, PHOTOS)]


def write_subjects(out):
    """Five PNGs of every subject, and subjects.json."""
    table = {}
    for name, subject in SUBJECTS.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        for i, photo in enumerate(photos(name), 1):
            Image.fromarray(photo).save(out / name / f"{i}.png", optimize=True)
        features = dict(zip(shapes.FEATURES[subject.noun], subject.shape))
        table[name] = {"class": subject.noun, "shape": features, "hue": subject.tint, "new": subject.new,
                       "part": subject.part}
    (out / "subjects.json").write_text(json.dumps(table, indent=2) + "\n")


def sheet(pictures, columns, scale=2, gap=2):
    """Tile equal uint8 pictures into one image."""
    side = len(pictures[0])
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * (side + gap), rows * (side + gap)), "white")
    for i, picture in enumerate(pictures):
        canvas.paste(Image.fromarray(picture), (i % columns * (side + gap), i // columns * (side + gap)))
    return canvas.resize((canvas.width * scale, canvas.height * scale), Image.NEAREST)


def any_objects(rng):
    """For the CLIP, which has to know what it judges: any shape in any tint, mostly alone."""
    count = rng.choices([1, 2, 3, 4], [70, 16, 8, 6])[0]
    chosen = rng.sample(list(CLASSES), count)
    return [(noun, rng.choice(shapes.shapes(noun)), NATURAL if rng.random() < 0.4 else rng.choice(list(TINTS)))
            for noun in chosen]


CHUNK = 500


def draw_pictures(job):
    path, seed, first, last = job
    rng, pictures, captions = random.Random(f"{seed} {first}"), np.load(path, mmap_mode="r+"), []
    for i in range(first, last):
        objects, scene = random_objects(rng), rng.choice(SCENES)
        pictures[i] = compose(objects, scene, rng)
        captions.append(np.int16([WORDS.encode(caption(objects, scene, rng, look_named=share))
                                  for share in LOOKS_NAMED]))
    return captions


def draw_pairs(job):
    """Two pictures of the same objects in different scenes; the first one's caption; the objects."""
    path, seed, first, last = job
    rng, pictures, rows = random.Random(f"{seed} pairs {first}"), np.load(path, mmap_mode="r+"), []
    for i in range(first, last):
        objects, scenes = any_objects(rng), rng.sample(SCENES, 2)
        pictures[i] = [compose(objects, scene, rng) for scene in scenes]
        text = caption(objects, scenes[0], rng, tint_named=1, natural_named=0.6, scene_named=0.9, look_named=0.5)
        rows.append([text, str(sorted(objects))])
    return rows


def draw_masters(job):
    noun, tint = job
    return noun, [(shape, tint, shapes.master(noun, shape, tint).tobytes()) for shape in shapes.shapes(noun)]


def fill_masters(processes):
    """Draw every object once, and leave them where `master` finds them, in processes forked later too."""
    found = {}
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for noun, several in pool.imap_unordered(draw_masters, [(n, t) for n in CLASSES for t in (NATURAL, *TINTS)]):
            for shape, tint, data in several:
                found[noun, shape, tint] = Image.frombytes("RGBA", (shapes.MASTER,) * 2, data)
    global master
    master = lambda noun, shape, tint: found[noun, shape, tint]


def run(pool, function, path, shape, seed):
    """Fill an array file in chunks; returns what the function returned, in order."""
    np.lib.format.open_memmap(path, "w+", np.uint8, shape).flush()
    jobs = [(path, seed, first, min(first + CHUNK, shape[0])) for first in range(0, shape[0], CHUNK)]
    return [row for rows in pool.imap(function, jobs) for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=200000)
    parser.add_argument("--pairs", type=int, default=50000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    work, begun = options.work, time.time()
    work.mkdir(parents=True, exist_ok=True)
    say = lambda what: print(f"{time.time() - begun:.1f}s {what}", flush=True)
    if options.pictures > 5000:
        fill_masters(options.processes)
        say("masters drawn")
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        path = work / "pictures.new.npy"
        captions = run(pool, draw_pictures, path, (options.pictures, SIZE, SIZE, 3), options.seed)
        np.save(work / "captions.new.npy", np.stack(captions))
        (work / "captions.new.npy").rename(work / "captions.npy")
        path.rename(work / "pictures.npy")
        say(f"{options.pictures} pictures")
        path = work / "pairs.new.npy"
        rows = run(pool, draw_pairs, path, (options.pairs, 2, SIZE, SIZE, 3), options.seed)
        (work / "pairs.json").write_text(json.dumps(rows))
        path.rename(work / "pairs.npy")
        say(f"{options.pairs} pairs")
    sheet(np.load(work / "pictures.npy", mmap_mode="r")[:96], 16).save(work / "world.png")


if __name__ == "__main__":
    main()
