"""Pictures of accuracies: over the epochs, and over the number of images."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .drawing import drawn

STYLES = ["-", "--", ":", "-."]
MARKERS = ["o", "s", "^", "D"]


# With fewer seeds a band of their standard deviation says little.
BAND_FROM = 3


def over_epochs(
    path: Path, accuracies: Mapping[str, np.ndarray], title: str, chance: float | None = None
) -> None:
    """Draws mean validation accuracies, from three seeds on with bands of a standard deviation.

    Args:
      path: the picture to write.
      accuracies: of each method, from 0 to 1, ``[seeds, epochs]``.
      title: the data.
      chance: accuracy of a guess, from 0 to 1; None for no line.
    """
    figure, axes = _axes(accuracies, title)
    if chance is not None:
        axes.axhline(100 * chance, color="0.5", linewidth=0.8, linestyle=(0, (1, 2)))
        axes.annotate(
            "chance", (0.995, 100 * chance), xycoords=("axes fraction", "data"), xytext=(0, 2),
            textcoords="offset points", ha="right", fontsize=8, color="0.4",
        )  # fmt: skip
    for i, (label, values) in enumerate(accuracies.items()):
        percent = 100 * values
        epochs, mean = np.arange(1, percent.shape[1] + 1), percent.mean(axis=0)
        colour, style = matplotlib.colormaps["tab10"](i % 10), STYLES[i // 10 % 4]
        marker = "." if len(epochs) == 1 else None
        axes.plot(epochs, mean, color=colour, linestyle=style, marker=marker, label=label)
        if len(percent) >= BAND_FROM:
            std = percent.std(axis=0, ddof=1)
            axes.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="epoch", ylabel="validation accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _save(figure, axes, path)


def over_images(
    path: Path, accuracies: Mapping[str, tuple[list[int], list[float], list[float]]], title: str
) -> None:
    """Draws test accuracies over the number of images per class.

    Args:
      path: the picture to write.
      accuracies: for each method the numbers of images per class, and for each number the mean
        and standard deviation over the seeds (0 for one seed), from 0 to 1.
      title: the data.
    """
    figure, axes = _axes(accuracies, title)
    for i, (label, (counts, means, stds)) in enumerate(accuracies.items()):
        axes.errorbar(
            # Shifted a little, so that bars do not overlap.
            np.array(counts) * 1.012 ** (i - (len(accuracies) - 1) / 2),
            100 * np.array(means),
            yerr=100 * np.array(stds),
            color=matplotlib.colormaps["tab10"](i % 10),
            linestyle=STYLES[i // 10 % 4],
            marker=MARKERS[i % 4],
            markersize=4,
            capsize=2,
            elinewidth=0.8,
            label=label,
        )
    ticks = sorted({count for counts, _, _ in accuracies.values() for count in counts})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="training images per class", ylabel="test accuracy, %")
    _save(figure, axes, path)


def _legend_lines(label: str) -> list[str]:
    """A name in lines, so that it does not take the place of the picture."""
    return textwrap.wrap(drawn(label), 48, break_on_hyphens=False) or [""]


def _axes(labels: Collection[str], title: str) -> tuple[Figure, Axes]:
    """Axes with room for the lines' names beside them."""
    lines = [line for label in labels for line in _legend_lines(label)]
    size = (6.3 + 0.075 * max(map(len, lines)), max(4.0, 1.0 + 0.22 * len(lines)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set_title(drawn(title))
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, axes: Axes, path: Path) -> None:
    lines, labels = axes.get_legend_handles_labels()
    labels = ["\n".join(_legend_lines(label)) for label in labels]
    axes.legend(lines, labels, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)
