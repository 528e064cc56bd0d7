"""Differences of methods seed by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import NamedTuple

from . import table
from .table import Cell, Table


class Difference(NamedTuple):
    """How much more accurate one method is than another with the same seeds, from -1 to 1.

    Attributes:
      mean: over the seeds that both have.
      error: its standard error, the sample standard deviation over ``√n``.
      seeds: number n of these seeds, 2 or more.
    """

    mean: float
    error: float
    seeds: int

    def text(self) -> str:
        """``mean ± standard error (seeds)`` in points, with a sign."""
        return f"{100 * self.mean:+.1f} ± {100 * self.error:.1f} ({self.seeds})"


def difference(one: Cell, other: Cell) -> Difference | None:
    """One method less another one; None if they do not have two seeds in common."""
    first, second = (dict(zip(cell.seeds, cell.values, strict=True)) for cell in (one, other))
    changes = [first[seed] - second[seed] for seed in first if seed in second]
    if len(changes) < 2:
        return None
    error = statistics.stdev(changes) / math.sqrt(len(changes))
    return Difference(statistics.fmean(changes), error, len(changes))


def chosen(validation: Table, column: str) -> str:
    """The row with the highest validation accuracy of a column; the first of those that tie."""
    found = {row: cell.mean for (row, of), cell in validation.cells.items() if of == column}
    return max((row for row in validation.rows if row in found), key=lambda row: found[row])


def section(results: Table, validation: Table) -> Iterable[str]:
    """The part of a report that shows the differences; nothing where no two rows share seeds.

    Args:
      results: of the test images.
      validation: of the validation images, by which the row to compare with is chosen.
    """
    best = {column: chosen(validation, column) for column in results.columns}

    def entry(row: str, column: str) -> str:
        if row == best[column]:
            return "0"
        one, other = (results.cells.get((name, column)) for name in (row, best[column]))
        found = None if one is None or other is None else difference(one, other)
        return "" if found is None else found.text()

    rows = [[row, *(entry(row, column) for column in results.columns)] for row in results.rows]
    if all(text in ("", "0") for _, *texts in rows for text in texts):
        return
    yield "## Seed by seed"
    yield (
        "Runs of one seed have the same images. So a difference taken seed by seed shows more than "
        "two means do. Here each row is compared with the row that has the highest validation "
        "accuracy in its column (0): how much higher its test accuracy is, in points, mean ± "
        "standard error (number of common seeds). For 95 % confidence a difference must be 12.7, "
        "4.3, 3.2 or 2.8 standard errors with 2, 3, 4 or 5 seeds (Student's t)."
    )
    yield table.grid(["method", *results.columns], rows).strip()
