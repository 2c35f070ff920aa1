"""What `cones find` makes of the held-out subjects: the last table of README.md.

    python find.py --cones ../../../target/release/cones [--part work] [--per-scene 2] [OPTIONS OF find]

For each subject a find with the options given, and pictures of "a photo of a sks NOUN" in every scene, judged by
judge.py; sums by what is new of the subjects and by what they are for.
"""
import argparse
import json
import multiprocessing
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import judge
import world

HERE = Path(__file__).parent
KINDS = ("right", "sharp", "shape", "tint", "class", "scene")  # that pictures of a subject are counted by


def run(cones, *arguments):
    command = [cones, *map(str, arguments), "--model", HERE / "model", "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def drawn(options, name, subject):
    """Pictures of one subject, each with its scene, and the share of neurons that was shut for them."""
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "subject.idx"
        found = run(options.cones, "find", "--subject", subject.noun, *options.find, "-o", index,
                    HERE / "subjects" / name)
        for i, scene in enumerate(world.SCENES):
            run(options.cones, "generate", "--concepts", index, "--raw-prompt", "--seed", 100 * i, "--count",
                options.per_scene, "-o", f"{folder}/{i}.png", f"a photo of a sks {subject.noun} {scene}")
            files = sorted(Path(folder).glob(f"{i}*.png"))
            pictures += [(np.asarray(Image.open(file).convert("RGB")), scene) for file in files]
    return pictures, found["density"]


def counted(subject, verdicts, scenes):
    """How many of a subject's pictures are of each kind."""
    shown = [judge.shown(subject, verdict, scene) for verdict, scene in zip(verdicts, scenes)]
    return {"pictures": len(shown)} | {kind: sum(one[kind] for one in shown) for kind in KINDS}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cones", default="cones")
    parser.add_argument("--part", choices=("work", "end"), help="subjects for work or for the end; both unless given")
    parser.add_argument("--per-scene", type=int, default=2, help="pictures of each scene")
    options, options.find = parser.parse_known_args()
    sums, shut = {}, []
    judge.draw_ahead(multiprocessing.cpu_count())
    with multiprocessing.get_context("fork").Pool() as pool:
        for name, subject in world.SUBJECTS.items():
            if options.part not in (None, subject.part):
                continue
            pictures, density = drawn(options, name, subject)
            verdicts = pool.map(judge.judge_picture, [(picture, 1, True) for picture, _ in pictures], chunksize=4)
            row = counted(subject, verdicts, [scene for _, scene in pictures])
            print(f"{name}: {row}, {density:.1%} shut", flush=True)
            total = sums.setdefault((subject.new, subject.part), dict.fromkeys(row, 0))
            total.update((kind, total[kind] + row[kind]) for kind in row)
            shut.append(density)
    print("\n| new | for | " + " | ".join(row) + " |\n| --- | --- |" + " ---: |" * len(row))
    for (new, part), row in sorted(sums.items()):
        print(f"| {new} | {part} | " + " | ".join(map(str, row.values())) + " |")
    print(f"\nshut: {min(shut):.1%} to {max(shut):.1%}")


if __name__ == "__main__":
    main()
