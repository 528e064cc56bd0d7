"""What is taken for what: accuracies by class, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..system.files import replacing
from .drawing import drawn

# With more classes, only so many of the worst are listed.
LISTED = 20
# With more classes, the picture has no numbers in its cells.
NUMBERED = 15


def by_class(matrix: np.ndarray, classes: Sequence[str]) -> list[str]:
    """A line for each class that has images, the worst first: its accuracy, and its confusion.

    Args:
      matrix: from `experiments.training.evaluation.confusion`.
      classes: the classes' names.

    Returns:
      A heading and at most `LISTED` lines; nothing if there is but one class.
    """
    totals, right = matrix.sum(axis=1), np.diag(matrix)
    there = np.flatnonzero(totals)
    if len(there) < 2:
        return []
    worst = there[np.argsort(right[there] / totals[there], kind="stable")]
    shown = worst[:LISTED]
    width = max(len("class"), *(len(classes[c]) for c in shown))
    lines = [f"{'class':{width}}  accuracy   right of  most often taken for"]
    for c in shown:
        others = np.where(np.arange(len(classes)) == c, 0, matrix[c])
        most = int(others.argmax())
        taken = f"{classes[most]} ({others[most]})" if others[most] else "-"
        share = f"{100 * right[c] / totals[c]:.1f} %"
        lines.append(f"{classes[c]:{width}}  {share:>8}  {right[c]:>6} {totals[c]:<5}  {taken}")
    if len(worst) > LISTED:
        lines.append(f"... and {len(worst) - LISTED} classes with a higher accuracy")
    return lines


def draw(path: Path, matrix: np.ndarray, classes: Sequence[str], title: str) -> None:
    """Draws the matrix. The colours are shares of each class; the numbers are counts."""
    classes = [drawn(name) for name in classes]
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    side = min(max(4.5, 0.5 * len(classes)), 20)
    figure = Figure(figsize=(side + 1.5, side + 0.5), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(100 * shares, vmin=0, vmax=100, cmap="Blues")
    if len(classes) <= NUMBERED:
        for (row, column), number in np.ndenumerate(matrix):
            if number:
                dark = shares[row, column] > 0.5
                colour = "white" if dark else "black"
                axes.text(column, row, str(number), ha="center", va="center", color=colour)
    size = 10 if len(classes) <= 20 else max(3.0, 200 / len(classes))
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=size)
    axes.set_yticks(range(len(classes)), classes, fontsize=size)
    axes.set(xlabel="taken for", ylabel="class", title=drawn(title))
    figure.colorbar(picture, ax=axes, label="share of the class, %", shrink=0.8)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=120, format="png")


def of_classes(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Mean accuracy of each class over some runs, NaN for a class without images, ``[classes]``."""
    with np.errstate(invalid="ignore"):
        return np.mean([np.diag(matrix) / matrix.sum(axis=1) for matrix in matrices], axis=0)
