"""Write five photos of every subject that training never saw: new looks of known classes.

    python subjects.py --out subjects
"""
import argparse
import json
import random
from pathlib import Path

from PIL import Image

import world

PHOTOS = 5
# name -> (class, emoji, tint)
SUBJECTS = {
    "blue-guide-dog": ("dog", "🦮", "blue"), "green-tabby": ("cat", "🐈", "green"),
    "purple-panda": ("bear", "🐼", "purple"), "red-hare": ("rabbit", "🐇", "red"),
    "purple-mallard": ("duck", "🦆", "purple"), "red-angelfish": ("fish", "🐠", "red"),
    "green-jeep": ("car", "🚙", "green"), "blue-hut": ("house", "🛖", "blue"),
    "green-top-hat": ("hat", "🎩", "green"), "blue-tulip": ("flower", "🌷", "blue"),
    "purple-basketball": ("ball", "🏀", "purple"), "green-coffee-cup": ("cup", "☕", "green"),
    "poodle": ("dog", "🐩", world.NATURAL), "koala": ("bear", "🐨", world.NATURAL),
    "blue-cap": ("hat", "🧢", world.NATURAL), "rose": ("flower", "🌹", world.NATURAL),
}


def photos(name):
    noun, emoji, tint = SUBJECTS[name]
    rng = random.Random(name)
    return [world.compose([(noun, emoji, tint)], scene, rng) for scene in rng.sample(world.SCENES, PHOTOS)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    listed = {}
    for name, (noun, emoji, tint) in SUBJECTS.items():
        held = "this tint of this variant" if (emoji, tint) in world.HELD_PAIRS else "this variant in every colour"
        assert (emoji, tint) in world.HELD_PAIRS or emoji not in world.CLASSES[noun]
        listed[name] = {"class": noun, "emoji": emoji, "hue": tint, "held_out": held}
        (out / name).mkdir(parents=True, exist_ok=True)
        for i, photo in enumerate(photos(name), 1):
            Image.fromarray(photo).save(out / name / f"{i}.png", optimize=True)
    (out / "subjects.json").write_text(json.dumps(listed, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
