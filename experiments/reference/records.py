"""Records of the published implementation's figures: their format, recipe and probes.

A record is an npz file. It holds a JSON ``config``, and the figures of some iterations in float64.
Parameters and batches are not stored: a recipe draws them from their names and a seed.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..system import npz

# Parameters that the published networks list and no layer uses.
UNUSED = re.compile(
    r"target\.(alphas\.\d+|new_classifier\.\w+|new_bn\.\d+\.\w+|w\.\d+\.\w+|w\d+\.\w+)"
)


class Config(NamedTuple):
    """The settings of a record, named as in its JSON."""

    source: str
    target: str
    source_classes: int
    num_classes: int
    pairs: tuple[tuple[int, int], ...]
    batch: int
    size: int
    seed: int
    lr: float
    momentum: float
    wd: float
    meta_lr: float
    meta_wd: float
    beta: float
    T: int
    iterations: int
    family: str
    source_weights: str


class Record(NamedTuple):
    """A record: its settings and its figures by key."""

    config: Config
    figures: dict[str, np.ndarray]


def load(path: Path) -> Record:
    """Reads a record.

    Args:
      path: the npz file.

    Returns:
      The record.

    Raises:
      ValueError: the file is not an npz file of plain arrays, or its config lacks a setting.
      OSError: the file cannot be read.
    """
    try:
        figures = npz.read(path)
        config = json.loads(str(figures.pop("config")))
        record = Record(Config(**config), figures)
        check(record.config)
    except KeyError as error:
        raise ValueError(f"{path} must be a record (got no {error.args[0]} in it)") from None
    # JSON also allows numbers beyond floats, and lists nested without end.
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} must be a record: {error!s:.300}") from None
    pairs = tuple((m, n) for m, n in record.config.pairs)
    return record._replace(config=record.config._replace(pairs=pairs))


def check(config: Config) -> None:
    """Raises a ValueError for the first setting of a wrong type or out of range."""

    def integer(value: Any, least: int) -> bool:
        return type(value) is int and value >= least

    def number(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and value >= 0

    rules: list[tuple[tuple[str, ...], Callable[[Any], bool], str]] = [
        (("source", "target"), lambda v: isinstance(v, str), "a name"),
        (
            ("source_classes", "num_classes", "batch", "size", "iterations"),
            lambda v: integer(v, 1),
            "a whole number, 1 or more",
        ),
        (("T", "seed"), lambda v: integer(v, 0), "a whole number, 0 or more"),
        (
            ("lr", "momentum", "wd", "meta_lr", "meta_wd", "beta"),
            number,
            "a number, 0 or more",
        ),
        (
            ("pairs",),
            lambda v: (
                isinstance(v, list | tuple)
                and all(
                    isinstance(p, list | tuple) and len(p) == 2 and all(integer(i, 0) for i in p)
                    for p in v
                )
            ),
            "a list of [source layer, target layer]",
        ),
        (("family",), lambda v: v in ("small", "large"), "small or large"),
        (("source_weights",), lambda v: v in ("recipe", "checkpoint"), "recipe or checkpoint"),
    ]
    for names, rule, what in rules:
        for name in names:
            if not rule(getattr(config, name)):
                raise ValueError(f"{name} must be {what} (got {getattr(config, name)!r})")


def draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The recipe's value for a parameter.

    Args:
      name: the published name with its prefix, such as ``source.conv1.weight``.
      shape: its shape in PyTorch's layout.
      seed: the record's seed.

    Returns:
      A float64 array of that shape.
    """
    last = name.rsplit(".", 1)[-1]
    generator = np.random.RandomState((zlib.crc32(name.encode()) ^ seed) & 0x7FFFFFFF)
    z = generator.standard_normal(shape)
    if last == "running_var":
        return 1 + 0.2 * np.abs(z)
    if last == "running_mean":
        return 0.1 * z
    if len(shape) >= 2:
        return z * np.sqrt(1 / np.prod(shape[1:]))
    if last == "weight":
        return 1 + 0.1 * z
    return 0.1 * z + (1.0 if name.startswith("lwnet.") else 0.0)


def draw_all(prefix: str, shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Any]:
    """Calls `draw` for every name with the prefix before it: ``{name: array}``."""
    return {name: draw(f"{prefix}.{name}", shape, seed) for name, shape in shapes.items()}


def batches(config: Config) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The record's batches in order: images ``[B, size, size, 3]`` and labels ``[B]``."""
    generator = np.random.RandomState(config.seed)
    for _ in range(config.iterations):
        images = generator.standard_normal((config.batch, 3, config.size, config.size))
        labels = generator.randint(0, config.num_classes, config.batch)
        yield images.transpose(0, 2, 3, 1), labels


def probe(name: str, tensor: np.ndarray) -> np.ndarray:
    """The probe of a tensor in PyTorch's layout: ``[‖t‖, Σ t·z]`` where z is drawn by its name."""
    seed = zlib.crc32(f"probe:{name}".encode()) & 0x7FFFFFFF
    z = np.random.RandomState(seed).standard_normal(tensor.shape)
    return np.array([np.sqrt(np.sum(tensor**2)), np.sum(tensor * z)])
