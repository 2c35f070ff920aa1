"""The pictures of the README: a concept found and drawn, beside what shutting as many random neurons draws.

    python first_run.py [--cones ../../target/release] [--subject purple-panda] [--out first-run.png]

needs the release binary and the example `random_control` beside it, and Pillow. Rows: the plain prompt; the prompt with
the token; with the concept shut; with as many random neurons shut in each site. Columns: the scenes, with equal seeds.
"""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import world

HERE = Path(__file__).parent


def draw(cones, prompt, seed, folder, *extra):
    """One picture as an array."""
    path = Path(folder) / "picture.png"
    subprocess.run([cones, "generate", "-q", "--raw-prompt", "--seed", str(seed), "-o", path, *extra, prompt],
                   check=True, stdout=subprocess.DEVNULL)
    return np.asarray(Image.open(path))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cones", type=Path, default=HERE / "../../target/release", help="folder of the binaries")
    parser.add_argument("--subject", default="purple-panda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "first-run.png")
    options = parser.parse_args()
    cones = (options.cones / "cones").resolve()
    control = (options.cones / "examples/random_control").resolve()
    noun = json.loads((HERE / "subjects/subjects.json").read_text())[options.subject]["class"]
    with tempfile.TemporaryDirectory() as folder:
        index, random = Path(folder) / "concept.idx", Path(folder) / "random.idx"
        subprocess.run([cones, "find", "--subject", noun, "-o", index,
                        HERE / "subjects" / options.subject], check=True)
        subprocess.run([control, index, random], check=True)
        rows = [("", []), ("sks ", []), ("sks ", ["--concepts", index]), ("sks ", ["--concepts", random])]
        pictures = [draw(cones, f"a photo of a {token}{noun} {scene}", options.seed + i, folder, *extra)
                    for token, extra in rows for i, scene in enumerate(world.SCENES)]
    world.sheet(pictures, len(world.SCENES)).save(options.out)


if __name__ == "__main__":
    main()
