"""What an earlier comparison has left in a run's folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from experiments.config import Config
from experiments.files import plain


def read_json(path: Path) -> dict[str, Any] | None:
    """What a JSON file says; None where it is missing or was not written to its end."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def result(folder: Path, config: Config) -> dict[str, Any] | None:
    """The result of a run that was done with the same options.

    Args:
      folder: the run's.
      config: its options; where its folder is does not count.

    Returns:
      What result.json says; None where the run is not done.

    Raises:
      ValueError: the folder has the result of other options.
    """
    found = read_json(folder / "result.json")
    if found is None:
        return None
    if differing := differences(read_json(folder / "config.json") or {}, config):
        raise ValueError(
            f"{folder} has the result of a run with {'; '.join(differing)}; wanted it from the "
            "same options, another --out, or the folder moved away"
        )
    return found


def differences(stored: dict[str, Any], config: Config) -> list[str]:
    """The options in which a config.json differs, such as ``beta 0.5, not 1.0``."""
    wanted = plain(dataclasses.asdict(config), digits=17)
    # An option that the stored run did not know yet left everything as it was: its default.
    known = plain(dataclasses.asdict(Config()), digits=17) | stored
    return [
        f"{name} {known[name]}, not {value}"
        for name, value in wanted.items()
        if name != "run_dir" and known[name] != value
    ]


def move_aside(folder: Path) -> Path | None:
    """Moves a run that was not done out of the way.

    Args:
      folder: the run's.

    Returns:
      Where it is now, below ``broken`` beside it; None where there was nothing.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    broken = folder.parent / "broken"
    broken.mkdir(exist_ok=True)
    number = 1
    while (target := broken / f"{folder.name}-{number}").exists():
        number += 1
    return folder.rename(target)
