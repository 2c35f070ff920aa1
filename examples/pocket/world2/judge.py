"""The exact judge of the pocket world: which objects, of which shape and tint, a picture shows, and which scene.

    python judge.py [--vae MODEL/vae] [--count 240]      its own error on true pictures

The background of a picture is read, row by row, from the columns where no object stands. An object is then looked for
by drawing: every sprite, in every size and place that the layout allows, is put on that background, and the one that
explains most of how the picture differs from it is what is shown: least squares over all shapes, tints and classes.
`left` is the share of that difference, in the sprite's square, that it does not explain: 0 for the sprite itself,
above 1 where nothing is. It is done in three steps: some shapes of all classes on a coarse grid; all shapes of the two
best classes around the best places; and the best of these once more, with what the scene may have behind an object.
"""
import argparse
import functools
import multiprocessing
import random
from collections import namedtuple
from pathlib import Path

import numpy as np

import shapes
import world
from shapes import NATURAL, TINTS

FARTHEST = 0.5  # `left` of something shown at all
FARTHEST_CLASS = 0.8  # the same where some shapes of a class stand for all
SHARP = 0.25  # of something well drawn
SOME = 20  # shapes of a class in the first step
BEST_CLASSES, BEST_PLACES, FINALISTS = 2, 3, 40
Seen = namedtuple("Seen", "pixels ground away sides scene")  # ground: [rows, 3]; away: from it
# What a scene has in places that the columns do not tell.
BEHIND = {"at night": [(250, 245, 205)], "in the forest": [(76, 54, 34)], "on a street": [(142, 132, 128), (240, 228, 120)]}
EDGE = 7  # columns at each side that tell the scene
DRAWINGS = 24  # of each scene, to compare with
FREE_COLUMNS = {1: [*range(6), *range(58, 64)], 2: [0, 1, 30, 31, 32, 33, 62, 63]}
# count -> slots: (middle, lowest and highest feet), how far off the middle, step in pixels of the first search
LAYOUT = {
    1: ([(32, 51, 61)], 6, 2),
    2: ([(16, 45, 57), (48, 45, 57)], 2, 2),
    4: ([(x, low, high) for low, high in [(27, 32), (57, 64)] for x in (16, 48)], 2, 2),
}


class Bank:
    """All sprites of some labels at one size, as the terms of the squared error on a background."""

    def __init__(self, labels, side, sprites=None):
        self.labels, self.side = labels, side
        if sprites is None:
            sprites = np.stack([world.sprite_bytes(*label, side) for label in labels])
        pixels, count = sprites.astype(np.float32) / 255, len(labels)
        cover = np.ascontiguousarray(pixels[..., 3])
        painted = cover[..., None] * pixels[..., :3]
        self.painted, self.cover = painted.reshape(count, -1), cover.reshape(count, -1)
        self.energy = np.einsum("ij,ij->i", self.painted, self.painted)
        self.cover_rows = np.einsum("lyx,lyx->ly", cover, cover)
        self.mixed_rows = np.einsum("lyx,lyxc->lyc", cover, painted).reshape(count, -1)

    def gains(self, away, ground, places):
        """How much of the squared difference from the background each label explains at each (x, y): [places, labels]."""
        side, n = self.side, len(places)
        windows = np.stack([away[y:y + side, x:x + side] for x, y in places])
        rows = np.stack([ground[y:y + side] for _, y in places])
        toned = (windows * rows[:, :, None]).sum(3).reshape(n, -1)
        change = (-2 * windows.reshape(n, -1) @ self.painted.T + 2 * toned @ self.cover.T + self.energy
                  + (rows**2).sum(2) @ self.cover_rows.T - 2 * rows.reshape(n, -1) @ self.mixed_rows.T)
        return -change


@functools.lru_cache(None)
def some_labels():
    rng = random.Random(9)
    chosen = {noun: rng.sample(shapes.shapes(noun), SOME) for noun in world.CLASSES}
    return [(noun, shape, tint) for noun in chosen for shape in chosen[noun] for tint in (NATURAL, *TINTS)]


@functools.lru_cache(None)
def some_bank(side):
    return Bank(some_labels(), side)


@functools.lru_cache(None)
def class_labels(noun):
    return [(noun, shape, tint) for shape in shapes.shapes(noun) for tint in (NATURAL, *TINTS)]


SPRITES = {}  # (class, side) -> uint8 [labels, side, side, 4], where somebody drew them ahead


@functools.lru_cache(12)
def class_bank(noun, side):
    return Bank(class_labels(noun), side, SPRITES.get((noun, side)))


def class_sprites(job):
    noun, side = job
    return job, np.stack([world.sprite_bytes(*label, side) for label in class_labels(noun)])


