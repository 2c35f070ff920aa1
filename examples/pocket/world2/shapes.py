"""Twelve classes of objects, each with a hundred shapes and more, drawn from four features.

    python shapes.py --sheet shapes.png     shapes of every class, to look at

FEATURES says what a class varies in; a shape is one value of each feature, which some captions name. animals.py and
things.py draw them from polygons; no picture or font of others is used.
"""
import argparse
import itertools
import random

import numpy as np
from PIL import Image

import animals
import things
from drawing import Drawing

MASTER = 96  # pixels of a side that sprites are shrunk from

FEATURES = {
    "dog": {"ears": ["floppy", "pointed", "round", "long"], "tail": ["curl", "bushy", "stub", "straight"],
            "coat": ["plain", "spots", "saddle", "belly"], "build": ["stocky", "long", "tall"]},
    "cat": {"ears": ["pointed", "wide", "folded"], "tail": ["up", "bushy", "low"],
            "coat": ["plain", "stripes", "patch", "bib"], "build": ["slim", "fat", "head", "bow"]},
    "bear": {"ears": ["small", "large", "side"], "coat": ["plain", "panda", "belly", "crescent"],
             "build": ["tall", "round", "head"], "wears": ["nothing", "scarf", "cap", "glasses"]},
    "rabbit": {"ears": ["up", "bent", "lop", "apart"], "coat": ["plain", "spots", "saddle", "belly"],
               "build": ["tall", "round", "crouched"], "tail": ["puff", "large", "none"]},
    "duck": {"bill": ["short", "flat", "large"], "head": ["plain", "tuft", "mask", "ring"],
             "build": ["round", "low", "upright"], "wing": ["plain", "dark", "barred", "raised"]},
    "fish": {"build": ["disc", "long", "kite", "drop"], "tail": ["fork", "fan", "moon", "spear"],
             "fin": ["sail", "spikes", "small"], "pattern": ["plain", "bars", "dots", "half", "line"]},
    "car": {"build": ["sedan", "van", "beetle", "pickup", "wedge"], "wheels": ["small", "large", "three"],
            "roof": ["bare", "rack", "lamp", "fin"], "paint": ["plain", "stripe", "lower", "dots"]},
    "house": {"roof": ["gable", "steep", "flat", "dome", "hut"], "walls": ["narrow", "square", "wide"],
              "door": ["middle", "left", "arch"], "windows": ["two", "round", "four", "tall"]},
    "hat": {"crown": ["tall", "dome", "cone", "dented", "cap"], "brim": ["wide", "narrow", "curled"],
            "trim": ["none", "band", "feather", "bow"], "cloth": ["plain", "stripes", "dots"]},
    "flower": {"petals": ["round", "daisy", "tulip", "star", "cluster"], "heart": ["small", "large", "ring"],
               "leaves": ["none", "two", "one", "blades"], "stem": ["straight", "bent", "pot"]},
    "ball": {"build": ["round", "egg", "rugby"], "pattern": ["band", "patches", "wedges", "seams", "rings", "dots"],
             "mark": ["none", "star", "disc", "cross"], "top": ["none", "loop", "spike"]},
    "cup": {"build": ["straight", "tapered", "bowl", "tall"], "handle": ["right", "left", "none", "two"],
            "paint": ["plain", "band", "dots", "zigzag", "heart"], "over": ["nothing", "steam", "straw", "foam"]},
}


def shapes(noun):
    """All shapes of a class: tuples of values, in the order of its features."""
    return list(itertools.product(*FEATURES[noun].values()))


def distance(a, b):
    """In how many features two shapes of a class differ."""
    return sum(x != y for x, y in zip(a, b))


DRAW = {noun: getattr(drawn, noun) for drawn, nouns in
        [(animals, ["dog", "cat", "bear", "rabbit", "duck", "fish"]),
         (things, ["car", "house", "hat", "flower", "ball", "cup"])] for noun in nouns}

