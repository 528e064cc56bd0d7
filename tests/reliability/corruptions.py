"""Damages checkpoints at random, and looks whether it is noticed.

PYTHONPATH=. python tests/reliability/corruptions.py --corruptions 200 --seed 0
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments.runs.checkpoints import Checkpoints, Saved


def damage(folder: Path, generator: random.Random) -> str:
    """Flips a bit of a file, cuts it, or deletes it; says what."""
    path = generator.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    content = bytearray(path.read_bytes())
    kind = generator.choice(("flip", "truncate", "delete"))
    if kind == "delete" or not content:
        path.unlink()
        return "delete"
    place = generator.randrange(len(content))
    if kind == "truncate":
        del content[place:]
    else:
        content[place] ^= 1 << generator.randrange(8)
    path.write_bytes(content)
    return kind


def content(number: int) -> Saved:
    """What the checkpoint of this number holds: like a small network's state."""
    generator = np.random.default_rng(number)
    shapes = [(3, 3, 3, 16), (16,), *[(3, 3, 16, 16)] * 8, (16, 10), (10,), ()]
    arrays = {f"state{i}": generator.normal(size=s).astype("f") for i, s in enumerate(shapes)}
    return Saved(arrays, {"number": number})


def right(found: Saved) -> bool:
    """Whether a checkpoint's content is what was written under its number."""
    wanted = content(found.record["number"])
    return found.arrays.keys() == wanted.arrays.keys() and all(
        np.array_equal(found.arrays[name], wanted.arrays[name]) for name in wanted.arrays
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corruptions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    counts: dict[tuple[str, str], int] = {}
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        whole, folder = Path(name) / "whole", Path(name) / "damaged"
        kept = Checkpoints(whole)
        for number in (1, 2, 3):
            kept.write(number, content(number))
        kept.wait()
        kept.close()
        for _ in tqdm(range(options.corruptions), unit="corruption"):
            shutil.copytree(whole, folder)
            kind = damage(folder, generator)
            # Half of the times all three are hit, and there may be none left.
            for _ in range(generator.choice((0, 8))):
                damage(folder, generator)
            kept, told = Checkpoints(folder), []
            try:
                found = kept.newest(content(0).arrays, told.append)
            except ValueError as error:
                outcome = "none left, told"
                wrong += "must have a checkpoint" not in str(error)
            else:
                if found is None:
                    outcome = "no checkpoint is complete any more"
                else:
                    number = found.record["number"]
                    outcome = "the newest is right" if number == 3 else "an earlier one is right"
                    wrong += not right(found)
            kept.close()
            counts[kind, outcome] = counts.get((kind, outcome), 0) + 1
            shutil.rmtree(folder)
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{count:4d} first {kind}: {outcome}")
    print(f"{wrong} of {options.corruptions} with a wrong content or an unclear error")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