def draw_ahead(processes):
    """Draw every sprite once, for processes that are forked later."""
    world.fill_masters(processes)
    sides = sorted({side for low, high in world.SIDES_BY_COUNT.values() for side in range(low, high + 1)})
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        SPRITES.update(pool.imap_unordered(class_sprites, [(noun, side) for side in sides for noun in world.CLASSES]))
    for side in sides:
        some_bank(side)


def corners(side, middle, low, high, off, step):
    """Upper left corners of a sprite's places in a slot."""
    for dx in range(-off, off + 1, step):
        for feet in range(low, high + 1, step):
            x, y = round(middle - side / 2) + dx, feet - side
            if 0 <= x <= world.SIZE - side and 0 <= y <= world.SIZE - side:
                yield x, y


def neighbours(places, sides):
    """The (side, x, y) one step around, feet and middle held where the size changes."""
    for side, x, y in places:
        for change in (-1, 0, 1):
            size = side + change
            for dx in (-1, 0, 1):
                for dy in (-1, 0, 1):
                    at = (x + dx - (change > 0), y + dy - change)
                    if size in sides and 0 <= min(at) and max(at) <= world.SIZE - size:
                        yield size, *at


class Judge:
    def objects(self, picture, count=1, looks=True):
        """For each slot of the layout: ((class, shape, tint), left), the label None where nothing is shown.
        Without `looks` the class alone is looked for, which is much faster, and the label is (class,)."""
        slots, off, step = LAYOUT[4 if count > 2 else count]
        pixels = picture.astype(np.float32) / 255
        ground = np.median(pixels[:, FREE_COLUMNS[1 if count == 1 else 2]], 1)
        low, high = world.SIDES_BY_COUNT[count]
        seen = Seen(pixels, ground, pixels - ground[:, None], range(low, high + 1), scene_judge().scene(picture))
        return [self.slot(slot, off, step, looks, seen) for slot in slots]

    def slot(self, slot, off, step, looks, seen):
        grid = [(side, *place) for side in seen.sides[::2] for place in corners(side, *slot, off, step)]
        tried = self.gains(some_bank, grid, seen)
        labels = np.array([label[0] for label in some_labels()])
        best = {noun: [] for noun in world.CLASSES}
        for place, gains in tried.items():
            for noun in best:
                best[noun].append((gains[labels == noun].max(), place))
        ranked = sorted(best, key=lambda noun: -max(best[noun])[0])[:BEST_CLASSES]
        found = []
        for noun in ranked:
            places = [place for _, place in sorted(best[noun])[-BEST_PLACES:]]
            bank = (lambda side: class_bank(noun, side)) if looks else some_bank
            several = self.climb(bank, places, seen, np.flatnonzero(labels == noun) if not looks else slice(None))
            found += [self.look_closely(bank, label, place, seen) for label, place in several]
        label, left, _ = max(found, key=lambda one: one[2])
        if looks:
            return (label if left <= FARTHEST else None), left
        return (label[:1] if left <= FARTHEST_CLASS else None), left

    @staticmethod
    def gains(bank, places, seen):
        """{(side, x, y): gain of each label}."""
        by_side, found = {}, {}
        for side, x, y in places:
            by_side.setdefault(side, []).append((x, y))
        for side, several in by_side.items():
            gains = bank(side).gains(seen.away, seen.ground, several)
            found.update(((side, *place), gain) for place, gain in zip(several, gains))
        return found

    def climb(self, bank, places, seen, which):
        """The FINALISTS best of the `which` labels, each (number, place), going from places to better ones nearby."""
        known, best, last = {}, -np.inf, None
        while best != last:
            last = best
            new = sorted(set(neighbours(places, seen.sides)) - set(known))
            for place, gains in self.gains(bank, new, seen).items():
                known[place] = gains[which]
                if known[place].max() > best:
                    best, places = known[place].max(), [place]
        order, table = list(known), np.stack(list(known.values()))
        numbers = np.arange(table.shape[1]) if isinstance(which, slice) else which
        return [(int(numbers[label]), order[table[:, label].argmax()])
                for label in np.argsort(-table.max(0))[:FINALISTS]]

    @staticmethod
    def look_closely(bank, number, place, seen):
        """(label, left, gain), where what the scene may have behind an object counts as background too."""
        side, x, y = place
        part = bank(side)
        cover = part.cover[number].reshape(side, side, 1)
        window = seen.pixels[y:y + side, x:x + side]
        ground = seen.ground[y:y + side, None]
        empty = ((window - ground) ** 2).sum(2)
        error = ((window - part.painted[number].reshape(side, side, 3) - (1 - cover) * ground) ** 2).sum(2)
        for colour in BEHIND.get(seen.scene, ()):
            other = ((window - np.float32(colour) / 255) ** 2).sum(2)
            empty = np.minimum(empty, other)
            error = np.where(cover[..., 0] < 0.05, np.minimum(error, other), error)
        left = float(error.sum() / max(empty.sum(), 1e-6))
        return part.labels[number], left, float(empty.sum() - error.sum())

    def verdict(self, picture):
        return self.objects(picture)[0]


