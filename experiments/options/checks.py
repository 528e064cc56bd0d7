"""Checks of options' values, with messages of one form: what must hold, and what was given."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Range = tuple[str, bool, str]


def flag(name: str) -> str:
    """An option as it is given: ``--run-dir`` for ``run_dir``."""
    return f"--{name.replace('_', '-')}"


def check_ranges(options: Any, *ranges: Range) -> None:
    """Raises a ValueError for the first option that is out of its range.

    Args:
      options: the options.
      ranges: of each option its name, whether it is in its range, and the range in words.
    """
    for name, kept, words in ranges:
        if not kept:
            raise ValueError(f"{flag(name)} must be {words} (got {getattr(options, name)})")


def at_least(least: int, options: Any, names: Iterable[str]) -> list[Range]:
    """The ranges of options that are numbers from a least one on; None is in the range."""
    values = {name: getattr(options, name) for name in names}
    words = f"at least {least}"
    return [(name, value is None or value >= least, words) for name, value in values.items()]


def finite(options: Any, names: Iterable[str]) -> list[Range]:
    """The ranges of options that are finite numbers from 0 on."""
    values = {name: getattr(options, name) for name in names}
    return [
        (name, 0 <= value < math.inf, "at least 0 and finite") for name, value in values.items()
    ]


def check_can_be_written(name: str, path: Path | None) -> None:
    """Raises a ValueError where no file can be written, before any work is done for it."""
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{flag(name)} must be a file (got {path}, a folder); add a file's name")
    if not path.parent.is_dir():
        raise ValueError(
            f"{flag(name)} must be in an existing folder (got {path}); make {path.parent} first"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(
            f"{flag(name)} must be in a folder that you may write to (got {path}); give another"
        )


def check_folder_can_be_made(name: str, path: Path) -> None:
    """Raises a ValueError where no folder can be made or filled, before any work is done for it."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise ValueError(f"{flag(name)} must be a folder (got {path}, where {there} is a file)")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(
            f"{flag(name)} must be in a folder that you may write to (got {path}); give another"
        )
