"""Kills a small run at random moments, resumes it each time, and compares it with a whole one.

PYTHONPATH=. python tests/reliability/kills.py --kills 50 --seed 0
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import runs
from tqdm import tqdm

from experiments.files import checksums


def begin(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Starts a run, and waits until it trains."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    while process.poll() is None and b"step/s" not in log.read_bytes():
        time.sleep(0.02)
    return process


def wait(process: subprocess.Popen[bytes], run: Path, seconds: float, saving: bool) -> str:
    """Waits so long, or until a checkpoint is being written; says what was hit."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        if saving and any((run / "checkpoints").glob("*.orbax-checkpoint-tmp*")):
            return "while a checkpoint was written"
        time.sleep(0.001)
    return "at any moment"


def unreadable(run: Path) -> list[str]:
    """The checkpoints that are there and not whole."""
    return [
        path.name
        for path in sorted((run / "checkpoints").glob("step-*.sha256"))
        if path.read_text() != checksums(path.with_suffix(""))
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, environment = runs.source(folder), runs.environment(folder)
        whole, cut = folder / "whole", folder / "cut"
        started = time.monotonic()
        train = runs.command(weights, options.epochs, whole)
        subprocess.run(train, check=True, capture_output=True, env=environment)
        seconds = time.monotonic() - started
        command = runs.command(weights, options.epochs, cut)
        counts: dict[str, int] = {}
        damaged, left_out = [], 0
        for kill in tqdm(range(options.kills), unit="kill"):
            log = folder / f"{kill}.log"
            process = begin(command, environment, log)
            # On average all kills together leave a half of the run to be done after them.
            moment = generator.uniform(0, seconds / options.kills)
            hit = wait(process, cut, moment, saving=generator.random() < 0.5)
            if process.poll() is not None:
                print(f"the run ended before kill {kill}: {log.read_text()[-500:]}")
                return 1
            process.kill()
            process.wait()
            counts[hit] = counts.get(hit, 0) + 1
            damaged += unreadable(cut)
            left_out += log.read_text().count("is left out")
        subprocess.run(command, check=True, capture_output=True, env=environment)
        one, other = runs.outcome(whole), runs.outcome(cut)
    differing = [key for key in one if one[key] != other[key]]
    for hit, count in counts.items():
        print(f"{count} kills {hit}")
    print(f"{len(damaged)} checkpoints not whole, {left_out} left out")
    print(f"files after the run: {', '.join(other['files'])}")
    print(f"differs from the run that was not killed: {', '.join(differing) or 'nothing'}")
    return 1 if damaged or left_out or differing else 0


if __name__ == "__main__":
    sys.exit(main())
