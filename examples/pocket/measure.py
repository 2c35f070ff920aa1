"""What `cones` itself reaches on the pocket model: the tables of the README and of METHODS.md.

    python measure.py --work WORK --cones BIN/cones --control BIN/examples/random_control
    python measure.py --work WORK --cones BIN/cones --variants
    python measure.py --work WORK --table
    python measure.py --work WORK --cones BIN/cones --others
    python measure.py --work WORK --cones BIN/cones --sheet several.png

where BIN is ../../target/release, after `cargo build --release --examples`.

For each of six subjects of six classes: Algorithm 1, learned sets, random sets of equal counts, and K/V values
fine-tuned on equal photos, 500 steps of 8 + 8; 32 pictures with the subject's token and 32 of its class each, judged by
judge.py. Then unions of two, three and four subjects, untouched, with `merge --tune 50`, with `--attend-excite` and
with `--best-of 4`; a picture counts when every subject of the prompt is in it, each with its variant and hue.
`--others` measures six subjects on which nothing was tuned, alone and in unions. `--variants` measures other settings
of `find` on the same subjects instead. WORK keeps the indices, and results.json what is measured already; a run that
was interrupted goes on.
"""
import argparse
import json
import random
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import first_run
import judge
import world

HERE = Path(__file__).parent
SINGLE = ["blue-guide-dog", "green-jeep", "purple-panda", "blue-tulip", "green-tabby", "purple-mallard"]
OTHERS = ["blue-hut", "green-coffee-cup", "green-top-hat", "purple-basketball", "red-angelfish", "red-hare"]
TOKENS = dict(zip(SINGLE + OTHERS, world.IDENTIFIERS * 3))
SUBJECTS = json.loads((HERE / "subjects/subjects.json").read_text())
WAYS = {  # to draw several subjects: from which file, with which options
    "plain": (None, []), "union": ("union", []), "tuned": ("tuned", []),
    "attend-excite": ("union", ["--attend-excite"]), "best of 4": ("union", ["--best-of", "4"]),
}
FINE_TUNING = ["--dense", "--tune", 500, "--rate", "0.1"]  # the best of 0.01, 0.03, 0.1 and 0.3 on guide dog and jeep
VARIANTS = {
    "learned, values alone": ("learned", ["--sites", "cross:v"]),
    "learned, whole prompt": ("learned", ["--scope", "prompt"]),
    "paper, accelerated": ("paper", ["--accelerated"]),
    "paper, subject's words": ("paper", ["--scope", "words"]),
    "paper, self-attention": ("paper", ["--sites", "self"]),
    "paper, all attention": ("paper", ["--sites", "all"]),
}


def unions(names):
    return [names[:2], names[2:4], names[4:], names[:3], names[3:], names[:4], names[2:]]


SEVERAL = unions(SINGLE)


class CrowdJudge:
    """Whether a subject is in a picture of several: of its class's looks its own must match best, and come close."""

    def __init__(self):
        self.by_count = {}
        for count in (2, 3, 4):
            low, high = world.SIDES_BY_COUNT[count]
            self.by_count[count] = judge.ObjectJudge(range(low, high + 1), factor=1)

    def present(self, picture, names):
        best = self.by_count[len(names)].match(picture)
        looks = {name: (SUBJECTS[name]["class"], SUBJECTS[name]["emoji"], SUBJECTS[name]["hue"]) for name in names}
        return [best[look[0]][0] == look and best[look[0]][1] <= judge.FARTHEST for look in looks.values()]

    def classes(self, picture, names):
        best = self.by_count[len(names)].match(picture)
        return [best[SUBJECTS[name]["class"]][1] <= judge.FARTHEST for name in names]

    def count(self, pictures, names):
        """How many pictures have all subjects, the sum of their shares that are there, and how many all classes."""
        total = {"pictures": 0, "all right": 0, "right": 0, "classes": 0}
        for picture in pictures:
            present = self.present(picture, names)
            total["pictures"] += 1
            total["all right"] += all(present)
            total["right"] += sum(present) / len(names)
            total["classes"] += all(self.classes(picture, names))
        return total

    def self_test(self, count=96):
        rng, missed, invented = random.Random(5), 0, 0
        for i in range(count):
            names = SEVERAL[i % len(SEVERAL)]
            looks = [(SUBJECTS[n]["class"], SUBJECTS[n]["emoji"], SUBJECTS[n]["hue"]) for n in names]
            picture = world.compose(looks, world.SCENES[i % 8], rng)
            missed += not all(self.present(picture, names))
            usual = [(noun, list(world.CLASSES[noun])[0], world.NATURAL) for noun, _, _ in looks]
            without = world.compose(usual, world.SCENES[i % 8], rng)
            invented += any(self.present(without, names))
        print(f"several subjects: of {count} true pictures {missed} misjudged,",
              f"of {count} with the classes' usual looks {invented}")


