"""Six classes of things: functions that put one shape, a value of each of its features, on a drawing."""
import math

import numpy as np


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