# Colours of the untinted look. `second` is for patterns and parts behind, `dark2` for dark patches.
NATURAL_COLOURS = {
    "dog": dict(main=(214, 150, 88), second=(128, 76, 40), light=(255, 236, 205), accent=(206, 48, 48)),
    "cat": dict(main=(250, 170, 60), second=(196, 104, 20), light=(255, 238, 205), accent=(60, 130, 210)),
    "bear": dict(main=(150, 98, 58), second=(104, 62, 32), light=(238, 206, 160), accent=(222, 62, 54)),
    "rabbit": dict(main=(178, 178, 186), second=(112, 112, 124), light=(250, 248, 248), accent=(240, 130, 150)),
    "duck": dict(main=(252, 214, 62), second=(196, 140, 30), light=(255, 250, 225), accent=(240, 124, 36)),
    "fish": dict(main=(248, 134, 44), second=(212, 78, 24), light=(255, 240, 220), accent=(250, 210, 80)),
    "car": dict(main=(246, 200, 48), second=(214, 130, 30), light=(255, 246, 220), accent=(90, 110, 130)),
    "house": dict(main=(150, 88, 60), second=(112, 62, 40), light=(246, 228, 190), accent=(200, 90, 60)),
    "hat": dict(main=(64, 62, 72), second=(42, 40, 50), light=(235, 232, 226), accent=(208, 60, 60)),
    "flower": dict(main=(246, 130, 178), second=(206, 70, 130), light=(255, 232, 240), accent=(190, 106, 66)),
    "ball": dict(main=(246, 244, 240), second=(240, 132, 44), light=(255, 255, 255), accent=(222, 60, 60)),
    "cup": dict(main=(240, 238, 232), second=(120, 176, 190), light=(255, 255, 255), accent=(228, 84, 84)),
}
NATURAL_SHARED = dict(dark=(52, 36, 34), dark2=(58, 52, 60), glass=(150, 208, 238), leaf=(78, 160, 72),
                      heart=(250, 208, 70))

# tint -> (dark, middle, light): everything of a tinted object lies on this ramp
TINTS = {
    "red": ((70, 0, 8), (222, 38, 44), (255, 190, 180)),
    "green": ((0, 45, 12), (48, 176, 66), (200, 255, 190)),
    "blue": ((8, 8, 80), (45, 95, 232), (185, 215, 255)),
    "purple": ((45, 0, 65), (152, 58, 205), (238, 195, 255)),
}
NATURAL = "natural"


def palette(noun, tint):
    if tint == NATURAL:
        return {**NATURAL_SHARED, **NATURAL_COLOURS[noun]}
    dark, middle, light = (np.array(colour, float) for colour in TINTS[tint])
    mix = lambda a, b, share: tuple(int(v) for v in np.rint(a + (b - a) * share))
    return dict(main=mix(middle, light, 0), second=mix(dark, middle, .5), light=tuple(map(int, light)),
                accent=mix(middle, light, .55), dark=tuple(map(int, dark)), dark2=mix(dark, middle, .2),
                glass=tuple(map(int, light)), leaf=mix(dark, middle, .65), heart=tuple(map(int, light)))


def master(noun, shape, tint):
    """The object as RGBA, MASTER pixels square."""
    drawing = Drawing()
    DRAW[noun](drawing, *shape)
    return drawing.paint(palette(noun, tint), MASTER)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheet", default="shapes.png")
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--side", type=int, default=80)
    options = parser.parse_args()
    rng, side = random.Random(5), options.side
    canvas = Image.new("RGB", (options.columns * side, len(FEATURES) * side), (150, 190, 170))
    for row, noun in enumerate(FEATURES):
        chosen = rng.sample(shapes(noun), options.columns)
        print(noun, len(shapes(noun)))
        for column, shape in enumerate(chosen):
            tint = NATURAL if column < options.columns * 2 // 3 else rng.choice(list(TINTS))
            tile = master(noun, shape, tint).resize((side - 4, side - 4), Image.LANCZOS)
            canvas.paste(tile, (column * side + 2, row * side + 2), tile)
    canvas.save(options.sheet)


if __name__ == "__main__":
    main()
