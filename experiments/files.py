"""Files: npz archives, and a run's folder with what is written there."""

from __future__ import annotations

import contextlib
import json
import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an npz file, without unpickling anything.

    Raises:
      ValueError: the file is no npz file of plain arrays, or is damaged.
      OSError: it cannot be read.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except OSError:
        raise
    except (
        ValueError,
        TypeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        raise ValueError(f"{path} is no npz file of plain arrays: {error}") from None


def new_folder(folder: Path) -> Path:
    """Creates a folder, or raises a ValueError where it holds something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder {folder} is not empty; wanted a new or empty one")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON, whole or not at all; floats keep every digit."""
    text = json.dumps(plain(content, digits=17), indent=2) + "\n"
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Another path to write to; what is there at the end takes the first one's place at once."""
    unfinished = path.with_name(f".{path.name}.part")
    yield unfinished
    unfinished.replace(path)


def plain(value: Any, digits: int = 7) -> Any:
    """The value in JSON's types, floats rounded to so many digits (float32 has 7)."""
    if isinstance(value, dict):
        return {key: plain(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, digits) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), digits)
    if isinstance(value, float) and math.isnan(value):
        return None  # JSON has no such number
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    return str(value) if isinstance(value, Path) else value
