"""A confusion matrix as a CSV file: how many images of each class are taken for which."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..system.files import replacing

CORNER = "true \\ predicted"


class Confusion(NamedTuple):
    """A confusion matrix.

    Attributes:
      classes: the classes' names.
      matrix: counts, ``[classes, classes]``: a row for each true class, a column for each
        prediction.
    """

    classes: tuple[str, ...]
    matrix: np.ndarray


def write(path: Path, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """Writes the counts, with the classes' names as heading and as first column."""
    # A folder's name may have bytes that are no text. They are written as they are.
    with (
        replacing(path) as unfinished,
        unfinished.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow([CORNER, *classes])
        table.writerows([name, *map(int, row)] for name, row in zip(classes, matrix, strict=True))


def read(path: Path) -> Confusion:
    """Reads what `write` has written.

    Raises:
      ValueError: the file has another form.
      OSError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            heading, *rows = csv.reader(file)
        classes = tuple(heading[1:])
        matrix = np.array([[int(number) for number in row[1:]] for row in rows], np.int64)
    except (ValueError, OverflowError, csv.Error) as error:
        raise ValueError(f"{path.name} must be a table of counts (got {error})") from None
    square = matrix.shape == (len(classes), len(classes)) and len(classes) > 0
    if not square or tuple(row[0] for row in rows) != classes or matrix.min() < 0:
        raise ValueError(f"{path.name} must have a row and a column of counts for each class")
    return Confusion(classes, matrix)
