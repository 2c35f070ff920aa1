"""How right, sharp and true to their scenes pictures are, by the share of neurons shut: METHODS.md's curve.

    python curve.py --work WORK --cones BIN/cones [--draw curve.png] [--table]

For each of measure.py's six subjects one find of either method, its neurons chosen anew at every density with
`--from-scores`, and 32 pictures each, judged by judge.py. Two lines across are what sets of neurons are compared with:
the outputs that the learned ones were chosen for, stored as f16 (constants.py), and dense fine-tuning, 500 steps of
8 + 8. WORK keeps curve.json with what is measured already, so that a run that was interrupted goes on. `--draw` makes
the picture of what there is, `--table` prints its figures.
"""
import argparse
import json
import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import check
import constants
import judge
import measure

DENSITIES = [1, 2, 3, 5, 10, 20, 50]
WHAT = ["right", "sharp", "scene", "class plain"]
METHODS = {"learned": [], "paper": ["--method", "paper"]}
LINES = ["constants", "fine-tuned"]
COLOURS = {"learned": "#0b63a5", "paper": "#b3470f", "constants": "#2f8f4e", "fine-tuned": "#5b5b5b"}
WIDTH, HEIGHT, LEFT, TOP, SCALE = 330, 250, 46, 40, 2


class Curve:
    def __init__(self, work, cones):
        self.work, self.cones, self.path = work, cones, work / "curve.json"
        self.table = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.judges = judge.ObjectJudge(), judge.SceneJudge()

    def keep(self, rows, key, row, *names):
        rows[key] = row
        print(*names, key, row, flush=True)
        self.path.write_text(json.dumps(self.table, indent=1))

    def judged(self, name, index):
        return measure.judged(self.cones, self.judges, name, index) | {"bytes": index.stat().st_size}

    def points(self, method, extra, name):
        """One find, and every density chosen from its scores."""
        rows = self.table.setdefault(method, {}).setdefault(name, {})
        if len(rows) == len(DENSITIES):
            return
        scores = self.work / f"{name}.{method}.scores"
        if not scores.exists():
            measure.run(self.cones, "find", "--subject", measure.SUBJECTS[name]["class"], "--token",
                        measure.TOKENS[name], *extra, "--force", "--scores", scores,
                        "-o", self.work / f"{name}.{method}.curve.idx", measure.HERE / "subjects" / name)
        for density in DENSITIES:
            if str(density) in rows:
                continue
            index = self.work / f"{name}.{method}.{density}.idx"
            report = measure.run(self.cones, "find", "--from-scores", scores, "--density", f"{density}%",
                                 "--force", "-o", index)
            self.keep(rows, str(density), self.judged(name, index) | {"shut": report["density"]}, name, method)

    def lines(self, name):
        """Stored outputs and fine-tuned values; `points` of both methods come first."""
        stored, tuned = (self.table.setdefault(line, {}) for line in LINES)
        if name not in stored:
            model = measure.HERE / "model"
            row = constants.judged(self.judges, measure.SUBJECTS[name], self.work / f"{name}.learned.scores",
                                   check.load_pipeline(model), model)
            self.keep(stored, name, row, "constants")
        if name not in tuned:
            index = self.work / f"{name}.tuned.idx"
            measure.fine_tune(self.cones, name, self.work / f"{name}.paper.curve.idx", index)
            self.keep(tuned, name, self.judged(name, index), "fine-tuned")


def mean(rows, key):
    return sum(row[key] for row in rows) / len(rows)


def at(subjects, density):
    """The rows of one density, as far as they are measured."""
    return [rows[str(density)] for rows in subjects.values() if str(density) in rows]


def place(panel, shut, share):
    """Of a share of pictures at a density in percent, which is logarithmic."""
    x = math.log(shut) / math.log(DENSITIES[-1])
    return SCALE * (LEFT + panel * (WIDTH + LEFT) + x * WIDTH), SCALE * (TOP + (1 - share) * HEIGHT)


def draw(table, path):
    size = SCALE * (LEFT + 2 * (WIDTH + LEFT)), SCALE * (2 * (HEIGHT + 2 * TOP) + 20)
    canvas = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(12 * SCALE)
    for number, what in enumerate(WHAT):
        down = SCALE * (number // 2) * (HEIGHT + 2 * TOP)
        spot = lambda shut, share: tuple(map(sum, zip(place(number % 2, shut, share), (0, down))))
        for share in (0, 0.25, 0.5, 0.75, 1):
            pen.line([spot(1, share), spot(50, share)], "#dddddd", SCALE)
            x, y = spot(1, share)
            pen.text((x - 6 * SCALE, y), f"{share:.0%}", "black", font, anchor="rm")
        for density in DENSITIES:
            x, y = spot(density, 0)
            pen.text((x, y + 6 * SCALE), f"{density} %", "black", font, anchor="mt")
        x, y = spot(1, 1)
        pen.text((x, y - 10 * SCALE), f"{what}, share of pictures", "black", font, anchor="lb")
        for line in LINES:
            if table.get(line):
                share = mean(table[line].values(), what) / 32
                pen.line([spot(1, share), spot(50, share)], COLOURS[line], SCALE)
        for method in METHODS:
            chosen = [rows for rows in (at(table.get(method, {}), density) for density in DENSITIES) if rows]
            points = [spot(100 * mean(rows, "shut"), mean(rows, what) / 32) for rows in chosen]
            pen.line(points, COLOURS[method], 2 * SCALE)
            for x, y in points:
                pen.ellipse([x - 3 * SCALE, y - 3 * SCALE, x + 3 * SCALE, y + 3 * SCALE], COLOURS[method])
    x = SCALE * LEFT
    for name, colour in COLOURS.items():
        if table.get(name):
            y = size[1] - 16 * SCALE
            pen.line([(x, y), (x + 20 * SCALE, y)], colour, 3 * SCALE)
            pen.text((x + 26 * SCALE, y), name, "black", font, anchor="lm")
            x += SCALE * 120
    canvas.resize((size[0] // SCALE, size[1] // SCALE), Image.LANCZOS).save(path)


def print_table(table):
    """Sums over the subjects, in Markdown."""
    print(f"| | {' | '.join(WHAT)} | shut | file |\n| --- |{' ---: |' * (len(WHAT) + 2)}")
    rows = [(f"{method}, at most {density} %", at(table.get(method, {}), density))
            for method in METHODS for density in DENSITIES]
    for title, found in rows + [(line, list(table.get(line, {}).values())) for line in LINES]:
        if found:
            counts = " | ".join(str(sum(row[what] for row in found)) for what in WHAT)
            shut = f"{100 * mean(found, 'shut'):.1f} %" if "shut" in found[0] else ""
            print(f"| {title} ({len(found)} subjects) | {counts} | {shut} | {mean(found, 'bytes'):,.0f} B |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cones", default="cones")
    parser.add_argument("--draw", type=Path, metavar="PNG")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    curve = Curve(options.work, options.cones)
    for name in measure.SINGLE:
        for method, extra in METHODS.items():
            curve.points(method, extra, name)
        curve.lines(name)
    if options.draw:
        draw(curve.table, options.draw)
    if options.table:
        print_table(curve.table)


if __name__ == "__main__":
    main()
