"""A small run for the scripts of this folder: its command, and what it came to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = ("--data", "digits", "--image-size", "8", "--per-class", "10", "--batch-size", "20")


def environment(folder: Path) -> dict[str, str]:
    """A process's environment: this checkout, and programs that are compiled once for all runs."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def source(folder: Path) -> Path:
    """A source network's weights, trained for an epoch."""
    command = [sys.executable, "-m", "experiments.pretrain", "--network", "resnet8", *SMALL]
    subprocess.run(
        [*command, "--epochs", "1", "--run-dir", str(folder / "source")],
        check=True, capture_output=True, env=environment(folder),
    )  # fmt: skip
    return folder / "source" / "source.safetensors"


def command(weights: Path, epochs: int, run: Path) -> list[str]:
    """The command of a small run of l2t-ww."""
    return [
        sys.executable, "-m", "experiments.train", "--method", "l2t-ww", "--meta-lr", "1e-2",
        "--source", "resnet8", "--source-weights", str(weights), "--target", "resnet8",
        "--pairs", "2-2,1-1", *SMALL, "--epochs", str(epochs), "--run-dir", str(run),
    ]  # fmt: skip


def outcome(run: Path) -> dict[str, object]:
    """All that a finished run has written, but for paths, times and pictures."""
    files = {path.name: path.read_bytes() for path in run.iterdir()}
    arrays = ("target.safetensors", "channel_weights.npz")
    lines = [json.loads(line) for line in files["metrics.jsonl"].splitlines()]
    result = json.loads(files["result.json"])
    kept = ("best_epoch", "val_accuracy", "test_accuracy", "dropped")
    return {name: files[name] for name in arrays} | {
        "metrics": [{k: v for k, v in line.items() if k != "seconds"} for line in lines],
        "result": {name: result[name] for name in kept},
        "files": sorted(files),
    }  # fmt: skip
