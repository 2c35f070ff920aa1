#!/usr/bin/env python3
"""The notices of all crates that are in the program, for who gives the binary away: licences, and their texts.

    python3 .ci/notices.py > NOTICES.txt        [--target TRIPLE, --features LIST as the binary was built]

Needs cargo and the crates' sources, which a build leaves there. The texts are those in the crates themselves; equal
ones are printed once. It ends with 1 if a crate has no licence of the list in .ci/deny.toml.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
TEXTS = ("LICEN", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")
ALLOWED = set(tomllib.loads((HERE / "deny.toml").read_text())["licenses"]["allow"])


def crates(options) -> list[dict]:
    """What the program is built from but itself, by name and version."""
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1"]
    command += ["--filter-platform", options.target] + (["--features", options.features] if options.features else [])
    meta = json.loads(subprocess.run(command, cwd=HERE.parent, check=True, stdout=subprocess.PIPE).stdout)
    nodes = {node["id"]: node for node in meta["resolve"]["nodes"]}
    seen, todo = set(), [meta["resolve"]["root"]]
    while todo:
        if (crate := todo.pop()) not in seen:
            seen.add(crate)
            links = nodes[crate]["deps"]
            todo += [link["pkg"] for link in links if any(kind["kind"] is None for kind in link["dep_kinds"])]
    seen.remove(meta["resolve"]["root"])
    found = [package for package in meta["packages"] if package["id"] in seen]
    return sorted(found, key=lambda package: (package["name"], package["version"]))


def is_allowed(licence: str) -> bool:
    """An SPDX expression, in which older crates write `/` for `OR`."""
    words = re.findall(r"[()]|(?:[^\s()]+ WITH )?[^\s()]+", licence.replace("/", " OR "))
    known = {"(": "(", ")": ")", "OR": " or ", "AND": " and "}
    return eval("".join(known.get(word) or str(word in ALLOWED) for word in words))  # of brackets and five words alone


def texts(package: dict) -> list[str]:
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name.upper().startswith(TEXTS))
    return [file.read_text(errors="replace").strip() for file in files]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--target", default="x86_64-unknown-linux-gnu")
    options.add_argument("--features", default="")
    whose, bad = {}, []
    packages = crates(options.parse_args())
    print("Crates in this program, each under one of its licences:\n")
    for package in packages:
        name, licence = f"{package['name']} {package['version']}", package["license"] or "none"
        print(f"{name}: {licence}, {package['repository'] or 'no repository'}")
        if not is_allowed(licence):
            bad.append(f"{name}: {licence}")
        none = f"Copyright of its authors, under {licence}: the crate holds no text of it, others here do."
        for text in texts(package) or [none]:
            whose.setdefault(text, []).append(name)
    for text, names in whose.items():
        print(f"\n{'-' * 100}\n{', '.join(dict.fromkeys(names))}\n\n{text}")
    for line in bad:
        print(f"expected a licence that .ci/deny.toml allows, found {line}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