class SceneJudge:
    """The scene whose drawings come closest to the picture's left and right edges, where no single object reaches."""

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


@functools.lru_cache(None)
def scene_judge():
    return SceneJudge()


def judge_picture(job):
    """((label or None, left) of each slot, scene) of (picture, count, looks)."""
    picture, count, looks = job
    return Judge().objects(picture, count, looks), scene_judge().scene(picture)


def true_pictures(count, objects, seed=12, subjects=True):
    """Pictures with so many objects, half of them with a held-out subject; [(objects, scene, picture)]."""
    rng, known, made = random.Random(seed), list(world.SUBJECTS.values()), []
    for i in range(count):
        chosen = [(noun, rng.choice(shapes.shapes(noun)), world.random_tint(noun, rng))
                  for noun in rng.sample(list(world.CLASSES), objects)]
        if subjects and i % 2:
            one = known[i // 2 % len(known)]
            chosen = [(one.noun, one.shape, one.tint)] + [o for o in chosen if o[0] != one.noun][:objects - 1]
        scene = world.SCENES[i % 8]
        made.append((chosen, scene, world.compose(chosen, scene, rng)))
    return made


def errors(truth, verdicts):
    """How often the verdicts are wrong; `truth` as true_pictures gives it."""
    count, left = {"objects": 0, "class": 0, "tint": 0, "shape": 0, "look": 0, "scene": 0}, []
    for (chosen, scene, _), (slots, told) in zip(truth, verdicts):
        count["scene"] += told != scene
        for noun, shape, tint in chosen:
            same = [(label, value) for label, value in slots if label and label[0] == noun]
            label = same[0][0] if same else None
            left += [value for _, value in same]
            count["objects"] += 1
            count["class"] += label is None
            if label is None or len(label) == 3:
                count["tint"] += label is None or label[2] != tint
                count["shape"] += label is None or label[1] != shape
                count["look"] += label is None or label[1:] != (shape, tint)
    quantiles = [round(float(q), 3) for q in np.quantile(left, [0.5, 0.95, 1])] if left else []
    return count | {"pictures": len(truth), "left: median, 95 %, most": quantiles}


def self_test(run, count=240, through=lambda pictures: pictures):
    """Wrong verdicts on true pictures of one to four objects, and what is seen in empty scenes. `run` maps."""
    table = {}
    for objects, looks, share in ((1, True, 1), (1, False, 3), (2, False, 3), (3, False, 3), (4, False, 3), (4, True, 8)):
        truth = true_pictures(count // share, objects)
        truth.sort(key=lambda one: one[0][0][0])  # one class after the other: banks are used again
        shown = through([picture for _, _, picture in truth])
        row = errors(truth, run(judge_picture, [(picture, objects, looks) for picture in shown]))
        if not looks:
            row = {key: value for key, value in row.items() if key not in ("tint", "shape", "look")}
        table[f"{objects} objects, {'looks' if looks else 'classes'}"] = row
    rng = random.Random(7)
    empty = [world.background(world.SCENES[i % 8], rng).round().astype(np.uint8) for i in range(max(8, count // 6))]
    for looks, limit in ((True, FARTHEST), (False, FARTHEST_CLASS)):
        lefts = [slots[0][1] for slots, _ in run(judge_picture, [(picture, 1, looks) for picture in through(empty)])]
        table[f"empty, {'looks' if looks else 'classes'}"] = {
            "pictures": len(empty), "objects seen": sum(v <= limit for v in lefts), "least left": round(min(lefts), 3)}
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, help="look at pictures that this autoencoder has coded and decoded")
    parser.add_argument("--count", type=int, default=240)
    options = parser.parse_args()
    through = lambda pictures: pictures
    if options.vae:
        import torch
        from diffusers import AutoencoderKL
        import nets
        import train_vae
        torch.set_num_threads(1)
        vae = AutoencoderKL.from_pretrained(options.vae, torch_dtype=torch.float32).eval()
        through = lambda pictures: list(nets.decode(vae, train_vae.encode(vae, np.stack(pictures)).float(), 1.0))
    for objects, row in self_test(lambda f, jobs: list(map(f, jobs)), options.count, through).items():
        print(objects, row, flush=True)


if __name__ == "__main__":
    main()
