"""Runs every command with bad input, and prints what each says and its exit code.

PYTHONPATH=. python tests/reliability/bad_input.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import runs
from tqdm import tqdm

SMALL = "--data digits --image-size 8 --target resnet8"
FROM = f"{SMALL} --source resnet8 --source-weights source.safetensors"
# Module and arguments. Files: source.safetensors of a resnet8; ok.npz, small.npz (4x4 pixels),
# float.npz, labels.npz (one too many), text.npz (no npz); empty/ a folder; full/ with a file in it;
# done/ a finished run of "scratch"; one/ a folder of images with a single class.
LINES = [
    # wrong flags and values
    "train --metod fm",
    "train --method nothing",
    "train --epochs many",
    "train --epochs 0",
    "train --epochs -5",
    "train --lr -1",
    "train --lr nan",
    "train --momentum 1",
    "train --seed -1",
    "train --seed 4294967296",
    "train --val-fraction 1.5",
    "train --test-fraction 0",
    "train --per-class 0",
    "train --batch-size 0",
    "train --workers -1",
    "train --checkpoint-minutes 0",
    "train --skip-nonfinite -1",
    "train --resume maybe",
    "train --precision float16",
    "train --meta-every 0",
    "train --temperature 0",
    "train --task cifar11",
    "train --crop-share 2",
    "pretrain --network resnet9",
    "pretrain --image-size 7",
    "evaluate --network resnet8 --weights source.safetensors --data digits --batch-size 0",
    "compare --methods",
    "compare --methods scratch:lr=-1",
    "compare --methods scratch --jobs 0",
    "report",
    "benchmark --batch 0",
    "compile --batch-size 0",
    "export nowhere",
    "demo --seeds 0",
    # files that are missing or something else
    "train --method scratch --data nowhere.npz",
    "train --method scratch --data text.npz",
    "train --method scratch --data float.npz",
    "train --method scratch --data labels.npz",
    "train --method scratch --data empty",
    "train --method scratch --data one",
    "train --method scratch --data cub200",
    "train --method scratch --data tfds:cifar100",
    f"train --method fm {SMALL} --source resnet8 --source-weights nowhere.pth",
    f"train --method fm {SMALL} --source resnet8 --source-weights text.npz",
    f"train --method fm {SMALL} --source resnet14 --source-weights source.safetensors",
    "evaluate --network resnet8 --weights nowhere.pth --data digits",
    "evaluate --network resnet8 --weights source.safetensors --data digits --predictions no/p.npz",
    "predict done",
    "predict empty one/cats/1.png",
    "predict done nowhere.png",
    "predict done one full",
    "report empty",
    "report nowhere",
    "parity ok.npz",
    # combinations that cannot be
    "train --method fm",
    "train --method scratch --source-weights source.safetensors",
    f"train --method fm {FROM} --source resnet8 resnet8",
    f"train --method finetune {FROM} source.safetensors --source resnet8 resnet8",
    f"train --method l2t-ww {FROM} --pairs 0-9",
    f"train --method l2t-ww {FROM} --pairs x",
    f"train --method scratch {SMALL} --per-class 500",
    f"train --method scratch {SMALL} --per-class 2 --batch-size 100",
    f"train --method scratch {SMALL} --run-dir full",
    f"train --method scratch {SMALL} --run-dir text.npz",
    f"train --method scratch {SMALL} --run-dir done --lr 0.2",
    f"train --method scratch {SMALL} --run-dir done --resume never",
    "train --method scratch --target vgg9 --image-size 8",
    "train --method scratch --data small.npz --target vgg9_bn",
    "train --method scratch --data ok.npz --test-data small.npz --target resnet8",
    "train --method scratch --loader memory --augment resized-crop",
    "train --method scratch --data ok.npz --loader workers --target resnet8",
    "train --processes 2",
    "train --coordinator here",
    "train --coordinator localhost:1234 --processes 2 --process 2",
    "compare --methods scratch scratch",
    "compare --methods fm",
    "compare --methods scratch --data digits",
    "compare --methods scratch -- --seed 1",
    "compare --methods scratch --tasks cifar10 stl10 -- --data digits",
]  # fmt: skip


def prepare(folder: Path) -> None:
    """Writes the files that the lines name."""
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    labels = np.arange(60) % 3
    np.savez(folder / "ok.npz", images=images, labels=labels)
    np.savez(folder / "small.npz", images=images[:, :4, :4], labels=labels)
    np.savez(folder / "float.npz", images=images / 255, labels=labels)
    np.savez(folder / "labels.npz", images=images, labels=np.arange(61) % 3)
    (folder / "text.npz").write_text("no npz")
    for name in ("empty", "full", "one/cats"):
        (folder / name).mkdir(parents=True)
    (folder / "full" / "notes.txt").write_text("mine")
    from PIL import Image

    Image.fromarray(images[0]).save(folder / "one" / "cats" / "1.png")
    environment = runs.environment(folder)
    small = ["--data", "digits", "--image-size", "8", "--epochs", "1", "--run-dir"]
    for module, name, more in (
        ("pretrain", "pretrained", ("--network", "resnet8")),
        ("train", "done", ("--method", "scratch", "--target", "resnet8")),
    ):
        command = [sys.executable, "-m", f"experiments.{module}", *small, name, *more]
        subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True)
    (folder / "pretrained" / "source.safetensors").rename(folder / "source.safetensors")


def listing(folder: Path) -> dict[str, float]:
    """All files and folders, and when they were written; but for the compiled programs."""
    return {
        str(path): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if "compiled" not in path.parts
    }


def run(line: str, folder: Path) -> tuple[int, str]:
    """Exit code and stderr of a command."""
    module, *words = line.split()
    command = [sys.executable, "-m", f"experiments.{module}", *words]
    ended = subprocess.run(
        command, cwd=folder, env=runs.environment(folder), capture_output=True, text=True
    )
    return ended.returncode, ended.stderr


def main() -> int:
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        prepare(folder)
        before = listing(folder)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            results = threads.map(lambda line: run(line, folder), LINES)
            ended = list(tqdm(results, total=len(LINES), unit="command"))
        after = listing(folder)
    print("| `l2t …` | exit code | stderr |\n|---|---|---|")
    for line, (code, error) in zip(LINES, ended, strict=True):
        cells = (f"`{line}`", str(code), error.strip().replace(f"{folder}/", ""))
        print(
            "|", " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in cells), "|"
        )
        if code != 2 or error.count("\n") != 1 or ": error: " not in error:
            wrong.append(line)
    written = sorted({*after.items()} ^ {*before.items()})
    print(f"\n{len(LINES)} commands; not exit code 2 with one line: {wrong or 'none'}")
    print(f"written: {written or 'nothing'}")
    return 1 if wrong or written else 0


if __name__ == "__main__":
    sys.exit(main())
