"""Layers of polygons, painted with one outline around what melts into one another."""
import math

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLED = 4
OUTLINE = 0.022  # half of its width, in units of a sprite's side
CURVE_POINTS = 36


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
