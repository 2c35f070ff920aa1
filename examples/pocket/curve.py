"""How right, sharp and true to their scenes pictures are, by the share of neurons shut: METHODS.md's curve.

    python curve.py --work WORK --cones BIN/cones [--draw curve.png]

For each of measure.py's six subjects one find of either method, its neurons chosen anew at every density with
`--from-scores`, and 32 pictures each, judged by judge.py. WORK keeps curve.json with what is measured already, so that
a run that was interrupted goes on; where measure.py left its results.json there, the fine-tuned values are a line
across. `--draw` makes the picture of what there is.
"""
import argparse
import json
import math
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import judge
import measure
import world

DENSITIES = [1, 2, 3, 5, 10, 20, 50]
WHAT = ["right", "sharp", "scene", "class plain"]
METHODS = {"learned": [], "paper": ["--method", "paper"]}
COLOURS = {"learned": "#0b63a5", "paper": "#b3470f", "fine-tuned": "#5b5b5b"}
WIDTH, HEIGHT, LEFT, TOP, SCALE = 330, 250, 46, 40, 2


def measured(options, table):
    judges = judge.ObjectJudge(), judge.SceneJudge()
    for name in measure.SINGLE:
        subject, token = measure.SUBJECTS[name], measure.TOKENS[name]
        for method, extra in METHODS.items():
            rows = table.setdefault(method, {}).setdefault(name, {})
            if len(rows) == len(DENSITIES):
                continue
            scores = options.work / f"{name}.{method}.scores"
            if not scores.exists():
                measure.run(options.cones, "find", "--subject", subject["class"], "--token", token, *extra, "--force",
                            "--scores", scores, "-o", options.work / f"{name}.{method}.curve.idx",
                            measure.HERE / "subjects" / name)
            for density in DENSITIES:
                if str(density) in rows:
                    continue
                index = options.work / f"{name}.{method}.{density}.idx"
                report = measure.run(options.cones, "find", "--from-scores", scores, "--density", f"{density}%",
                                     "--force", "-o", index)
                with tempfile.TemporaryDirectory() as folder:
                    draw = lambda words: judge.draw(
                        options.cones, [f"a photo of a {words} {s}" for s in world.SCENES], str(index), folder)
                    row = judge.measure(judges, subject, draw(f"{token} {subject['class']}"), draw(subject["class"]))
                rows[str(density)] = row | {"shut": report["density"], "bytes": index.stat().st_size}
                print(name, method, density, rows[str(density)], flush=True)
                (options.work / "curve.json").write_text(json.dumps(table, indent=1))


def place(panel, shut, share):
    """Of a share of pictures at a density in percent, which is logarithmic."""
    x = math.log(shut) / math.log(DENSITIES[-1])
    return SCALE * (LEFT + panel * (WIDTH + LEFT) + x * WIDTH), SCALE * (TOP + (1 - share) * HEIGHT)


def draw(table, tuned, path):
    size = SCALE * (LEFT + 2 * (WIDTH + LEFT)), SCALE * (2 * (HEIGHT + 2 * TOP) + 20)
    canvas = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(12 * SCALE)
    for number, what in enumerate(WHAT):
        down = SCALE * (number // 2) * (HEIGHT + 2 * TOP)
        at = lambda shut, share: tuple(map(sum, zip(place(number % 2, shut, share), (0, down))))
        for share in (0, 0.25, 0.5, 0.75, 1):
            pen.line([at(1, share), at(50, share)], "#dddddd", SCALE)
            x, y = at(1, share)
            pen.text((x - 6 * SCALE, y), f"{share:.0%}", "black", font, anchor="rm")
        for density in DENSITIES:
            x, y = at(density, 0)
            pen.text((x, y + 6 * SCALE), f"{density} %", "black", font, anchor="mt")
        pen.text((at(1, 1)[0], at(1, 1)[1] - 10 * SCALE), f"{what}, share of pictures", "black", font, anchor="lb")
        if tuned:
            share = sum(row[what] for row in tuned) / (32 * len(tuned))
            pen.line([at(1, share), at(50, share)], COLOURS["fine-tuned"], SCALE)
        for method, subjects in table.items():
            points = []
            for density in DENSITIES:
                rows = [rows[str(density)] for rows in subjects.values() if str(density) in rows]
                if rows:
                    mean = lambda key: sum(row[key] for row in rows) / len(rows)
                    points.append(at(100 * mean("shut"), mean(what) / 32))
            pen.line(points, COLOURS[method], 2 * SCALE)
            for x, y in points:
                pen.ellipse([x - 3 * SCALE, y - 3 * SCALE, x + 3 * SCALE, y + 3 * SCALE], COLOURS[method])
    x = SCALE * LEFT
    for name, colour in COLOURS.items():
        if name in table or (name == "fine-tuned" and tuned):
            y = size[1] - 16 * SCALE
            pen.line([(x, y), (x + 20 * SCALE, y)], colour, 3 * SCALE)
            pen.text((x + 26 * SCALE, y), name, "black", font, anchor="lm")
            x += SCALE * 120
    canvas.resize((size[0] // SCALE, size[1] // SCALE), Image.LANCZOS).save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cones", default="cones")
    parser.add_argument("--draw", type=Path, metavar="PNG")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    kept, results = options.work / "curve.json", options.work / "results.json"
    table = json.loads(kept.read_text()) if kept.exists() else {}
    measured(options, table)
    single = json.loads(results.read_text())["single"] if results.exists() else {}
    if options.draw:
        draw(table, [rows["fine-tuned"] for rows in single.values() if "fine-tuned" in rows], options.draw)


if __name__ == "__main__":
    main()