def run(cones, *arguments):
    """What a command of cones reports."""
    command = [cones, *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def images_of(name):
    """A subject's photos, as `merge --images` takes them."""
    return f"{SUBJECTS[name]['class']}={HERE / 'subjects' / name}"


def fine_tune(cones, name, index, out):
    """Every weight of the sites of a subject's index trained on its photos: the report."""
    return run(cones, "merge", index, *FINE_TUNING, "--images", images_of(name), "--force", "-o", out)


def judged(cones, judges, name, concept):
    """judge.measure's row of a subject's own index, or of none (`plain`)."""
    noun, token = SUBJECTS[name]["class"], TOKENS[name]
    with tempfile.TemporaryDirectory() as folder:
        draw = lambda words: judge.draw(
            cones, [f"a photo of a {words} {s}" for s in world.SCENES], str(concept), folder)
        return judge.measure(judges, SUBJECTS[name], draw(f"{token} {noun}"), draw(noun))


class Bench:
    def __init__(self, options):
        self.cones, self.control = options.cones, options.control
        self.work, self.per_scene = options.work, options.per_scene
        self.path = self.work / "results.json"
        self.results = json.loads(self.path.read_text()) if self.path.exists() else {"single": {}, "several": {}}
        self.judges, self.crowd = (judge.ObjectJudge(), judge.SceneJudge()), CrowdJudge()

    def run(self, *arguments):
        return run(self.cones, *arguments)

    def save(self):
        self.path.write_text(json.dumps(self.results, indent=1))

    def find(self, name, method, *extra, title=None):
        out = self.work / f"{name}.{title or method}.idx"
        report = self.run("find", "--subject", SUBJECTS[name]["class"], "--token", TOKENS[name],
                          "--method", method, "-o", out, *extra,
                          HERE / "subjects" / name)
        return out, {"steps": len(report["steps"]), "seconds": sum(s["seconds"] for s in report["steps"]),
                     "density": report["density"],
                     "bytes": out.stat().st_size, "stability": (report.get("stability") or {}).get("shared")}

    def single(self, name):
        rows = self.results["single"].setdefault(name, {})
        if "fine-tuned" in rows:
            return
        paper, of_paper = self.find(name, "paper")
        learned, of_learned = self.find(name, "learned")
        control = self.work / f"{name}.random.idx"
        subprocess.run([self.control, learned, control], check=True, capture_output=True)
        tuned = self.work / f"{name}.tuned.idx"
        report = fine_tune(self.cones, name, paper, tuned)
        of_tuned = {"seconds": sum(s["seconds"] for s in report["steps"]), "bytes": tuned.stat().st_size}
        for title, concept, extra in [("plain", "plain", {}), ("random", control, {}), ("paper", paper, of_paper),
                                      ("learned", learned, of_learned), ("fine-tuned", tuned, of_tuned)]:
            rows[title] = self.judge_single(name, concept) | extra
            print(name, title, rows[title], flush=True)
            self.save()

    def variant(self, title, name):
        rows = self.results.setdefault("variants", {}).setdefault(title, {})
        if name in rows:
            return
        method, extra = VARIANTS[title]
        slug = "".join(c if c.isalpha() else "-" for c in title)  # a comma would separate two concepts
        concept, of_concept = self.find(name, method, *extra, title=slug)
        rows[name] = self.judge_single(name, concept) | of_concept
        print(name, title, rows[name], flush=True)
        self.save()

    def judge_single(self, name, concept):
        return judged(self.cones, self.judges, name, concept)

    def several(self, names, ways):
        key = " + ".join(names)
        rows = self.results["several"].setdefault(key, {})
        if all(way in rows for way in ways):
            return
        files = [self.work / f"{name}.learned.idx" for name in names]
        stem = f"union-{len(names)}-{names[0]}"
        concepts = {None: None, "union": self.work / f"{stem}.idx", "tuned": self.work / f"{stem}.tuned.idx"}
        self.run("merge", *files, "-o", concepts["union"])
        if "tuned" in ways:
            images = [f"--images={images_of(n)}" for n in names]
            self.run("merge", *files, "--tune", 50, *images, "-o", concepts["tuned"])
        rows["bytes"] = [concepts["union"].stat().st_size, sum(file.stat().st_size for file in files)]
        for way in ways:
            concept, extra = WAYS[way]
            rows[way] = rows.get(way) or self.judge_several(names, concepts[concept], extra)
            print(key, way, rows[way], flush=True)
            self.save()

    def judge_several(self, names, concept, extra):
        pictures = []
        for i, scene in enumerate(world.SCENES):
            with tempfile.TemporaryDirectory() as folder:
                concepts = ["--concepts", concept] if concept else []
                self.run("generate", "--raw-prompt", "--seed", 100 * i, "--count", self.per_scene,
                         "-o", f"{folder}/p.png",
                         *concepts, *extra, prompt_of(names, scene))
                files = sorted(Path(folder).glob("*.png"))
                pictures += [np.asarray(Image.open(path).convert("RGB")) for path in files]
        return self.crowd.count(pictures, names)


def prompt_of(names, scene):
    return prompt_listing([f"{TOKENS[n]} {SUBJECTS[n]['class']}" for n in names], scene)


def prompt_listing(subjects, scene):
    phrases = [f"a {words}" for words in subjects]
    return "a photo of " + ", ".join(phrases[:-1]) + " and " + phrases[-1] + " " + scene


def sheet(work, cones, out):
    """The unions of two, three and four subjects, a row each: a photo of each subject, then a picture in each scene."""
    rows, most = [SEVERAL[0], SEVERAL[1], SEVERAL[3], SEVERAL[5]], max(map(len, SEVERAL))
    blank, pictures = np.full((world.SIZE, world.SIZE, 3), 255, np.uint8), []
    with tempfile.TemporaryDirectory() as folder:
        for names in rows:
            photos = [sorted((HERE / "subjects" / name).iterdir())[0] for name in names]
            pictures += [np.asarray(Image.open(photo).convert("RGB").resize(blank.shape[:2])) for photo in photos]
            pictures += [blank] * (most - len(names))
            for i, scene in enumerate(world.SCENES):
                concept = work / f"union-{len(names)}-{names[0]}.idx"
                extra = ["--concepts", concept]
                pictures.append(first_run.draw(cones, prompt_of(names, scene), 100 * i, folder, *extra))
    world.sheet(pictures, most + len(world.SCENES)).save(out)


def table(results):
    columns = ["right", "sharp", "scene", "class plain"]
    names = {"plain": "plain model", "random": "random neurons, as many as learned", "paper": "`--method paper`, 3 %",
             "learned": "`--method learned`", "fine-tuned": "fine-tuned values (`merge --tune 500 --dense`)"}
    for group, of in [("", SINGLE), (" others", OTHERS)]:
        single = [results["single"][name] for name in of if "fine-tuned" in results["single"].get(name, {})]
        if not single:
            continue
        print(f"\n| of 32 pictures, median of {len(single)}{group} | " + " | ".join(columns) + " | shut | file |")
        print("| --- |" + " ---: |" * (len(columns) + 2))
        for key, title in names.items():
            rows = [subject[key] for subject in single]
            median = lambda what: statistics.median(row[what] for row in rows)
            shut = f"{100 * median('density'):.0f} %" if "density" in rows[0] else ""
            size = f"{median('bytes'):,.0f} B" if "bytes" in rows[0] else ""
            counts = " | ".join(f"{median(c):g} ({sum(row[c] for row in rows)})" for c in columns)
            print(f"| {title} | {counts} | {shut} | {size} |")
    for title, subjects in results.get("variants", {}).items():
        median = lambda what: statistics.median(row[what] for row in subjects.values())
        counts = " | ".join(f"{median(c):g}" for c in columns)
        print(f"| {title} ({len(subjects)}) | {counts} |",
              f"{100 * median('density'):.0f} % | {median('bytes'):,.0f} B |")
    print("\n| subjects | way | pictures | all classes | all right | right, each | file, of its parts' |")
    print("| --- | --- |" + " ---: |" * 5)
    for title, of in [("", SEVERAL), (" others", unions(OTHERS))]:
        for count, way in [(count, way) for count in (2, 3, 4) for way in WAYS]:
            sets = [results["several"].get(" + ".join(names), {}) for names in of if len(names) == count]
            sets = [rows for rows in sets if way in rows]
            total = lambda what: sum(rows[way][what] for rows in sets)
            if sets:
                pictures = total("pictures")
                shares = [f"{total(what) / pictures:.0%}" for what in ("classes", "all right", "right")]
                union, parts = map(sum, zip(*(rows["bytes"] for rows in sets)))
                print(f"| {count}{title} | {way} | {pictures} | " + " | ".join(shares) + f" | {union / parts:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cones", default="cones")
    parser.add_argument("--control", default="random_control")
    parser.add_argument("--per-scene", type=int, default=4, help="pictures of several subjects in each scene")
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--sheet", type=Path, metavar="PNG",
                        help="pictures of several subjects, from the unions in WORK")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.table:
        return table(json.loads((options.work / "results.json").read_text()))
    if options.sheet:
        return sheet(options.work, options.cones, options.sheet)
    if options.self_test:
        return CrowdJudge().self_test()
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    if options.variants:
        for title in VARIANTS:
            for name in SINGLE:
                bench.variant(title, name)
        return
    if options.others:
        for name in OTHERS:
            bench.single(name)
        for names in unions(OTHERS):
            bench.several(names, ["plain", "union", "tuned", "best of 4"])
        return
    for name in SINGLE:
        bench.single(name)
    for names in SEVERAL:
        bench.several(names, list(WAYS))


if __name__ == "__main__":
    main()
