"""How far Algorithm 1's sets agree from run to run: published steps, and a fifth of them accelerated or not.

    python agreement.py --work WORK [--cones ../../target/release/cones] [--subjects blue-guide-dog purple-panda ..]

Every run has noise of its own; of each the highest 3 % of the scores are taken. Prints the share that two runs have in
common, in per cent: mean and range over runs of each kind with those of 1,000 published steps, and seconds of a run.
"""
import argparse
import itertools
import json
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

HERE = Path(__file__).parent
DENSITY = 0.03
# name -> (steps, options, runs)
KINDS = {
    "1,000 published steps": (1000, [], 6),
    "200 accelerated steps": (200, ["--accelerated"], 6),
    "200 steps of six pictures": (200, ["--batch", "3"], 3),
    "200 published steps": (200, [], 3),
}


def highest(path):
    scores = np.concatenate([site.ravel() for _, site in sorted(load_file(path).items())])
    count = int(DENSITY * scores.size)
    return set(np.argpartition(-scores, count)[:count].tolist())


def runs(options, subject, noun):
    """For each kind the sets of its runs, and the seconds that one took."""
    found, seconds, seed = {}, {}, options.seed
    for kind, (steps, extra, count) in KINDS.items():
        found[kind], start = [], time.monotonic()
        for _ in range(count):
            path = options.work / f"{subject}.scores"
            subprocess.run([options.cones, "find", "--subject", noun, "--method", "paper", "--steps", str(steps),
                            "--seed", str(seed), "--scores", path, "-o", options.work / f"{subject}.idx", *extra,
                            HERE / "subjects" / subject],
                           check=True, capture_output=True)
            found[kind].append(highest(path))
            seed += 10_000  # steps take seeds from there on
        seconds[kind] = (time.monotonic() - start) / count
    return found, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cones", type=Path, default=HERE / "../../target/release/cones")
    parser.add_argument("--subjects", nargs="+", default=["blue-guide-dog", "purple-panda", "green-jeep", "blue-tulip"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    subjects = json.loads((HERE / "subjects/subjects.json").read_text())
    for subject in options.subjects:
        found, seconds = runs(options, subject, subjects[subject]["class"])
        published = found["1,000 published steps"]
        for kind, sets in found.items():
            pairs = itertools.combinations(published, 2) if sets is published else itertools.product(sets, published)
            shares = [100 * len(a & b) / len(a) for a, b in pairs]
            print(f"{subject}, {kind}: {statistics.mean(shares):.1f} ({min(shares):.0f} to {max(shares):.0f}),",
                  f"{seconds[kind]:.1f} s", flush=True)


if __name__ == "__main__":
    main()
