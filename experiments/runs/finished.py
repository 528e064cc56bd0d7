"""Reads the folders of training runs."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data import few_images
from ..options.methods import METHODS
from ..training import learned_weights
from . import confusion_file, layout
from .confusion_file import Confusion
from .layout import CONFIG, IN_CONFIG, IN_EPOCH, IN_RESULT, IN_TRAIN_CONFIG, METRICS, RESULT

FILES = (CONFIG, METRICS, RESULT)


class Run(NamedTuple):
    """A finished run.

    Attributes:
      folder: where it is.
      config: its options, and what follows from them.
      epochs: what was written after each epoch.
      result: accuracies, counts of images, duration, devices and versions.
      finished: when it ended.
      weights: mean weights of pairs and channels; None if its method has none.
      confusion: what the test images of each class are taken for; None if it is not recorded.
    """

    folder: Path
    config: dict[str, Any]
    epochs: list[dict[str, Any]]
    result: dict[str, Any]
    finished: datetime.datetime
    weights: learned_weights.Transferred | None
    confusion: Confusion | None = None

    @property
    def accuracy(self) -> float:
        """Share of the test images classified right."""
        return self.result["test_accuracy"]

    @property
    def warnings(self) -> list[str]:
        """Its warnings of few images; for a run without them, from its numbers of images."""
        return self.result.get("warnings", few_images.of_counts(self.result["images"]))

    @property
    def val_accuracies(self) -> list[float]:
        """Share of the validation images classified right after each epoch."""
        return [epoch["val_accuracy"] for epoch in self.epochs]

    @property
    def pair_weights(self) -> np.ndarray:
        """Mean λ of each pair in each epoch, ``[epochs, pairs]``."""
        return np.array([epoch["train"]["pair_weights"] for epoch in self.epochs])


class Found(NamedTuple):
    """All run folders.

    Attributes:
      runs: finished runs of `experiments.train`.
      sources: finished runs of `experiments.pretrain`.
      unfinished: folders without a result, and how many epochs they have.
      unreadable: folders with files that are damaged or have another form, and why.
    """

    runs: list[Run]
    sources: list[Run]
    unfinished: list[tuple[Path, str]]
    unreadable: list[tuple[Path, str]]


def find(folders: Iterable[Path]) -> Found:
    """Reads each run folder among these folders and below them once.

    Raises:
      ValueError: one of them is not a folder, or has no run in it.
    """
    found = Found([], [], [], [])
    for folder in sorted({run.resolve(): run for top in folders for run in _below(top)}.values()):
        try:
            if (folder / CONFIG).exists() and not (folder / RESULT).exists():
                found.unfinished.append((folder, _progress(folder)))
                continue
            run = read(folder)
        except (ValueError, OSError) as error:
            found.unreadable.append((folder, " ".join(str(error).split())))
            continue
        (found.runs if "method" in run.config else found.sources).append(run)
    return found


def _below(top: Path) -> set[Path]:
    if not top.is_dir():
        raise ValueError(f"RUNS must be run folders, or folders with some in them (got {top})")
    folders = {path.parent for name in FILES for path in top.rglob(name)}
    if not folders:
        raise ValueError(f"RUNS must have folders with {', '.join(FILES)} (got none in {top})")
    return folders


def _progress(folder: Path) -> str:
    metrics = folder / METRICS
    done = len(_lines(metrics)) if metrics.exists() else 0
    epochs = _dictionary(_json(folder / CONFIG), CONFIG, ("epochs",))["epochs"]
    return f"{done} of {epochs} epochs"


def read(folder: Path) -> Run:
    """Reads a finished run.

    Raises:
      ValueError: a file is damaged or has another form.
      OSError: a file is missing or cannot be read.
    """
    config = _dictionary(_json(folder / CONFIG), CONFIG, IN_CONFIG)
    if "network" not in config:
        _dictionary(config, CONFIG, IN_TRAIN_CONFIG)
        if config["method"] not in METHODS:
            raise ValueError(
                f"the method in {CONFIG} must be one of {', '.join(METHODS)} (got "
                f"{config['method']})"
            )
    epochs = [
        _dictionary(epoch, f"line {number} of {METRICS}", IN_EPOCH)
        for number, epoch in enumerate(_lines(folder / METRICS), 1)
    ]
    wanted = config["epochs"]
    if "network" not in config and not METHODS[config["method"]].takes_steps:
        wanted = 1
    fewer = config.get("patience") is not None and 0 < len(epochs) <= wanted
    if len(epochs) != wanted and not fewer:
        raise ValueError(
            f"{METRICS} must have {wanted} epochs, as {CONFIG} says (got {len(epochs)})"
        )
    result = _dictionary(_json(folder / RESULT), RESULT, IN_RESULT)
    for name, keys in IN_RESULT.items():
        if keys:
            _dictionary(result[name], f"{name} of {RESULT}", keys)
    for name, count in result["images"].items():
        if type(count) is not int or count < 1:
            raise ValueError(f"images of {RESULT} must be numbers from 1 on (got {name} {count})")
    warnings = result.get("warnings", [])
    if not isinstance(warnings, list) or not all(isinstance(text, str) for text in warnings):
        raise ValueError(f"warnings of {RESULT} must be a list of texts (got {warnings})")
    final = (result["test_accuracy"], result["val_accuracy"])
    for accuracy in (*final, *(epoch["val_accuracy"] for epoch in epochs)):
        if not isinstance(accuracy, float | int) or not 0 <= accuracy <= 1:
            raise ValueError(f"an accuracy must be 0 to 1 (got {accuracy})")
    learns = epochs and "pair_weights" in epochs[-1]["train"]
    weights = learned_weights.read(folder / layout.CHANNEL_WEIGHTS) if learns else None
    finished = datetime.datetime.fromisoformat(str(result["finished"])).astimezone()
    path = folder / layout.CONFUSION
    confusion = confusion_file.read(path) if path.exists() else None
    return Run(folder, config, epochs, result, finished, weights, confusion)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} must be JSON (got {error})") from None


def _lines(path: Path) -> list[Any]:
    """The values of a file with one in each line; a last line without an end is left out."""
    text = path.read_text(encoding="utf-8")
    try:
        return [json.loads(line) for line in text.split("\n")[:-1]]
    except ValueError as error:
        raise ValueError(f"{path.name} must be JSON in each line (got {error})") from None


def _dictionary(value: Any, name: str, keys: Iterable[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object (got a {type(value).__name__})")
    if missing := [key for key in keys if key not in value]:
        raise ValueError(f"{name} must have {' and '.join(missing)} (got none)")
    return value
