"""Draw 64 plain prompts and judge whether each picture shows its class.

    python check.py --cones target/release/cones [--sheet sheet.png]     draws with the cones binary
    python check.py --diffusers model [--sheet sheet.png]                draws with diffusers
    python check.py --self-test                                          the judge's own error on true pictures

The judge matches the sprites of all classes against the picture, both at half resolution: every variant
(those kept out of training too), every tint, five sizes, every position. A match is measured by the mean
squared difference over the sprite's area, divided by the mean variance of sprite and picture there. The best
match names the class; it counts only under LARGEST_DIFFERENCE. Exits 1 when less than 90 % of the pictures are right.
"""
import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import world

NEEDED = 0.90
LARGEST_DIFFERENCE = 0.75  # 0: the sprite itself; 2: unrelated; see --self-test
SMALLEST_SPREAD = 0.004
SIDES = range(34, 47, 3)


def prompts():
    """Five a class: bare, bare in a scene, and tinted in scenes; four more make 64."""
    tints, listed = list(world.TINTS), []
    for i, noun in enumerate(world.CLASSES):
        listed.append((noun, f"a photo of {world.with_article(noun)}"))
        for j in range(4):
            words = noun if j % 2 == 0 else f"{tints[(i + j // 2) % 4]} {noun}"
            scene = world.SCENES[(i * 3 + j * 2 + j // 2) % 8]
            listed.append((noun, f"a photo of {world.with_article(words)} {scene}"))
    extra = [("dog", "a photo of a dog in the snow"), ("car", "a photo of a red car"),
             ("cat", "a picture of a cat at night"), ("house", "a picture of a house in the forest")]
    return listed + extra


def shrink(pixels, factor):
    height, width = pixels.shape[:2]
    return pixels.reshape(height // factor, factor, width // factor, factor, -1).mean((1, 3))


class Judge:
    def __init__(self, sides=SIDES, factor=2):
        self.factor = factor
        self.labels = [(noun, emoji, tint) for noun in world.CLASSES
                       for emoji in [*world.CLASSES[noun], *filter(None, [world.UNSEEN_VARIANTS.get(noun)])]
                       for tint in [world.NATURAL, *world.TINTS]]
        # A bank per size and per whole-pixel shift that shrinking would blur.
        self.banks = [self.bank(side, shift) for side in sides for shift in np.ndindex(factor, factor)]

    def bank(self, side, shift):
        """Box side (shrunk); coverage, coverage x colour; area, summed square and variance of every label."""
        box = -(-(side + self.factor - 1) // self.factor) * self.factor
        after = [(before, box - side - before) for before in shift]
        coverages, weighted, squares = [], [], []
        for _, emoji, tint in self.labels:
            colour, coverage = world.sprite(emoji, tint, side)
            colour, coverage = np.pad(colour / 255, [*after, (0, 0)]), np.pad(coverage, [*after, (0, 0)])
            coverages.append(shrink(coverage, self.factor).ravel())
            weighted.append(shrink(coverage * colour, self.factor).reshape(-1, 3))
            squares.append(shrink(coverage * colour**2, self.factor).sum())
        coverages, weighted, squares = np.stack(coverages), np.stack(weighted), np.array(squares)
        area = coverages.sum(1)
        variance = squares / area - ((weighted.sum(1) / area[:, None]) ** 2).sum(1)
        return box // self.factor, coverages, weighted, area, squares, variance

    def match(self, picture):
        """The best ((class, variant, tint), difference) of a uint8 picture, for each class."""
        small = shrink(picture.astype(np.float32) / 255, self.factor)
        lowest = np.full(len(self.labels), np.inf)
        for box, coverage, weighted, area, squares, variance in self.banks:
            windows = np.lib.stride_tricks.sliding_window_view(small, (box, box), (0, 1)).reshape(-1, 3, box * box)
            means = np.stack([windows[:, c] @ coverage.T for c in range(3)]) / area
            energy = (windows**2).sum(1) @ coverage.T / area
            products = sum(windows[:, c] @ weighted[..., c].T for c in range(3)) / area
            difference = energy - 2 * products + squares / area
            # Low on bare background: a flat sprite must not match it.
            spread = (energy - (means**2).sum(0) + variance) / 2
            lowest = np.minimum(lowest, (difference / (spread + SMALLEST_SPREAD)).min(0))
        best = {}
        for label, value in zip(self.labels, lowest):
            if label[0] not in best or value < best[label[0]][1]:
                best[label[0]] = (label, float(value))
        return best

    def verdict(self, picture):
        """((class, variant, tint) or None where nothing is shown, difference)."""
        label, difference = min(self.match(picture).values(), key=lambda found: found[1])
        return (label if difference <= LARGEST_DIFFERENCE else None), difference


def draw_with_cones(program, model, listed, folder):
    for i, (_, prompt) in enumerate(listed):
        path = Path(folder) / f"{i}.png"
        command = [program, "generate", "--model", model, "--seed", str(i + 1), "-o", str(path), prompt]
        subprocess.run(command, check=True)
        yield np.asarray(Image.open(path).convert("RGB"))


def load_pipeline(folder):
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
    torch.set_num_threads(2)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_with_diffusers(folder, texts, seeds=None, steps=None, guidance=None, pipeline=None, batch=16):
    import torch
    defaults = json.loads((Path(folder) / "cones.json").read_text())
    pipeline = pipeline or load_pipeline(folder)
    seeds = seeds or range(1, len(texts) + 1)
    for first in range(0, len(texts), batch):
        chosen = texts[first:first + batch]
        generators = [torch.Generator().manual_seed(s) for s in seeds[first:first + batch]]
        drawn = pipeline(chosen, height=world.SIZE, width=world.SIZE, generator=generators, output_type="np",
                         num_inference_steps=steps or defaults["steps"],
                         guidance_scale=guidance or defaults["guidance"])
        yield from (drawn.images * 255).round().astype(np.uint8)


def self_test(judge, count=300):
    """Share of true single-object pictures misjudged, and of empty scenes or wrong halves accepted."""
    rng, wrong, differences = random.Random(77), 0, []
    for i in range(count):
        noun = list(world.CLASSES)[i % len(world.CLASSES)]
        emoji, tint = rng.choice(list(world.CLASSES[noun])), rng.choice([world.NATURAL, *world.TINTS])
        label, difference = judge.verdict(world.compose([(noun, emoji, tint)], rng.choice(world.SCENES), rng))
        wrong += label is None or label[0] != noun
        differences.append(difference)
    scenes = [world.background(world.SCENES[i % 8], rng).astype(np.uint8) for i in range(80)]
    empty = sum(judge.verdict(scene)[0] is not None for scene in scenes)
    print(f"true pictures misjudged: {wrong} of {count} ({100 * wrong / count:.1f} %); "
          f"difference median {np.median(differences):.4f}, largest {max(differences):.4f}")
    print(f"empty scenes taken for an object: {empty} of 80")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cones", default="cones", help="the cones binary")
    parser.add_argument("--model", default="pocket", help="the model that cones draws from")
    parser.add_argument("--diffusers", type=Path, metavar="MODEL_DIR", help="draw with diffusers instead")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--sheet", type=Path, default=Path("check.png"))
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    judge = Judge()
    if options.self_test:
        return self_test(judge)
    listed = prompts()
    with tempfile.TemporaryDirectory() as folder:
        if options.diffusers:
            texts = [text for _, text in listed]
            pictures = list(draw_with_diffusers(options.diffusers, texts, None, options.steps, options.guidance))
        else:
            pictures = list(draw_with_cones(options.cones, options.model, listed, folder))
    right = 0
    for (noun, prompt), picture in zip(listed, pictures):
        label, difference = judge.verdict(picture)
        shown = "nothing" if label is None else f"{label[2]} {label[0]} {label[1]}"
        right += shown != "nothing" and label[0] == noun
        print(f"{'right' if label and label[0] == noun else 'WRONG'}  {prompt:45} {shown} ({difference:.3f})")
    share = right / len(listed)
    print(f"{right} of {len(listed)} right ({100 * share:.0f} %)")
    world.sheet(pictures, 16).save(options.sheet)
    sys.exit(share < NEEDED)


if __name__ == "__main__":
    main()
