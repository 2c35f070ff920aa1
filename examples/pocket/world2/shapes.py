"""Twelve classes of objects, each with a hundred shapes and more, drawn from four features.

    python shapes.py --sheet shapes.png     shapes of every class, to look at

FEATURES says what a class varies in; a shape is one value of each feature, which some captions name. All objects are
drawn by the functions below from polygons; no picture or font of others is used.
"""
import argparse
import itertools
import math
import random
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

MASTER = 96  # pixels of a side that sprites are shrunk from
SUPERSAMPLED = 4
OUTLINE = 0.022  # half of its width, in units of a sprite's side
CURVE_POINTS = 36

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


class Drawing:
    """Polygons in layers. In a layer, outlines come first, so that parts of one layer melt into one another."""

    def __init__(self):
        self.layers = []
        self.layer()

    def layer(self):
        self.layers.append({"outlined": [], "fills": []})

    def polygon(self, points, role, outlined=True, inside=None):
        if outlined:
            self.layers[-1]["outlined"].append(points)
        self.layers[-1]["fills"].append((points, role, inside))
        return points

    def ellipse(self, x, y, rx, ry, role, turn=0.0, **rest):
        angles = [2 * math.pi * i / CURVE_POINTS for i in range(CURVE_POINTS)]
        c, s = math.cos(turn), math.sin(turn)
        return self.polygon([(x + rx * math.cos(a) * c - ry * math.sin(a) * s,
                              y + rx * math.cos(a) * s + ry * math.sin(a) * c) for a in angles], role, **rest)

    def box(self, left, top, right, bottom, role, round_=0.0, **rest):
        r = min(round_, (right - left) / 2, (bottom - top) / 2)
        if r <= 0:
            return self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], role, **rest)
        corners = [(right - r, bottom - r, 0), (left + r, bottom - r, 1), (left + r, top + r, 2),
                   (right - r, top + r, 3)]
        return self.polygon([(x + r * math.cos(a), y + r * math.sin(a)) for x, y, quarter in corners
                             for a in [(quarter + i / 6) * math.pi / 2 for i in range(7)]], role, **rest)

    def stroke(self, points, width, role, **rest):
        """A thick line with round ends through the points."""
        for (x0, y0), (x1, y1) in zip(points, points[1:]):
            turn = math.atan2(y1 - y0, x1 - x0)
            half = [(x1, y1, turn - math.pi / 2), (x0, y0, turn + math.pi / 2)]
            self.polygon([(x + width / 2 * math.cos(a + i * math.pi / 8), y + width / 2 * math.sin(a + i * math.pi / 8))
                          for x, y, a in half for i in range(9)], role, **rest)

    def arc(self, x, y, rx, ry, first, last, width, role, **rest):
        """A thick piece of an ellipse, angles in degrees, clockwise from the right."""
        angles = [math.radians(first + (last - first) * i / 10) for i in range(11)]
        self.stroke([(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles], width, role, **rest)

    def paint(self, palette, side):
        """Scaled to fill the square's width or height, standing on its lower edge; RGBA."""
        size = side * SUPERSAMPLED
        points = np.array([p for layer in self.layers for polygon in layer["outlined"] for p in polygon])
        low, high = points.min(0) - OUTLINE, points.max(0) + OUTLINE
        scale = size / (high - low).max()
        shift = np.array([size / 2 - scale * (low[0] + high[0]) / 2, size - scale * high[1]])
        placed = lambda polygon: [tuple(p) for p in (np.array(polygon) * scale + shift).tolist()]
        width = max(1, round(2 * OUTLINE * size))
        canvas = Image.new("RGBA", (size, size), (*palette["dark"], 0))
        pen = ImageDraw.Draw(canvas)
        for layer in self.layers:
            for polygon in map(placed, layer["outlined"]):
                pen.polygon(polygon, fill=palette["dark"])
                pen.line([*polygon, *polygon[:2]], fill=palette["dark"], width=width, joint="curve")
            for polygon, role, inside in layer["fills"]:
                if inside is None:
                    pen.polygon(placed(polygon), fill=palette[role])
                    continue
                mask, within = Image.new("1", canvas.size), Image.new("1", canvas.size)
                ImageDraw.Draw(mask).polygon(placed(polygon), fill=1)
                for other in inside:
                    ImageDraw.Draw(within).polygon(placed(other), fill=1)
                both = np.asarray(mask) & np.asarray(within)
                canvas.paste(palette[role], mask=Image.fromarray(both))
        return canvas.reduce(SUPERSAMPLED)


def eyes(d, x, y, apart, size=0.035):
    for side in (-1, 1):
        d.ellipse(x + side * apart, y, size, size * 1.2, "dark", outlined=False)


def dog(d, ears, tail, coat, build):
    rx, ry, leg = {"stocky": (.25, .19, .18), "long": (.36, .13, .12), "tall": (.21, .15, .36)}[build]
    x, y = .56, .96 - leg - ry
    hx, hy = x - rx - .06, y - ry - .08
    tx, ty = x + rx - .03, y - ry * .4
    if tail == "curl":
        d.arc(tx + .06, ty - .1, .09, .1, 100, -140, .075, "main")
    elif tail == "bushy":
        d.ellipse(tx + .12, ty - .12, .2, .1, "second", -.9)
    elif tail == "stub":
        d.ellipse(tx + .05, ty - .04, .07, .07, "main")
    else:
        d.stroke([(tx, ty), (tx + .2, ty - .26)], .065, "main")
    far = [x - rx * .45, x + rx * .45]
    d.layer()
    for lx in far:
        d.stroke([(lx, y), (lx, .93)], .09, "second")
    d.layer()
    body = [d.ellipse(x, y, rx, ry, "main")]
    for lx in (x - rx * .78, x + rx * .78):
        d.stroke([(lx, y), (lx, .93)], .1, "main")
    d.stroke([(x - rx * .72, y - ry * .2), (hx, hy)], .17, "main")
    if coat == "spots":
        for sx, sy, r in [(-.45, -.1, .35), (.2, -.45, .3), (.65, .1, .3), (.1, .5, .28)]:
            d.ellipse(x + sx * rx, y + sy * ry, .27 * r + .02, .24 * r + .02, "second", outlined=False, inside=body)
    elif coat == "saddle":
        d.ellipse(x + .1 * rx, y - ry * .75, rx * .85, ry * .95, "second", outlined=False, inside=body)
    elif coat == "belly":
        d.ellipse(x, y + ry * .8, rx * 1.05, ry * .85, "light", outlined=False, inside=body)
    d.layer()
    if ears == "pointed":
        d.polygon([(hx - .02, hy - .07), (hx + .07, hy - .3), (hx + .15, hy - .05)], "second")
    elif ears == "round":
        d.ellipse(hx + .08, hy - .13, .1, .1, "second")
    d.layer()
    d.ellipse(hx - .13, hy + .05, .11, .08, "light")
    d.ellipse(hx, hy, .15, .145, "main")
    d.ellipse(hx - .22, hy + .02, .04, .035, "dark", outlined=False)
    d.ellipse(hx - .05, hy - .03, .03, .036, "dark", outlined=False)
    d.layer()
    if ears == "floppy":
        d.ellipse(hx + .1, hy + .03, .065, .14, "second", -.2)
    elif ears == "long":
        d.ellipse(hx + .11, hy + .15, .085, .25, "second", -.12)


def cat(d, ears, tail, coat, build):
    rx, ry, hr = {"slim": (.19, .3, .18), "fat": (.33, .27, .19), "head": (.2, .2, .28), "bow": (.24, .26, .21)}[build]
    x, y = .5, .96 - ry
    hx, hy = x, y - ry - hr * .55
    if tail == "up":
        d.arc(x + rx + .04, y + .02, .12, .34, 80, -60, .075, "main")
    elif tail == "bushy":
        d.ellipse(x + rx + .08, y - .02, .11, .27, "second", .35)
    else:
        d.stroke([(x + rx * .5, .91), (x + rx + .24, .91)], .09, "second")
    d.layer()
    body = [d.ellipse(x, y, rx, ry, "main")]
    if coat == "stripes":
        for sy in (-.45, 0, .45):
            for side in (-1, 1):
                d.stroke([(x + side * rx, y + ry * sy), (x + side * rx * .35, y + ry * (sy + .08))], .055, "second",
                         outlined=False, inside=body)
    elif coat == "patch":
        d.box(x, 0, 1.2, 1.2, "second", outlined=False, inside=body)
    elif coat == "bib":
        d.ellipse(x, y - ry * .1, rx * .6, ry * .75, "light", outlined=False)
    for side in (-1, 1):
        d.ellipse(x + side * rx * .55, .92, .09, .05, "light" if coat == "bib" else "main")
    d.layer()
    for side in (-1, 1):
        at = lambda px, py: (hx + side * px * hr, hy + py * hr)
        if ears == "pointed":
            d.polygon([at(.25, -.7), at(.75, -1.75), at(.98, -.3)], "main")
        elif ears == "wide":
            d.polygon([at(.2, -.75), at(1.55, -1.3), at(1.0, .1)], "main")
        else:
            d.ellipse(hx + side * .68 * hr, hy - .75 * hr, .4 * hr, .22 * hr, "second", side * .6)
    d.layer()
    head = [d.ellipse(hx, hy, hr * 1.15, hr, "main")]
    if coat == "stripes":
        for sx in (-.4, 0, .4):
            d.stroke([(hx + sx * hr, hy - hr), (hx + sx * hr, hy - hr * .5)], .05, "second", outlined=False,
                     inside=head)
    elif coat == "patch":
        d.box(hx, 0, 1.2, 1.2, "second", outlined=False, inside=head)
    d.ellipse(hx, hy + hr * .48, hr * .55, hr * .36, "light", outlined=False)
    eyes(d, hx, hy - hr * .05, hr * .48)
    d.ellipse(hx, hy + hr * .34, .035, .025, "dark", outlined=False)
    if build == "bow":
        d.layer()
        for side in (-1, 1):
            d.polygon([(x, hy + hr), (x + side * .16, hy + hr - .08), (x + side * .16, hy + hr + .08)], "accent")


def bear(d, ears, coat, build, wears):
    rx, ry, hr = {"tall": (.2, .33, .2), "round": (.34, .29, .2), "head": (.23, .2, .31)}[build]
    x, y = .5, .96 - ry
    hx, hy = x, y - ry - hr * .5
    limb = "dark2" if coat == "panda" else "main"
    ear = "dark2" if coat == "panda" else "second"
    for side in (-1, 1):
        if ears == "small":
            d.ellipse(hx + side * hr * .75, hy - hr * .75, hr * .34, hr * .34, ear)
        elif ears == "large":
            d.ellipse(hx + side * hr * .85, hy - hr * .8, hr * .58, hr * .58, ear)
        else:
            d.ellipse(hx + side * hr * 1.3, hy - hr * .1, hr * .55, hr * .5, ear)
    d.layer()
    d.ellipse(x, y, rx, ry, "light" if coat == "panda" else "main")
    if coat == "belly":
        d.ellipse(x, y + ry * .15, rx * .62, ry * .65, "light", outlined=False)
    elif coat == "crescent":
        d.arc(x, y - ry * .75, rx * .6, ry * .6, 15, 165, .08, "light", outlined=False)
    d.layer()
    for side in (-1, 1):
        d.ellipse(x + side * rx * .88, y - ry * .15, .085, .17, limb, side * -.45)
        d.ellipse(x + side * rx * .62, .9, .12, .085, limb)
    d.layer()
    d.ellipse(hx, hy, hr * 1.1, hr, "light" if coat == "panda" else "main")
    if coat == "panda":
        for side in (-1, 1):
            d.ellipse(hx + side * hr * .45, hy - hr * .05, hr * .26, hr * .34, "dark2", side * .4, outlined=False)
    else:
        d.ellipse(hx, hy + hr * .42, hr * .52, hr * .4, "light", outlined=False)
    eyes(d, hx, hy - hr * .12, hr * .42, .032 if coat != "panda" else .02)
    d.ellipse(hx, hy + hr * .28, hr * .2, hr * .15, "dark", outlined=False)
    d.layer()
    if wears == "scarf":
        d.stroke([(hx - hr * .75, hy + hr * .92), (hx + hr * .75, hy + hr * .92)], .11, "accent")
        d.stroke([(hx + hr * .45, hy + hr * .92), (hx + hr * .6, hy + hr * .92 + .22)], .1, "accent")
    elif wears == "cap":
        d.polygon([(hx - hr * .6, hy - hr * .72), (hx, hy - hr * 2.0), (hx + hr * .6, hy - hr * .72)], "accent")
        d.ellipse(hx, hy - hr * 2.0, .06, .06, "light")
    elif wears == "glasses":
        for side in (-1, 1):
            d.ellipse(hx + side * hr * .46, hy - hr * .1, hr * .36, hr * .36, "accent")
            d.ellipse(hx + side * hr * .46, hy - hr * .1, hr * .17, hr * .19, "dark", outlined=False)


def rabbit(d, ears, coat, build, tail):
    rx, ry, hr = {"tall": (.19, .27, .16), "round": (.3, .25, .18), "crouched": (.36, .17, .17)}[build]
    x, y = .54, .96 - ry
    hx, hy = x - rx * .62, y - ry * .75 - hr * .4
    if tail != "none":
        r = .095 if tail == "puff" else .17
        d.ellipse(x + rx + r * .35, y + ry * .25, r, r, "light")
    d.layer()
    length = .19
    if ears == "up":
        d.ellipse(hx - .03, hy - hr - length * .75, .055, length, "main", -.08)
        d.ellipse(hx + .1, hy - hr - length * .7, .055, length, "second", .12)
    elif ears == "bent":
        d.ellipse(hx - .02, hy - hr - length * .75, .055, length, "main")
        d.stroke([(hx + .07, hy - hr * .7), (hx + .13, hy - hr - .12), (hx + .3, hy - hr - .06)], .1, "second")
    elif ears == "apart":
        d.ellipse(hx - .17, hy - hr - length * .45, .055, length, "main", -.75)
        d.ellipse(hx + .19, hy - hr - length * .45, .055, length, "second", .75)
    d.layer()
    body = [d.ellipse(x, y, rx, ry, "main")]
    if coat == "spots":
        for sx, sy in [(-.3, .1), (.3, -.45), (.6, .25), (.1, .5)]:
            d.ellipse(x + sx * rx, y + sy * ry, .075, .065, "second", outlined=False, inside=body)
    elif coat == "saddle":
        d.box(x - rx * .1, 0, 1.4, 1.2, "second", outlined=False, inside=body)
    elif coat == "belly":
        d.ellipse(x - rx * .2, y + ry * .6, rx * .85, ry * .75, "light", outlined=False, inside=body)
    d.ellipse(x + rx * .35, .9, rx * .5, .07, "main")
    d.ellipse(x - rx * .65, .9, .1, .06, "main")
    d.layer()
    d.ellipse(hx, hy, hr * 1.05, hr, "main")
    d.ellipse(hx - hr * .55, hy + hr * .35, hr * .45, hr * .35, "light", outlined=False)
    d.ellipse(hx - hr * .95, hy + hr * .15, .03, .028, "accent", outlined=False)
    d.ellipse(hx - hr * .3, hy - hr * .2, .032, .04, "dark", outlined=False)
    if ears == "lop":
        d.layer()
        d.ellipse(hx + hr * .75, hy + .12, .07, length * 1.05, "second", -.18)


def duck(d, bill, head, build, wing):
    rx, ry, hr, neck = {"round": (.28, .24, .17, .05), "low": (.36, .16, .13, .2), "upright": (.2, .3, .15, .06)}[build]
    x, y = .56, .88 - ry
    hx, hy = x - rx * .7, y - ry * .8 - neck - hr * .4
    for side in (-.25, .2):
        d.stroke([(x + side * rx, y), (x + side * rx, .93), (x + side * rx - .07, .94)], .045, "accent")
    d.layer()
    bx = hx - hr * .85
    if bill == "short":
        d.polygon([(bx, hy - .05), (bx - .13, hy + .03), (bx, hy + .08)], "accent")
    elif bill == "flat":
        d.stroke([(bx, hy + .04), (bx - .17, hy + .06)], .07, "accent")
    else:
        d.polygon([(bx + .02, hy - .1), (bx - .22, hy - .02), (bx - .2, hy + .12), (bx + .02, hy + .1)], "accent")
    if head == "tuft":
        for turn in (-.5, .2, .8):
            d.ellipse(hx + .09 * math.sin(turn) + .02, hy - hr - .05, .035, .1, "second", turn)
    d.layer()
    d.polygon([(x + rx * .5, y - ry * .6), (x + rx + .16, y - ry * .95), (x + rx * .8, y + ry * .5)], "main")
    d.ellipse(x, y, rx, ry, "main")
    d.stroke([(x - rx * .55, y - ry * .3), (hx, hy)], hr * 1.15, "main")
    skull = [d.ellipse(hx, hy, hr, hr, "main")]
    if head == "mask":
        d.box(-1, -1, 2, hy + hr * .3, "second", outlined=False, inside=skull)
    elif head == "ring":
        nx, ny = hx + (x - rx * .55 - hx) * .45, hy + hr * .75 + neck * .3
        d.stroke([(nx - hr * .75, ny + .02), (nx + hr * .75, ny - .02)], .075, "light", outlined=False)
    d.ellipse(hx - hr * .3, hy - hr * .1, .03, .038, "light" if head == "mask" else "dark", outlined=False)
    d.layer()
    if wing == "raised":
        d.polygon([(x - rx * .3, y), (x + rx * .5, y - ry - .26), (x + rx * .75, y - ry * .2),
                   (x + rx * .4, y + ry * .2)], "second")
    else:
        role = "second" if wing == "dark" else "main"
        area = [d.ellipse(x + rx * .22, y + ry * .02, rx * .58, ry * .48, role, -.15)]
        if wing == "barred":
            for sx in (-.1, .28, .66):
                d.stroke([(x + rx * sx, y - ry), (x + rx * (sx - .1), y + ry)], .06, "light", outlined=False,
                         inside=area)


def fish(d, build, tail, fin, pattern):
    rx, ry = {"disc": (.3, .29), "long": (.4, .16), "kite": (.27, .33), "drop": (.34, .23)}[build]
    x, y = .42, .55
    tx = x + rx - .05
    if tail == "fork":
        d.polygon([(tx, y), (tx + .28, y - .24), (tx + .17, y), (tx + .28, y + .24)], "second")
    elif tail == "fan":
        d.ellipse(tx + .14, y, .13, .2, "second")
    elif tail == "moon":
        d.arc(tx + .3, y, .2, .24, 105, 255, .09, "second")
        d.stroke([(tx, y), (tx + .12, y)], .09, "second")
    else:
        d.polygon([(tx - .02, y - .12), (tx + .32, y), (tx - .02, y + .12)], "second")
    if fin == "sail":
        d.polygon([(x - rx * .55, y - ry * .6), (x + rx * .1, y - ry - .24), (x + rx * .75, y - ry * .5)], "second")
    elif fin == "spikes":
        for sx in (-.4, 0, .4):
            top = y - ry * math.sqrt(1 - sx * sx)
            d.polygon([(x + rx * sx - .07, top + .06), (x + rx * sx + .04, top - .17), (x + rx * sx + .08, top + .06)],
                      "second")
    else:
        d.ellipse(x + rx * .1, y - ry * .98, .1, .06, "second")
    d.layer()
    if build == "kite":
        corners = [(x - rx, y), (x - rx * .15, y - ry), (x + rx, y - .06), (x + rx, y + .06), (x - rx * .15, y + ry)]
        body = d.polygon(corners, "main")
    elif build == "drop":
        steps = [2 * math.pi * i / CURVE_POINTS for i in range(CURVE_POINTS)]
        body = d.polygon([(x + rx * math.cos(a), y + ry * math.sin(a) * (1 - .55 * (math.cos(a) + 1) / 2) * 1.12)
                          for a in steps], "main")
    else:
        body = d.ellipse(x, y, rx, ry, "main")
    if pattern == "bars":
        for sx in (-.25, .2, .62):
            d.box(x + rx * sx - .045, 0, x + rx * sx + .045, 1.2, "light", outlined=False, inside=[body])
    elif pattern == "dots":
        for sx, sy in [(-.1, -.45), (.35, -.2), (.02, .12), (.42, .3), (-.2, .6)]:
            d.ellipse(x + rx * sx, y + ry * sy, .055, .055, "second", outlined=False, inside=[body])
    elif pattern == "half":
        d.box(-1, y + ry * .05, 2, 2, "light", outlined=False, inside=[body])
    elif pattern == "line":
        d.box(x - rx * .3, y - .05, 2, y + .05, "dark2", outlined=False, inside=[body])
    d.ellipse(x - rx * .55, y - ry * .15, .065, .065, "light", outlined=False)
    d.ellipse(x - rx * .57, y - ry * .15, .036, .036, "dark", outlined=False)


def car(d, build, wheels, roof, paint):
    ground, r = .96, .15 if wheels == "large" else .1
    base = ground - r * .75
    outlines = {
        "sedan": [(.02, .62), (.22, .58), (.34, .36), (.68, .36), (.82, .58), (.98, .63), (.98, .86), (.02, .86)],
        "van": [(.02, .6), (.12, .28), (.98, .28), (.98, .86), (.02, .86)],
        "beetle": [(.03, .74), (.1, .6), (.24, .54), (.34, .36), (.5, .29), (.66, .33), (.84, .5), (.96, .68),
                   (.97, .86), (.03, .86)],
        "pickup": [(.02, .62), (.16, .58), (.24, .34), (.52, .34), (.54, .58), (.98, .58), (.98, .86), (.02, .86)],
        "wedge": [(.01, .76), (.38, .58), (.54, .46), (.86, .48), (.98, .62), (.98, .86), (.01, .86)],
    }
    windows = {
        "sedan": [[(.29, .57), (.38, .42), (.49, .42), (.49, .57)], [(.53, .57), (.53, .42), (.65, .42), (.74, .57)]],
        "van": [[(.11, .55), (.18, .36), (.36, .36), (.36, .55)], [(.42, .36), (.64, .36), (.64, .55), (.42, .55)],
                [(.7, .36), (.91, .36), (.91, .55), (.7, .55)]],
        "beetle": [[(.31, .55), (.39, .4), (.48, .37), (.48, .55)], [(.54, .55), (.54, .37), (.63, .4), (.74, .55)]],
        "pickup": [[(.23, .57), (.29, .41), (.46, .41), (.47, .57)]],
        "wedge": [[(.42, .62), (.57, .52), (.72, .53), (.74, .63)]],
    }
    top = {"sedan": (.51, .36), "van": (.55, .28), "beetle": (.5, .3), "pickup": (.38, .34), "wedge": (.66, .47)}[build]
    drop = base - .86
    at = lambda points: [(px, py + drop) for px, py in points]
    tx, ty = top[0], top[1] + drop
    if roof == "rack":
        d.box(tx - .16, ty - .17, tx + .16, ty - .02, "accent", .03)
    elif roof == "lamp":
        d.ellipse(tx, ty - .02, .09, .1, "accent")
    elif roof == "fin":
        d.polygon([(.74, .62 + drop), (.86, .2 + drop), (1.04, .2 + drop), (.98, .66 + drop)], "second")
    d.layer()
    body = d.polygon(at(outlines[build]), "main")
    if paint == "lower":
        d.box(-1, .71 + drop, 2, 2, "light", outlined=False, inside=[body])
    elif paint == "stripe":
        d.box(-1, .64 + drop, 2, .74 + drop, "second", outlined=False, inside=[body])
    elif paint == "dots":
        for sx in (.16, .38, .6, .82):
            d.ellipse(sx, .73 + drop, .062, .062, "light", outlined=False, inside=[body])
    for window in windows[build]:
        d.polygon(at(window), "glass", outlined=False)
    d.ellipse(.045, .7 + drop, .035, .05, "light", outlined=False)
    d.layer()
    for wx in {"three": (.18, .5, .82)}.get(wheels, (.23, .77)):
        d.ellipse(wx, ground - r, r, r, "dark")
        d.ellipse(wx, ground - r, r * .45, r * .45, "light", outlined=False)


def house(d, roof, walls, door, windows):
    half, wall = {"narrow": (.2, .52), "square": (.32, .44), "wide": (.46, .34)}[walls]
    x, top = .5, .96 - wall
    body = d.box(x - half, top, x + half, .96, "light")
    d.layer()
    if roof == "gable":
        d.polygon([(x - half - .08, top + .02), (x, top - .26), (x + half + .08, top + .02)], "main")
    elif roof == "steep":
        d.box(x + half * .35, top - .34, x + half * .35 + .1, top - .05, "second")
        d.layer()
        d.polygon([(x - half - .04, top + .02), (x - half * .35, top - .48), (x + half + .04, top + .02)], "main")
    elif roof == "flat":
        d.box(x - half - .06, top - .11, x + half + .06, top + .03, "main")
        d.box(x - half * .75, top - .24, x - half * .75 + .12, top - .1, "second")
    elif roof == "dome":
        points = [(x + (half + .03) * math.cos(a), top - .3 * math.sin(a)) for a in np.linspace(0, math.pi, 20)]
        d.polygon([(x + half + .03, top + .03), *points, (x - half - .03, top + .03)], "main")
        d.stroke([(x, top - .3), (x, top - .4)], .045, "second")
    else:
        d.polygon([(x - half - .15, top + .16), (x - half * .4, top - .2), (x + half * .4, top - .2),
                   (x + half + .15, top + .16)], "main")
        for side in (-.5, 0, .5):
            d.stroke([(x + side * half * .6, top - .15), (x + side * (half + .1) * 1.3, top + .12)], .03, "second",
                     outlined=False)
    low = top + .2 if roof == "hut" else top + .07
    d.layer()
    width, height = .075, min(.24, .92 - low)
    dx = {"middle": x, "arch": x, "left": x - half * .55}[door]
    if door == "arch":
        width = .1
        d.box(dx - width, .96 - height, dx + width, .96, "second", .1)
        d.box(dx - width, .9, dx + width, .96, "second", outlined=False)
    else:
        d.box(dx - width, .96 - height, dx + width, .96, "second")
    spots = {"two": (-.58, .58), "round": (.58,), "four": (-.58, .58), "tall": (.62,)}[windows]
    if door == "left":
        spots = {"two": (.15, .65), "round": (.5,), "four": (.15, .65), "tall": (.5,)}[windows]
    for sx in spots:
        wx, wy = x + sx * half, low + .09
        size = min(.075, half * .28)
        if windows == "round":
            d.ellipse(wx, wy + .02, size * 1.25, size * 1.25, "glass")
        elif windows == "tall":
            d.box(wx - size * .8, low + .01, wx + size * .8, low + .26, "glass")
        else:
            for sy in ((0,) if windows == "two" else (-.045, .1)):
                tall = size * (1 if windows == "two" else .6)
                d.box(wx - size * .9, wy + sy - tall, wx + size * .9, wy + sy + tall, "glass")


def hat(d, crown, brim, trim, cloth):
    x, base = .5, .84
    half = {"tall": .24, "dome": .27, "cone": .26, "dented": .27, "cap": .3}[crown]
    top = {"tall": .26, "dome": .46, "cone": .16, "dented": .42, "cap": .5}[crown]
    spread = {"wide": .48, "narrow": .33, "curled": .42}[brim]
    if brim == "curled":
        d.arc(x, base - .13, spread, .17, 15, 165, .1, "second")
    else:
        d.ellipse(x, base, spread, .09 if brim == "wide" else .075, "second")
    d.layer()
    if crown == "tall":
        body = d.polygon([(x - half - .03, top), (x + half + .03, top), (x + half - .03, base), (x - half + .03, base)],
                         "main")
    elif crown == "cone":
        body = d.polygon([(x - half, base), (x - .05, top), (x + .03, top), (x + half, base)], "main")
    elif crown == "dented":
        body = d.polygon([(x - half, base), (x - half * .85, top), (x - half * .5, top - .07), (x, top + .09),
                          (x + half * .5, top - .07), (x + half * .85, top), (x + half, base)], "main")
    else:
        arch = [(x + half * math.cos(a), base - (base - top) * math.sin(a)) for a in np.linspace(0, math.pi, 24)]
        body = d.polygon([*arch], "main")
        if crown == "cap":
            d.ellipse(x, top - .02, .07, .07, "light")
    if cloth == "stripes":
        for sx in (-.6, 0, .6):
            d.box(x + sx * half - .04, 0, x + sx * half + .04, base, "light", outlined=False, inside=[body])
    elif cloth == "dots":
        for i, sy in enumerate(np.arange(base - .2, top, -.15)):
            for sx in ((-.5, .5), (0,))[i % 2]:
                d.ellipse(x + sx * half, sy, .05, .05, "light", outlined=False, inside=[body])
    if trim != "none":
        d.box(-1, base - .13, 2, base - .01, "accent", outlined=False, inside=[body])
    d.layer()
    if trim == "feather":
        d.ellipse(x + half * .95, base - .32, .065, .25, "light", .35)
    elif trim == "bow":
        for side in (-1, 1):
            cx = x - half * .35
            d.polygon([(cx, base - .08), (cx + side * .15, base - .19), (cx + side * .15, base + .03)], "accent")


def flower(d, petals, heart, leaves, stem):
    x, y = .5, .32
    foot = (x, .93)
    middle = (x - .13, .66) if stem == "bent" else (x, .64)
    if stem == "bent":
        foot = (x + .06, .93)
    d.stroke([(x, y), middle, foot], .055, "leaf")
    if leaves in ("two", "one"):
        d.ellipse(middle[0] - .15, .72, .15, .065, "leaf", .5)
    if leaves == "two":
        d.ellipse(middle[0] + .16, .7, .15, .065, "leaf", -.5)
    elif leaves == "blades":
        for side in (-1, 1):
            d.polygon([(foot[0] - .03, .95), (foot[0] + side * .27, .5), (foot[0] + .03, .95)], "leaf")
    d.layer()
    if stem == "pot":
        d.polygon([(x - .17, .76), (x + .17, .76), (x + .12, .96), (x - .12, .96)], "accent")
        d.box(x - .2, .72, x + .2, .79, "accent")
        d.layer()
    size = {"small": .07, "large": .14, "ring": .12}[heart]
    if petals == "tulip":
        d.polygon([(x - .2, y - .22), (x - .09, y - .06), (x, y - .26), (x + .09, y - .06), (x + .2, y - .22),
                   (x + .19, y + .08), (x + .09, y + .2), (x - .09, y + .2), (x - .19, y + .08)], "main")
        y += .04
    elif petals == "star":
        d.polygon([(x + (.3 if i % 2 == 0 else .14) * math.sin(i * math.pi / 5),
                    y - (.3 if i % 2 == 0 else .14) * math.cos(i * math.pi / 5)) for i in range(10)], "main")
    elif petals == "cluster":
        for i in range(3):
            turn = 2 * math.pi * i / 3
            d.layer()
            d.ellipse(x + .14 * math.sin(turn), y - .14 * math.cos(turn), .15, .15, "main")
    else:
        count, far, wide, long = {"round": (5, .17, .115, .125), "daisy": (9, .2, .05, .14)}[petals]
        for i in range(count):
            turn = 2 * math.pi * i / count
            if petals == "daisy":
                d.layer()
            d.ellipse(x + far * math.sin(turn), y - far * math.cos(turn), wide, long, "main", turn)
    d.layer()
    d.ellipse(x, y, size, size, "heart")
    if heart == "ring":
        d.ellipse(x, y, size * .5, size * .5, "dark", outlined=False)


def ball(d, build, pattern, mark, top):
    x, y = .5, .58
    rx, ry, turn = {"round": (.38, .38, 0), "egg": (.3, .4, 0), "rugby": (.46, .28, -.45)}[build]
    if top == "loop":
        d.arc(x, y - ry * .95, .1, .12, 180, 360, .05, "accent")
    elif top == "spike":
        d.polygon([(x - .13, y - ry * .8), (x, y - ry - .2), (x + .13, y - ry * .8)], "accent")
    d.layer()
    body = [d.ellipse(x, y, rx, ry, "main", turn)]
    rest = dict(outlined=False, inside=body)
    c, s = math.cos(turn), math.sin(turn)
    at = lambda px, py: (x + rx * px * c - ry * py * s, y + rx * px * s + ry * py * c)
    if pattern == "band":
        d.stroke([at(-1.2, 0), at(1.2, 0)], .26, "second", **rest)
    elif pattern == "patches":
        for px, py in [(0, -.95), (.9, -.25), (.55, .8), (-.55, .8), (-.9, -.25)]:
            d.ellipse(*at(px, py), .13, .13, "dark2", **rest)
    elif pattern == "wedges":
        for first in (0, 120, 240):
            a, b = math.radians(first), math.radians(first + 60)
            d.polygon([at(0, 0), at(2 * math.cos(a), 2 * math.sin(a)), at(2 * math.cos(b), 2 * math.sin(b))], "second",
                      **rest)
    elif pattern == "seams":
        for line in ([at(-1.2, 0), at(1.2, 0)], [at(0, -1.2), at(0, 1.2)]):
            d.stroke(line, .045, "dark", **rest)
        for side in (-1, 1):
            d.stroke([at(side * (.45 + .5 * v * v), v) for v in (-1, -.5, 0, .5, 1)], .045, "dark", **rest)
    elif pattern == "rings":
        d.ellipse(x, y, rx * .78, ry * .78, "second", turn, **rest)
        d.ellipse(x, y, rx * .52, ry * .52, "main", turn, **rest)
    else:
        for px, py in [(-.5, -.5), (.1, -.72), (.62, -.3), (-.7, .15), (-.1, .75), (.55, .5)]:
            d.ellipse(*at(px, py), .075, .075, "second", **rest)
    if mark == "star":
        d.polygon([(x + (.2 if i % 2 == 0 else .085) * math.sin(i * math.pi / 5),
                    y - (.2 if i % 2 == 0 else .085) * math.cos(i * math.pi / 5)) for i in range(10)], "accent", **rest)
    elif mark == "disc":
        d.ellipse(x, y, .15, .15, "light", **rest)
        d.ellipse(x, y, .07, .07, "accent", **rest)
    elif mark == "cross":
        for line in ([(x - .15, y - .15), (x + .15, y + .15)], [(x - .15, y + .15), (x + .15, y - .15)]):
            d.stroke(line, .085, "accent", **rest)


def cup(d, build, handle, paint, over):
    x = .5
    wide, low, top = {"straight": (.26, .26, .42), "tapered": (.32, .19, .42), "bowl": (.36, .24, .52),
                      "tall": (.2, .2, .24)}[build]
    sides = {"right": (1,), "left": (-1,), "none": (), "two": (-1, 1)}[handle]
    middle = (top + .96) / 2
    for side in sides:
        d.arc(x + side * (wide + low) / 2, middle - .03, .17, .14, 80 if side > 0 else 100, -80 if side > 0 else 260,
              .065, "second")
    if over == "straw":
        d.stroke([(x + .02, top + .1), (x + .16, top - .24), (x + .3, top - .26)], .05, "accent")
    elif over == "foam":
        for sx, sy, r in ((-.5, 0, .09), (.5, 0, .09), (0, -.06, .13)):
            d.ellipse(x + sx * wide, top + sy, r, r, "light")
    elif over == "steam":
        for side in (-.11, .11):
            d.stroke([(x + side, top - .08), (x + side + .04, top - .15), (x + side - .03, top - .22),
                      (x + side + .02, top - .3)], .045, "light")
    d.layer()
    if build == "bowl":
        arch = [(x + wide * math.cos(a), top + (.93 - top) * math.sin(a)) for a in np.linspace(0, math.pi, 24)]
        d.box(x - .13, .88, x + .13, .96, "second")
        d.layer()
        body = [d.polygon(arch, "main")]
    else:
        body = [d.polygon([(x - wide, top), (x + wide, top), (x + low, .96), (x - low, .96)], "main")]
    rest = dict(outlined=False, inside=body)
    height = .96 - top
    if paint == "band":
        d.box(-1, top + height * .38, 2, top + height * .68, "second", **rest)
    elif paint == "dots":
        for sx, sy in [(-.55, .35), (.0, .35), (.55, .35), (-.28, .68), (.28, .68)]:
            d.ellipse(x + sx * wide, top + sy * height, .055, .055, "second", **rest)
    elif paint == "zigzag":
        line = [(x - .42 + .12 * i, top + height * (.38 if i % 2 else .68)) for i in range(8)]
        d.stroke(line, .065, "second", **rest)
    elif paint == "heart":
        y = top + height * .5
        for side in (-1, 1):
            d.ellipse(x + side * .06, y - .04, .075, .075, "accent", **rest)
        d.polygon([(x - .13, y - .01), (x + .13, y - .01), (x, y + .15)], "accent", **rest)
    d.box(x - wide, top - .02, x + wide, top + .05, "light", outlined=False)


DRAW = {"dog": dog, "cat": cat, "bear": bear, "rabbit": rabbit, "duck": duck, "fish": fish, "car": car,
        "house": house, "hat": hat, "flower": flower, "ball": ball, "cup": cup}

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
