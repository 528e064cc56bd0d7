"""Files: claims by one process, complete writing, and checksums."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# Ends the name of what is moved to its place when it has been written: a hidden file, or a folder.
UNFINISHED = ".part"


@contextlib.contextmanager
def claim(path: Path) -> Iterator[BinaryIO | None]:
    """Opens a file to append to, only for one process and its children.

    The claim ends when the last process that has the file open ends, in whatever way.

    Yields:
      The file; None if another process has claimed it.
    """
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON, completely or not at all. Floats keep every digit."""
    text = json.dumps(plain(content, digits=17), indent=2) + "\n"
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to. At the end its file replaces ``path`` in one step.

    After an error the temporary file is removed and ``path`` is unchanged. Of a link it is the file
    that it leads to. What is no file, such as a pipe or ``/dev/stdout``, is written to directly.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve()
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Whether a file is what a process that was killed within `replacing` has left behind."""
    return path.name.startswith(".") and path.suffix == UNFINISHED and path.is_file()


@contextlib.contextmanager
def filling(folder: Path, *, last: str) -> Iterator[Path]:
    """A temporary folder to write files to. At the end they are moved into ``folder``.

    After an error nothing is left of it, nor of ``folder`` if it was not there.

    Args:
      folder: new or empty.
      last: the name of the file that is moved last.
    """
    new, unfinished = not folder.exists(), folder / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for path in sorted(unfinished.iterdir(), key=lambda path: path.name == last):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(unfinished)
        if new:
            with contextlib.suppress(OSError):  # it has files
                folder.rmdir()


def checksums(folder: Path) -> str:
    """One line for every file below a folder: its SHA-256 and its name."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{checksum}  {path.relative_to(folder.parent)}\n")
    return "".join(lines)


def plain(value: Any, digits: int = 7) -> Any:
    """The value in JSON's types. Floats are rounded to so many digits (float32 has 7)."""
    if isinstance(value, dict):
        return {key: plain(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, digits) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), digits)
    if isinstance(value, float) and math.isnan(value):
        return None  # JSON has no NaN
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    return str(value) if isinstance(value, Path) else value
