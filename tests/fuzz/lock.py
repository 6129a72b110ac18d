#!/usr/bin/env python3
"""Brings tests/fuzz/Cargo.lock up to date with Cargo.lock: the same versions of the same packages, and the few
that only the fuzz targets need. `tests/corpora.rs` says when it has to be run.

    tests/fuzz/lock.py
"""

import pathlib
import re
import subprocess

FUZZ = pathlib.Path(__file__).resolve().parent
OURS, THEIRS = FUZZ.parent.parent / "Cargo.lock", FUZZ / "Cargo.lock"


def packages(text):
    blocks = [block for block in re.split(r"(?=\[\[package\]\])", text) if block.startswith("[[package]]")]
    return {re.search(r'name = "([^"]+)"', block).group(1): block for block in blocks}


ours = OURS.read_text()
only_theirs = [block for name, block in packages(THEIRS.read_text()).items() if name not in packages(ours)]
THEIRS.write_text(ours.rstrip() + "\n\n" + "".join(only_theirs))
# Takes out what is not needed there, and looks up what is missing.
subprocess.run(
    ["cargo", "metadata", "--manifest-path", FUZZ / "Cargo.toml", "--format-version", "1"],
    check=True, stdout=subprocess.DEVNULL,
)
