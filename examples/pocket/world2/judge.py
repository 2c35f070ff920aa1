"""The exact judge of the pocket world: which objects, of which shape and tint, a picture shows, and which scene.

    python judge.py [--vae MODEL/vae] [--count 240]      its own error on true pictures

The background of a picture is read, row by row, from the columns where no object stands; trunks, houses and stars are
painted over with it. An object is then looked for by drawing: every sprite, in every size and place that the layout
allows, is put on that background, and the one that explains most of how the picture differs from it is what is shown:
least squares over all shapes, tints and classes. `left` is the share of that difference, in the sprite's square, that
it does not explain: 0 for the sprite itself, above 1 where nothing is. It is done in two steps: some shapes of all
classes on a coarse grid, then all shapes of the best classes around the best places.
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
BEST_CLASSES, BEST_PLACES, FARTHEST_LOOK = 3, 5, 3
WORTH_IT = 0.6  # of the best class's gain in the first step: those with less are left out of the second
DRAWINGS = 24  # of each scene, to compare with
Seen = namedtuple("Seen", "away ground sides")  # ground: [rows, 3]; away: the picture's difference from it
# What stands about in a scene: (colour, first row, last row). It is painted over with the ground before looking.
FURNITURE = {
    "at night": [((250, 245, 205), 0, 20)],
    "in the forest": [((76, 54, 34), 0, 40)],
    "on a street": [((142, 132, 128), 0, 36), ((240, 228, 120), 37, 63)],
}
FURNITURE_TOLERANCE = 16  # of each colour
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
        """Of the squared difference from the background, what each label explains at each (x, y): [places, labels]."""
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


def neighbours(places, sides, reach):
    """The (side, x, y) so many pixels around, feet and middle about held where the size changes."""
    steps = (-reach, 0, reach)
    for side, x, y in places:
        for change in steps:
            size = side + change
            for dx in steps:
                for dy in steps:
                    at = (x + dx - (change + 1) // 2, y + dy - change)
                    if size in sides and 0 <= min(at) and max(at) <= world.SIZE - size:
                        yield size, *at


def free_columns(count):
    return FREE_COLUMNS[1 if count == 1 else 2]


def furniture(pixels, scene):
    """Which pixels (0..1) have the colour of something that stands about in the scene: [rows, columns]."""
    found = np.zeros(pixels.shape[:2], bool)
    for colour, first, last in FURNITURE.get(scene, ()):
        rows = pixels[first:last + 1]
        found[first:last + 1] |= np.abs(rows - np.float32(colour) / 255).max(2) <= FURNITURE_TOLERANCE / 255
    return found


def ground_and_picture(picture, scene, count):
    """The background of each row, and the picture without furniture, both 0..1."""
    pixels, columns = picture.astype(np.float32) / 255, free_columns(count)
    stands = furniture(pixels, scene)
    ground = np.median(pixels[:, columns], 1)
    if scene == "on a street":  # houses stand in the free columns too
        for row in range(len(ground)):
            free = [column for column in columns if not stands[row, column]]
            if free:
                ground[row] = np.median(pixels[row, free], 0)
            elif row:
                ground[row] = ground[row - 1]
    return ground, np.where(stands[..., None], ground[:, None], pixels)


class Judge:
    def objects(self, picture, count=1, looks=True):
        """For each slot of the layout: ((class, shape, tint), left), the label None where nothing is shown.
        Without `looks` the class alone is looked for, which is much faster, and the label is (class,)."""
        slots, off, step = LAYOUT[4 if count > 2 else count]
        ground, pixels = ground_and_picture(picture, scene_judge().scene(picture, count), count)
        low, high = world.SIDES_BY_COUNT[count]
        seen = Seen(pixels - ground[:, None], ground, range(low, high + 1))
        return [self.slot(slot, off, step, looks, seen) for slot in slots]

    def slot(self, slot, off, step, looks, seen):
        grid = [(side, *place) for side in seen.sides[::2] for place in corners(side, *slot, off, step)]
        tried = self.gains(some_bank, grid, seen)
        labels = np.array([label[0] for label in some_labels()])
        best = {noun: [] for noun in world.CLASSES}
        for place, gains in tried.items():
            for noun in best:
                best[noun].append((gains[labels == noun].max(), place))
        found, top = [], max(max(several)[0] for several in best.values())
        for noun in sorted(best, key=lambda noun: -max(best[noun])[0])[:BEST_CLASSES]:
            if found and max(best[noun])[0] < WORTH_IT * top:
                break
            places = [place for _, place in sorted(best[noun])[-BEST_PLACES:]]
            if looks:
                found.append(self.climb(lambda side: class_bank(noun, side), places, seen, slice(None)))
            else:
                found.append(self.climb(some_bank, places, seen, np.flatnonzero(labels == noun)))
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
        """(label, left, gain) of the best of the `which` labels, going from places to better ones nearby."""
        known, best, reach = set(), (None, np.inf, -np.inf), 1
        while reach <= FARTHEST_LOOK:
            last = best[2]
            new = sorted(set(neighbours(places, seen.sides, reach)) - known)
            known.update(new)
            for place, gains in self.gains(bank, new, seen).items():
                gains = gains[which]
                top = int(gains.argmax())
                if gains[top] > best[2]:
                    side, x, y = place
                    label = bank(side).labels[top if isinstance(which, slice) else which[top]]
                    there = float((seen.away[y:y + side, x:x + side] ** 2).sum())
                    best, places = (label, 1 - float(gains[top]) / max(there, 1e-6), float(gains[top])), [place]
            reach = 1 if best[2] > last else reach + 1
        return best

    def verdict(self, picture):
        return self.objects(picture)[0]


class SceneJudge:
    """The scene whose drawings come closest to the picture in the columns that objects leave free."""

    def __init__(self):
        rng = random.Random(3)
        self.names = [scene for scene in world.SCENES for _ in range(DRAWINGS)]
        drawn = [world.background(scene, rng) for scene in self.names]
        self.drawn = {count: np.stack([self.rows(picture, count) for picture in drawn]) for count in (1, 2)}

    @staticmethod
    def rows(picture, count):
        """Medians of the free columns at the left and at the right: trunks, houses and stars mostly vanish."""
        columns, picture = free_columns(count), np.asarray(picture, np.float32)
        half = len(columns) // 2
        return np.stack([np.median(picture[:, side], 1) for side in (columns[:half], columns[half:])])

    def scene(self, picture, count=1):
        away = np.abs(self.drawn[min(count, 2)] - self.rows(picture, min(count, 2))).mean((1, 2, 3))
        return self.names[int(away.argmin())]


@functools.lru_cache(None)
def scene_judge():
    return SceneJudge()


def judge_picture(job):
    """((label or None, left) of each slot, scene) of (picture, count, looks)."""
    picture, count, looks = job
    return Judge().objects(picture, count, looks), scene_judge().scene(picture, count)


def shown(subject, verdict, scene):
    """What a verdict of judge_picture's says of a subject that was asked for in a scene, by kind: whether it is shown;
    of features the share."""
    slots, seen = verdict
    label, left = slots[0]
    of_class = label is not None and label[0] == subject.noun
    right = of_class and label[1:] == (subject.shape, subject.tint)
    return {
        "right": right, "sharp": right and left <= SHARP, "shape": of_class and label[1] == subject.shape,
        "features": 1 - shapes.distance(label[1], subject.shape) / len(label[1]) if of_class else 0,
        "tint": of_class and label[2] == subject.tint, "class": of_class, "scene": seen == scene}


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
    kinds = [(1, True, 1), *((objects, False, 3) for objects in (1, 2, 3, 4)), (4, True, 8)]
    for objects, looks, share in kinds:
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
