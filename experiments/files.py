"""A run's folder and what is written there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def new_folder(folder: Path) -> Path:
    """Creates a folder, or raises a ValueError where it holds something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder {folder} is not empty; wanted a new or empty one")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON."""
    path.write_text(json.dumps(plain(content), indent=2) + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """The value in JSON's types, floats with the digits of float32."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.7g}")
    return str(value) if isinstance(value, Path) else value
