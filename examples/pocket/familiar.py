"""How far `find` is from what the model knows, for every subject and for what is none: the table of METHODS.md.

    python familiar.py --cones BIN/cones

where BIN is ../../target/release. For each: the error of the predicted noise in the photos, with the neurons shut that
were found in them, over that in the model's own pictures of the class. Above 2 `find` warns.
"""
import argparse
import random
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from measure import HERE, OTHERS, SINGLE, SUBJECTS, run
from subjects import PHOTOS
from world import SIZE


def colour(rng):
    return tuple(rng.randrange(256) for _ in range(3))


def one_colour(rng):
    return Image.new("RGB", (SIZE, SIZE), colour(rng))


def noise(rng):
    return Image.frombytes("RGB", (SIZE, SIZE), rng.randbytes(3 * SIZE * SIZE))


def text(rng):
    picture = one_colour(rng)
    for y in range(0, SIZE, 10):
        word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=12))
        ImageDraw.Draw(picture).text((0, y), word, fill=colour(rng))
    return picture


def boxes(rng):
    picture = one_colour(rng)
    for _ in range(8):
        x, y = rng.randrange(SIZE - 16), rng.randrange(SIZE - 16)
        ImageDraw.Draw(picture).rectangle((x, y, x + 16, y + 16), fill=colour(rng))
    return picture


def ratio(cones, noun, photos, out):
    held_out = run(cones, "find", "--subject", noun, photos, "--force", "-o", out / "x.idx")["held_out"]
    return held_out["photos"] / held_out["own"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cones", type=Path, required=True)
    cones = parser.parse_args().cones.resolve()
    known = [*SINGLE, *OTHERS]
    groups = {"six": SINGLE, "others": OTHERS, "new in shape": [name for name in SUBJECTS if name not in known]}
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        for group, names in groups.items():
            for name in names:
                told = ratio(cones, SUBJECTS[name]["class"], HERE / "subjects" / name, work)
                print(f"{group}: {name} {told:.2f}", flush=True)
        for draw in [one_colour, noise, text, boxes]:
            photos = work / draw.__name__
            photos.mkdir()
            for i in range(PHOTOS):
                draw(random.Random(i)).save(photos / f"{i}.png")
            print(f"none: {draw.__name__} {ratio(cones, 'dog', photos, work):.2f}", flush=True)


if __name__ == "__main__":
    main()
