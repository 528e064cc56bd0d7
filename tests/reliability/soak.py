"""Trains many steps on small data, and watches the memory.

PYTHONPATH=. python tests/reliability/soak.py --steps 20000
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import runs
from tqdm import tqdm

STEPS = 130  # an epoch: 1294 training images, 10 a step


def resident(process: int) -> float:
    """A process's resident memory in MiB."""
    fields = Path(f"/proc/{process}/status").read_text().split("VmRSS:")
    return int(fields[1].split()[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    options = parser.parse_args()
    epochs = -(-options.steps // STEPS)
    with tempfile.TemporaryDirectory() as name, tqdm(total=epochs, unit="epoch") as bar:
        folder = Path(name)
        run = folder / "run"
        command = [
            sys.executable, "-m", "experiments.train", "--method", "scratch", "--target", "resnet8",
            "--data", "digits", "--image-size", "8", "--batch-size", "10", "--lr", "0.01",
            "--epochs", str(epochs), "--run-dir", str(run),
        ]  # fmt: skip
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=runs.environment(folder)
            )
        seen: list[tuple[int, float]] = []  # epochs done, and memory
        while process.poll() is None:
            time.sleep(1)
            metrics = run / "metrics.jsonl"
            done = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
            bar.update(done - bar.n)
            if 0 < done < epochs:
                seen.append((done, resident(process.pid)))
        if process.returncode:
            print((folder / "log").read_text()[-2000:])
            return 1
    # Warm is what has done a tenth.
    warm = statistics.median(mib for done, mib in seen if 0.1 * epochs <= done < 0.2 * epochs)
    end = statistics.median(mib for done, mib in seen if done >= 0.9 * epochs)
    peak = max(mib for _, mib in seen)
    print(f"{epochs * STEPS} steps in {epochs} epochs, {len(seen)} looks at the memory")
    change = f"{end / warm - 1:+.1%}"
    print(f"after a tenth {warm:.0f} MiB, at the end {end:.0f} ({change}), at most {peak:.0f}")
    return 0 if end <= 1.05 * warm else 1


if __name__ == "__main__":
    sys.exit(main())
