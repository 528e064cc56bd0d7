"""Fills the disk of a small run, makes its folders read-only, and goes on afterwards.

PYTHONPATH=. python tests/reliability/full_disk.py

Linux only: it mounts a small file system of its own, in a namespace where no root is needed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import runs

from experiments.system.files import checksums

EPOCHS, MEGABYTES = 150, 8
# Who may mount a file system may write anywhere; this takes it from the runs.
WITHOUT_RIGHTS = ("setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override")


def fill(disk: Path) -> None:
    """Fills a file system to its last byte."""
    with (disk / "filler").open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))


def cut_off(
    command: list[str], environment: dict[str, str], run: Path, act: Callable[[], object]
) -> None:
    """Starts a run, acts after its first new checkpoint, and tells how it ended."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    before = {*run.glob("checkpoints/*.sha256")}
    while process.poll() is None and not {*run.glob("checkpoints/*.sha256")} - before:
        time.sleep(0.01)
    act()
    _, error = process.communicate()
    print(f"  exit code {process.returncode}: {error.splitlines()[-1]}")
    kept = sorted(run.glob("checkpoints/*.sha256"))
    whole = [path.stem for path in kept if path.read_text() == checksums(path.with_suffix(""))]
    print(f"  whole checkpoints: {', '.join(whole)} (of {len(kept)})")
    if process.returncode != 1 or "Traceback" in error or not kept or len(whole) < len(kept):
        raise SystemExit(error)


def make(run: Path, mode: int) -> None:
    """Gives a run's folders other permissions."""
    for folder in (run, run / "checkpoints"):
        folder.chmod(mode)


def main() -> int:
    if "--inside" not in sys.argv:
        inside = ["unshare", "--map-root-user", "--mount", sys.executable, __file__, "--inside"]
        return subprocess.run(inside, env=os.environ | {"PYTHONPATH": str(runs.ROOT)}).returncode
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        disk = folder / "disk"
        disk.mkdir()
        size = f"size={MEGABYTES}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], check=True)
        weights, environment = runs.source(folder), runs.environment(folder)
        whole = runs.command(weights, EPOCHS, folder / "whole")
        subprocess.run(whole, check=True, capture_output=True, env=environment)
        run = disk / "run"
        command = [*WITHOUT_RIGHTS, *runs.command(weights, EPOCHS, run)]
        print(f"a disk of {MEGABYTES} MB is filled:")
        cut_off(command, environment, run, lambda: fill(disk))
        (disk / "filler").unlink()
        print("its folders are made read-only:")
        cut_off(command, environment, run, lambda: make(run, 0o555))
        make(run, 0o755)
        subprocess.run(command, check=True, capture_output=True, env=environment)
        one, other = runs.outcome(folder / "whole"), runs.outcome(run)
        subprocess.run(["umount", disk], check=True)
    differing = [key for key in one if one[key] != other[key]]
    print(f"the run that went on differs from a whole one in: {', '.join(differing) or 'nothing'}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
