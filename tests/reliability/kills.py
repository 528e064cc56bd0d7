"""Kills a small run at random moments, resumes it each time, and compares it with a whole one.

PYTHONPATH=. python tests/reliability/kills.py --kills 50 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import runs
from tqdm import tqdm

from experiments.system.files import checksums


def begin(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Starts a run, and waits until it has done a step."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    while process.poll() is None and b"loss" not in log.read_bytes():
        time.sleep(0.02)
    return process


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Waits so long, or until a run has ended."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)


def being_written(run: Path, since: float) -> bool:
    """Whether a checkpoint that was begun after a time is not finished."""
    with contextlib.suppress(FileNotFoundError):
        unfinished = run.glob("checkpoints/*.orbax-checkpoint-tmp*")
        return any(path.stat().st_ctime > since for path in unfinished)
    return False


def unreadable(run: Path) -> list[str]:
    """The checkpoints that are there and not whole."""
    return [
        path.name
        for path in sorted((run / "checkpoints").glob("step-*.sha256"))
        if path.read_text() != checksums(path.with_suffix(""))
    ]


def latest(run: Path) -> int:
    """The steps that the newest checkpoint has behind it."""
    return max((int(path.stem[5:]) for path in run.glob("checkpoints/*.sha256")), default=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, environment = runs.source(folder), runs.environment(folder)
        whole, cut = folder / "whole", folder / "cut"
        train = runs.command(weights, options.epochs, whole)
        subprocess.run(train, check=True, capture_output=True, env=environment)
        command = runs.command(weights, options.epochs, cut)
        while_saving = 0
        damaged, left_out, kept = [], 0, []
        for kill in tqdm(range(options.kills), unit="kill"):
            log = folder / f"{kill}.log"
            started = time.time()
            process = begin(command, environment, log)
            # Every second one while a checkpoint is written, which takes a quarter of a second.
            if kill % 2:
                while process.poll() is None and not being_written(cut, started):
                    time.sleep(0.001)
                wait(process, generator.uniform(0, 0.3))
            else:
                wait(process, generator.uniform(0, 3))
            if process.poll() is not None:
                print(f"the run ended before kill {kill}: {log.read_text()[-500:]}")
                return 1
            process.kill()
            process.wait()
            while_saving += being_written(cut, started)
            damaged += unreadable(cut)
            left_out += log.read_text().count("is skipped")
            kept.append(latest(cut))
        subprocess.run(command, check=True, capture_output=True, env=environment)
        one, other = runs.outcome(whole), runs.outcome(cut)
    differing = [key for key in one if one[key] != other[key]]
    print(f"{options.kills} kills, {while_saving} of them in the middle of a checkpoint's writing")
    print(f"steps done and kept after each: {' '.join(map(str, kept))}")
    print(f"{len(damaged)} checkpoints not whole, {left_out} left out")
    print(f"files after the run: {', '.join(other['files'])}")
    print(f"differs from the run that was not killed: {', '.join(differing) or 'nothing'}")
    return 1 if damaged or left_out or differing else 0


if __name__ == "__main__":
    sys.exit(main())
