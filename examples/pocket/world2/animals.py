"""Six classes of animals: functions that put one shape, a value of each of its features, on a drawing."""
import math

from drawing import CURVE_POINTS


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
