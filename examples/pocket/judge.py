"""The exact judge of the pocket world: which class, variant, hue and scene a picture shows.

    python judge.py --self-test                                        its own error on true pictures
    python judge.py SUBJECT --cones target/release/cones plain a.idx   a table: what each concept draws of a subject

Objects are matched against all sprites as in check.py; the best match names what is shown if it comes within FARTHEST.
That is wider than what check.py asks for, whose question is whether a picture is drawn well: no empty scene comes that
close to any sprite. The scene is the one whose drawings come closest to the picture's left and right edges, where no
single object reaches.
For each concept ("plain" is none) the table has, of 32 pictures of "a photo of a sks NOUN SCENE" and 32 of
"a photo of a NOUN SCENE" with equal seeds: how many show the subject's variant and hue, the same within check.py's own
limit ("sharp"), its variant, its hue, the right scene; and how many class pictures are plain: show the class and
neither the subject's hue nor another scene.
"""
import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import check
import world

HERE = Path(__file__).parent
FARTHEST = 1.0  # from the best match; empty scenes stay above 1.11, and the autoencoder leaves true pictures below 0.75
EDGE = 7  # columns at each side that tell the scene
EACH = 4  # pictures a scene
DRAWINGS = 24  # of each scene, to compare with


class ObjectJudge(check.Judge):
    def verdict(self, picture):
        label, difference = min(self.match(picture).values(), key=lambda found: found[1])
        return (label if difference <= FARTHEST else None), difference


class SceneJudge:
    def __init__(self):
        rng = random.Random(3)
        scenes = [scene for scene in world.SCENES for _ in range(DRAWINGS)]
        self.drawn = [(scene, self.edges(world.background(scene, rng))) for scene in scenes]

    @staticmethod
    def edges(picture):
        """Median over each edge's columns, row by row: trunks, houses and stars vanish, horizons and colours stay."""
        picture = np.asarray(picture, np.float32)
        return np.stack([np.median(picture[:, :EDGE], 1), np.median(picture[:, -EDGE:], 1)])

    def scene(self, picture):
        found = self.edges(picture)
        return min(self.drawn, key=lambda one: np.abs(found - one[1]).mean())[0]


def draw(cones, prompts, concept, folder):
    """EACH pictures of every prompt, with equal seeds whatever the concept."""
    pictures = []
    for i, prompt in enumerate(prompts):
        extra = [] if concept == "plain" else ["--concepts", concept]
        path = Path(folder) / "p.png"
        subprocess.run([cones, "generate", "-q", "--raw-prompt", "--seed", str(100 * i), "--count", str(EACH),
                        "-o", path, *extra, prompt], check=True, stdout=subprocess.DEVNULL)
        pictures += [np.asarray(Image.open(path.with_name(f"p-{100 * i + k}.png"))) for k in range(EACH)]
    return pictures


def measure(judges, subject, own, plain_class):
    """The row of one concept: counts out of the pictures in `own` and in `plain_class`."""
    objects, scenes = judges
    noun, emoji, hue = subject["class"], subject["emoji"], subject["hue"]
    expected = [scene for scene in world.SCENES for _ in range(EACH)]
    row = dict.fromkeys(["right", "sharp", "variant", "hue", "scene", "class plain"], 0)
    for picture, scene in zip(own, expected):
        label, difference = objects.verdict(picture)
        row["right"] += label == (noun, emoji, hue)
        row["sharp"] += label == (noun, emoji, hue) and difference <= check.LARGEST_DIFFERENCE
        row["variant"] += label is not None and label[:2] == (noun, emoji)
        row["hue"] += label is not None and label[0] == noun and label[2] == hue
        row["scene"] += scenes.scene(picture) == scene
    for picture, scene in zip(plain_class, expected):
        label, _ = objects.verdict(picture)
        kept = label is not None and label[0] == noun and label != (noun, emoji, hue)
        # A natural subject has no hue of its own to leak.
        leaked = label is not None and hue != world.NATURAL and label[2] == hue
        row["class plain"] += kept and not leaked and scenes.scene(picture) == scene
    return row


def self_test(objects, scenes, count=240):
    rng, wrong_scene, wrong_object = random.Random(12), 0, 0
    known = list(json.loads((HERE / "subjects/subjects.json").read_text()).values())
    for i in range(count):
        subject, scene = known[i % len(known)], world.SCENES[i % 8]
        truth = (subject["class"], subject["emoji"], subject["hue"])
        picture = world.compose([truth], scene, rng)
        wrong_scene += scenes.scene(picture) != scene
        wrong_object += objects.verdict(picture)[0] != truth
    print(f"of {count} true pictures of the subjects: object misjudged {wrong_object}, scene misjudged {wrong_scene}")
    bare = [scene for scene in world.SCENES for _ in range(count // 8)]
    empty = [objects.verdict(np.asarray(world.background(scene, rng))) for scene in bare]
    print(f"of {len(empty)} empty scenes: taken for an object {sum(label is not None for label, _ in empty)}, "
          f"closest {min(difference for _, difference in empty):.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", nargs="?")
    parser.add_argument("concepts", nargs="*")
    parser.add_argument("--cones", default="cones")
    parser.add_argument("--sheet", type=Path, help="write the pictures: two rows a concept, token and class prompt")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    judges = ObjectJudge(), SceneJudge()
    if options.self_test:
        return self_test(*judges)
    subject = json.loads((HERE / "subjects/subjects.json").read_text())[options.subject]
    noun, tiles = subject["class"], []
    for concept in options.concepts:
        with tempfile.TemporaryDirectory() as folder:
            own = draw(options.cones, [f"a photo of a sks {noun} {s}" for s in world.SCENES], concept, folder)
            kept = draw(options.cones, [f"a photo of a {noun} {s}" for s in world.SCENES], concept, folder)
        tiles += own[::EACH] + own[1::EACH] + kept[::EACH] + kept[1::EACH]
        row = measure(judges, subject, own, kept)
        counts = "  ".join(f"{k} {v}" for k, v in row.items())
        print(f"{options.subject:18} {Path(concept).stem:12} {counts}  of {len(own)}", flush=True)
    if options.sheet:
        world.sheet(tiles, 16).save(options.sheet)


if __name__ == "__main__":
    main()
