"""What an earlier run has left in a folder, and whether it has the same options."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..options.config_file import WEIGHTS_USED
from ..options.run_options import PLACES, RunOptions
from ..system.files import is_unfinished, plain
from .layout import CONFIG, LOCK, RESULT

# What differs where a checksum does, which says nothing itself.
OTHER_IMAGES = "other images (some were added, removed or changed since)"
DIGESTS = {
    "data_sha256": OTHER_IMAGES,
    "split_sha256": OTHER_IMAGES,
    "source_sha256": "other weights of a source",
}


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file; None if it is missing or was not written to its end."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def result(folder: Path, options: RunOptions) -> dict[str, Any] | None:
    """The result of a finished run with the same options.

    Args:
      folder: the run's.
      options: its options; `PLACES`, such as the folder, may differ.

    Returns:
      The content of result.json; None if the run is not finished.

    Raises:
      ValueError: the folder has a run of other options, finished or not, or something else.
    """
    check(folder, options, {})
    return read_json(folder / RESULT)


def check(folder: Path, options: RunOptions, more: Mapping[str, Any]) -> bool:
    """Whether a run of these options was started in a folder.

    Args:
      folder: the run's.
      options: its options.
      more: what its config.json has besides.

    Returns:
      Whether there is one. If not, the folder is new or empty.

    Raises:
      ValueError: the folder has a run of other options, or something else; or it has the run,
        and none may be resumed.
      FileNotFoundError: likewise, and a file that an option names does not exist.
    """
    try:
        return has_run(folder, options, more)
    except ValueError:
        options.check_files()  # first, since a mistyped name may be all that differs
        raise


def has_run(folder: Path, options: RunOptions, more: Mapping[str, Any]) -> bool:
    """As `check`, but without looking for the files that the options name."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise ValueError(f"the run's folder must be new or empty (got {folder}, a file)")
    if all(path.name == LOCK or is_unfinished(path) for path in folder.iterdir()):
        return False
    stored = read_json(folder / CONFIG)
    if stored is None or options.resume == "never":
        why = "" if stored is None else " with --resume never"
        raise ValueError(
            f"the run's folder must be new or empty{why} (got {folder}, which is not empty)"
        )
    if differing := differences(stored, options, more):
        raise ValueError(
            f"{folder} has a run with {'; '.join(differing)}; give the same options and files, or "
            "another folder (--run-dir, or --out of l2t compare)"
        )
    return True


def differences(
    stored: Mapping[str, Any], options: RunOptions, more: Mapping[str, Any]
) -> list[str]:
    """What is otherwise in a config.json, such as ``beta 0.5, not 1.0`` or ``other images``."""
    wanted = plain(dataclasses.asdict(options) | dict(more), digits=17)
    # A run from before an option existed did what is now the option's default.
    known = plain(dataclasses.asdict(type(options)()), digits=17) | dict(stored)
    # Nor did it record all that runs record now.
    known = {name: wanted[name] for name in more if name not in stored} | known
    if (used := known.get(WEIGHTS_USED)) and used == wanted.get("source_weights"):
        known["source_weights"] = used  # the same weights, by their names with a commit
    other = {
        name: value
        for name, value in wanted.items()
        # A run that has ended at a non-finite batch may resume without that batch.
        if name not in (*PLACES, "skip_nonfinite") and known.get(name) != value
    }
    options_that_differ = [
        f"{name} {known.get(name)}, not {value}"
        for name, value in other.items()
        if name not in DIGESTS
    ]
    return options_that_differ or list(dict.fromkeys(DIGESTS[name] for name in other))
