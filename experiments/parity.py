"""Compare every figure with records of the published code, in float64."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import numpy as np
import tyro
from tyro.conf import arg

from .options import cli
from .reference import records
from .reference.replay import Figures, replay

TOLERANCE = 1e-8


@dataclass(frozen=True)
class Options:
    """Compare every figure with records of the published code, in float64.

    The exit code is 0 only if every figure agrees.

    Example:
      l2t parity tests/data/tiny.npz
    """

    #: Records of the published code.
    records: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        arg(metavar="RECORD.npz ...", help_behavior_hint="(required)"),
    ]
    #: Trained weights of the source network, for records that were made with them.
    checkpoint: Annotated[
        Path | None, arg(metavar="FILE", help_behavior_hint="(default: none)")
    ] = None


class Line(NamedTuple):
    """The comparison of one quantity."""

    quantity: str
    figures: int
    error: float
    worst: str


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest ``|ours - theirs| / |theirs|``; absolute where theirs is exactly zero.

    Figures below a millionth of their tensor's largest are measured against that millionth.
    Rounding in float64 is relative to the terms of a sum, which may be much larger than the sum.
    """
    floor = 1e-6 * np.max(np.abs(theirs), initial=0.0)
    scale = np.where(theirs == 0, 1.0, np.maximum(np.abs(theirs), floor))
    error = np.abs(ours - theirs) / scale
    return float(np.max(np.where(np.isfinite(error), error, np.inf), initial=0.0))


def compare(record: records.Record, ours: Figures) -> list[Line]:
    """Compares every figure of a record with ours.

    Args:
      record: the record.
      ours: the same figures, as from `replay`.

    Returns:
      One `Line` a quantity.

    Raises:
      ValueError: the record lacks a figure, or has one that is not computed here.
    """
    figures = dict(record.figures)
    # Of meta-tensors with more than 5000 elements, records have probes only.
    expected = {
        key: array
        for key, array in ours.arrays.items()
        if not key.startswith(("meta_grad/", "meta_param/")) or array.size <= 5000
    }
    kept = {owner: check_names(figures, owner, shapes) for owner, shapes in ours.shapes.items()}
    for key, rows in ours.probes.items():
        owner = "target" if key in ("after_update", "target_after") else "meta"
        names = figures[f"{owner}_names"]
        expected[key] = np.array([rows[str(names[i])] for i in kept[owner]])
        if key in figures:
            if figures[key].shape != (len(names), 2):
                raise ValueError(
                    f"{key} must have shape {(len(names), 2)} (got {figures[key].shape})"
                )
            figures[key] = figures[key][kept[owner]]
    labels = {"target_names", "target_shapes", "meta_names", "meta_shapes"}
    if missing := sorted((set(expected) | labels) - set(figures)):
        raise ValueError(f"the record must have {', '.join(missing)} (got none)")
    if unknown := sorted(set(figures) - set(expected) - labels):
        raise ValueError(
            f"the record must have only figures that are known here (got {', '.join(unknown)})"
        )

    compared: dict[str, list[tuple[str, float, int]]] = {}

    def add(quantity: str, key: str, mine: np.ndarray, theirs: np.ndarray) -> None:
        if mine.shape != theirs.shape:
            raise ValueError(f"{key} must have shape {mine.shape} (got {theirs.shape})")
        error = relative_error(mine, theirs)
        compared.setdefault(quantity, []).append((key, error, theirs.size))

    for key, mine in expected.items():
        if figures[key].dtype != np.float64:
            raise ValueError(f"{key} must be float64 (got {figures[key].dtype})")
        theirs = figures[key]
        quantity, _, name = key.partition("/")
        add(quantity, key, mine, theirs)
        if quantity == "meta_param":  # it barely moves, so its change says more than its value
            start = ours.initial_meta[name]
            add("meta_param_change", key, mine - start, theirs - start)
    lines = []
    for quantity, entries in compared.items():
        worst = max(entries, key=lambda entry: entry[1])
        lines.append(Line(quantity, sum(e[2] for e in entries), worst[1], worst[0]))
    return lines


def check_names(
    figures: dict[str, np.ndarray], owner: str, shapes: dict[str, tuple[int, ...]]
) -> list[int]:
    """Compares a record's list of parameters with ours.

    Args:
      figures: the record's figures.
      owner: ``target`` or ``meta``.
      shapes: our parameters' shapes by name.

    Returns:
      The rows of the parameters that layers use.

    Raises:
      ValueError: names or shapes are missing or differ from ours, or a name is there twice.
    """
    lists = [figures.get(f"{owner}_{kind}") for kind in ("names", "shapes")]
    if any(entries is None or entries.ndim != 1 for entries in lists):
        raise ValueError(
            f"the record must have the lists {owner}_names and {owner}_shapes (got none)"
        )
    names, theirs = ([str(entry) for entry in entries] for entries in lists if entries is not None)
    kept = [i for i, name in enumerate(names) if not records.UNUSED.fullmatch(name)]
    if len(theirs) != len(names) or len(set(names)) != len(names):
        raise ValueError(
            f"{owner}_names must name each of the {len(theirs)} entries of {owner}_shapes once "
            f"(got {len(names)} names, {len(set(names))} of them distinct)"
        )
    if wrong := sorted(set(shapes).symmetric_difference(names[i] for i in kept)):
        raise ValueError(f"{owner}_names must be our parameters' (got other names: {wrong[:8]})")
    for i in kept:
        if theirs[i] != str(list(shapes[names[i]])):
            raise ValueError(
                f"{names[i]} must have shape {list(shapes[names[i]])} in the record (got "
                f"{theirs[i]})"
            )
    return kept


def main(options: Options) -> int:
    """Replays every record and prints a line for each quantity."""
    if not options.records:
        raise ValueError("RECORD.npz must be at least one record (got none)")
    jax.config.update("jax_enable_x64", True)
    failed = False
    loaded = [(path, records.load(path)) for path in options.records]
    for path, record in loaded:
        if record.config.source_weights == "checkpoint" and options.checkpoint is None:
            raise ValueError(
                f"--checkpoint must be given with {path}, which was made with trained weights (got "
                "none)"
            )
    for path, record in loaded:
        try:
            lines = compare(record, replay(record.config, options.checkpoint))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        for line in lines:
            ok = line.error <= TOLERANCE
            failed |= not ok
            print(
                f"{path.name}  {line.quantity:<26}{line.figures:>8} figures  "
                f"largest error {line.error:.1e}  {'ok' if ok else f'FAILED at {line.worst}'}"
            )
    print("parity: some figures differ" if failed else "parity: all figures agree")
    return int(failed)


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t parity", args=words)


if __name__ == "__main__":
    sys.exit(command())
