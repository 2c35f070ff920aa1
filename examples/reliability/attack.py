"""Attacks `cones` in every way that anyone has thought of: hostile files, full disks, limits, signals, failing calls.

    python3 examples/reliability/attack.py [--seed 1] [--many 1] [--only index] [--cones target/release/cones]

Plain Python 3.11, on the small models of the repository. One line for each kind of attack: how many cases, how many
ended well, and what went wrong in the others: a panic, a hang, a half-written or left-over file, a wrong exit status,
silence, characters that a terminal acts on, too much memory. `--many 3` takes three times as many, `--seed` other
ones, `--keep DIR` keeps the files that did it. Exit status 1 if anything is wrong. Some kinds need root (small disks in
memory), strace or faketime, and say so where they are missing.
"""

import argparse
import pathlib
import sys
import tempfile
import time

from attacks import calls, indices, models, photos, places, surroundings
from attacks.harness import ROOT, World


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--many", type=float, default=1, help="times as many cases")
    parser.add_argument("--only", help="kinds whose name has this in it")
    parser.add_argument("--cones", default=str(ROOT / "target/release/cones"))
    parser.add_argument("--keep", type=pathlib.Path, help="where files that did it are kept")
    parser.add_argument("--shown", type=int, default=20, help="failures of a kind that are shown")
    options = parser.parse_args()
    kinds = {}
    for module in (indices, models, photos, places, calls, surroundings):
        kinds |= module.KINDS
    kinds = {name: kind for name, kind in kinds.items() if options.only is None or options.only in name}
    cases = failures = 0
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        binary = str(pathlib.Path(options.cones).resolve())
        world = World(binary, pathlib.Path(folder), options.seed, options.many, options.keep)
        print(f"seed {options.seed}, {options.many:g} times as many", flush=True)
        for name, kind in kinds.items():
            world.begin(name)
            start = time.time()
            missing = kind(world)
            fine = world.cases - len(world.failures)
            note = f" ({missing})" if missing else ""
            print(f"{name}: {world.cases} cases, {fine} ok, {time.time() - start:.0f} s{note}", flush=True)
            for failure in world.failures[:options.shown]:
                print(f"    {failure}", flush=True)
            cases, failures = cases + world.cases, failures + len(world.failures)
    print(f"{len(kinds)} kinds, {cases} cases, {failures} of them wrong")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
