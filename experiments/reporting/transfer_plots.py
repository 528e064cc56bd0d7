"""Pictures of what was transferred where."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l2t_jax.pairs import Pair

from ..data.dataset import Dataset
from .drawing import drawn

# With more pairs, their lines have no names.
NAMED = 20


class Names(NamedTuple):
    """What pictures call layers.

    Attributes:
      sources: names of source layers; a layer without one has its number.
      network: the target network; its layers are numbered.
    """

    sources: Mapping[int, str]
    network: str

    def source(self, layer: int) -> str:
        """The name of a source layer."""
        return drawn(self.sources.get(layer, f"source {layer}"))

    def target(self, layer: int) -> str:
        """The name of a target layer."""
        return drawn(f"{self.network} {layer}")

    def pair(self, pair: Pair) -> str:
        """The name of a pair."""
        return f"{self.source(pair[0])} → {self.target(pair[1])}"


def pair_matrix(pairs: Sequence[Pair], values: np.ndarray) -> tuple[np.ndarray, list, list]:
    """Pair weights as a matrix, source by target layers; NaN if a pair is not matched.

    Returns:
      The matrix and the source and target layers of its rows and columns.
    """
    sources, targets = sorted({m for m, _ in pairs}), sorted({n for _, n in pairs})
    matrix = np.full((len(sources), len(targets)), np.nan)
    for (m, n), value in zip(pairs, values, strict=True):
        matrix[sources.index(m), targets.index(n)] = value
    return matrix, sources, targets


def moved(history: np.ndarray) -> str:
    """How far λ went, so that nobody takes the weights of the start for learned ones.

    Args:
      history: mean λ of each pair in each epoch, ``[epochs, pairs]``.

    Returns:
      The largest change of a pair since the first epoch, in words.
    """
    change = np.max(np.abs(history[-1] - history[0]))
    text = f"since epoch 1, λ has moved by {change:.2g} at most"
    if change < 0.1 * max(np.mean(history[-1]), 1e-6):
        text += ": this is almost its start, little of it is learned"
    return text


def lambda_matrices(
    path: Path,
    pairs: Sequence[Pair],
    history: np.ndarray,
    epochs: Sequence[int],
    title: str,
    names: Names,
) -> None:
    """Draws the λ matrix at up to five epochs, and every λ over all epochs.

    Args:
      path: the picture to write.
      pairs: the pairs (source layer, target layer).
      history: mean λ of each pair in each epoch, ``[epochs, pairs]``.
      epochs: the epochs' numbers.
      title: the method and the networks or data.
      names: of the layers.
    """
    _, sources, targets = pair_matrix(pairs, history[0])
    moments = sorted({int(i) for i in np.linspace(0, len(epochs) - 1, min(5, len(epochs)))})
    named = len(pairs) <= NAMED
    heights = (max(2.6, 0.8 + 0.25 * len(sources)), max(3.4, 0.8 + 0.17 * len(pairs) * named))
    width = max(max(1.9, 0.35 * len(targets)) * len(moments) + 2.6, 7.0)
    figure = Figure(figsize=(width, sum(heights) + 0.3), layout="constrained")
    figure.suptitle(f"{drawn(title)}\n{moved(history)}")
    # Two subfigures, so that the names of the lines take no room from the matrices.
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    widths = [(width - 2.6) / len(moments)] * len(moments) + [0.25]
    grid = upper.add_gridspec(1, len(moments) + 1, width_ratios=widths)
    top = max(float(np.max(history)), 1e-6)
    for i, moment in enumerate(moments):
        panel = upper.add_subplot(grid[0, i])
        matrix, _, _ = pair_matrix(pairs, history[moment])
        image = panel.imshow(matrix, vmin=0, vmax=top, cmap="viridis", aspect="auto")
        panel.set_title(f"epoch {epochs[moment]}", fontsize=9)
        panel.set_xticks(range(len(targets)), [str(n) for n in targets])
        panel.set_yticks(range(len(sources)), [names.source(m) for m in sources] if i == 0 else [])
        panel.set_xlabel(f"layer of {drawn(names.network)}")
    upper.colorbar(image, cax=upper.add_subplot(grid[0, -1]), label="mean λ")
    lines = lower.subplots()
    colours = matplotlib.colormaps["tab10"]
    styles = ["-", "--", ":", "-.", (0, (8, 2))]
    for i, (m, n) in enumerate(pairs):
        lines.plot(
            epochs,
            history[:, i],
            color=colours(sources.index(m) % 10),
            linestyle=styles[targets.index(n) % 5],
            marker="." if len(epochs) == 1 else None,
        )
    lines.set(xlabel="epoch", ylabel="mean λ", ylim=(0, None))
    lines.margins(x=0.01)
    lines.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if np.ptp(history[0]) < 1e-3 * top:
        lines.axhline(history[0, 0], color="0.6", linewidth=0.8, zorder=0)
        lines.annotate(
            "start", (0.005, history[0, 0]), xycoords=("axes fraction", "data"),
            xytext=(0, -9), textcoords="offset points", fontsize=8, color="0.4",
        )  # fmt: skip
    if named:
        labels = [names.pair(pair) for pair in pairs]
        shades = [colours(sources.index(m) % 10) for m, _ in pairs]
        _name_ends(lines, history[-1], labels, shades, heights[1])
    else:  # too many to name; the matrices above name them
        lines.set_title("one colour a source layer, one style a target layer", fontsize=8)
    figure.savefig(path, dpi=120)


def _name_ends(
    axes: Axes, ends: np.ndarray, labels: Sequence[str], colours: Sequence[Any], inches: float
) -> None:
    """Writes each line's name at its end, moved up or down where names would overlap."""
    low, high = axes.get_ylim()
    heights = spread(ends, (high - low) * 0.15 / (inches - 0.7), low, high)
    for end, height, label, colour in zip(ends, heights, labels, colours, strict=True):
        axes.annotate(
            label, (1.0, end), xycoords=("axes fraction", "data"),
            xytext=(1.04, height), textcoords=("axes fraction", "data"),
            fontsize=8, color=colour, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "relpos": (0, 0.5)},
        )  # fmt: skip


def spread(values: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Values moved apart as little as need be: ``gap`` between neighbours, within the ends.

    If there are too many for that, they are spread evenly.
    """
    order = np.argsort(values, kind="stable")
    gap = min(gap, (high - low) / max(len(values), 1))
    offsets = gap * np.arange(len(values))
    # With their offsets taken off, values that must not be closer than a gap must ascend.
    places = np.clip(values[order] - offsets, low, high - offsets[-1])
    pushed_up = np.maximum.accumulate(places)
    pushed_down = np.minimum.accumulate(places[::-1])[::-1]
    moved = np.empty(len(values))
    moved[order] = (pushed_up + pushed_down) / 2 + offsets
    return moved


def matching_diagram(
    path: Path,
    pairs: Sequence[Pair],
    history: np.ndarray,
    title: str,
    names: Names,
) -> None:
    """Draws source layers left, target layers right, and lines as wide as λ in the last epoch.

    Args:
      path: the picture to write.
      pairs: the pairs (source layer, target layer).
      history: mean λ of each pair in each epoch, or in the first and in the last,
        ``[epochs, pairs]``.
      title: the method and the networks or data.
      names: of the layers.
    """
    matrix, sources, targets = pair_matrix(pairs, history[-1])
    rows = max(len(sources), len(targets))
    figure = Figure(figsize=(5.2, 1.2 + 0.7 * rows), layout="constrained")
    axes = figure.subplots()
    top = max(float(np.nanmax(matrix)), 1e-6)

    def height(index: int, count: int) -> float:
        return (index + 0.5) * rows / count

    for i in range(len(sources)):
        for j in range(len(targets)):
            if np.isfinite(matrix[i, j]) and matrix[i, j] > 0.005 * top:
                share = matrix[i, j] / top
                axes.plot(
                    [0, 1],
                    [height(i, len(sources)), height(j, len(targets))],
                    linewidth=7 * share,
                    alpha=0.25 + 0.6 * share,
                    color=matplotlib.colormaps["tab10"](i % 10),
                    solid_capstyle="butt",
                    zorder=1,
                )
    for x, layers in ((0, sources), (1, targets)):
        for index, layer in enumerate(layers):
            y = height(index, len(layers))
            axes.text(
                x,
                y,
                names.source(layer) if x == 0 else names.target(layer),
                ha="center",
                va="center",
                zorder=2,
                bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "0.4"},
            )
    axes.set(xlim=(-0.25, 1.25), ylim=(rows, 0))
    axes.set_axis_off()
    words = f"line width: mean λ in the last epoch, widest {top:.2f}"
    axes.set_title("\n".join((drawn(title), words, textwrap.fill(moved(history), 60))), fontsize=10)
    figure.savefig(path, dpi=120)


def channel_weights(
    path: Path,
    pairs: Sequence[Pair],
    weights: Sequence[np.ndarray],
    pair_weights: np.ndarray,
    title: str,
    names: Names,
    count: int = 6,
) -> None:
    """Draws the channel weights of the pairs with the largest λ, times the number of channels.

    Args:
      path: the picture to write.
      pairs: the pairs (source layer, target layer).
      weights: mean channel weights of each pair, ``[C]``.
      pair_weights: mean λ of each pair, ``[pairs]``.
      title: the method and the networks or data.
      names: of the layers.
      count: the most pairs to draw.
    """
    strongest = np.argsort(-pair_weights, kind="stable")[:count]
    columns = min(3, len(strongest))
    rows = -(-len(strongest) // columns)
    figure = Figure(figsize=(3.2 * columns + 0.8, 2.3 * rows + 0.8), layout="constrained")
    figure.suptitle(drawn(title), fontsize=10)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    # From 0 to twice the mean at least, so that what has hardly changed looks like it.
    most = max(float(np.max(weights[pair])) * len(weights[pair]) for pair in strongest)
    grid[0, 0].set_ylim(0, max(2.0, 1.05 * most))
    for panel in grid.flat[len(strongest) :]:
        panel.set_axis_off()
    for i, (panel, pair) in enumerate(zip(grid.flat, strongest, strict=False)):
        values = weights[pair] * len(weights[pair])
        colours = np.where(values >= 1, "tab:blue", "tab:orange")
        panel.bar(np.arange(len(values)), values - 1, bottom=1, width=1, color=colours)
        panel.axhline(1, color="0.3", linewidth=0.8)
        panel.set_title(f"{names.pair(pairs[pair])}\nmean λ {pair_weights[pair]:.2f}", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        # Below the last panel of each column.
        if i + columns >= len(strongest):
            panel.set_xlabel("channel of the source layer", fontsize=9)
        if i % columns == 0:
            panel.set_ylabel("weight × channels", fontsize=9)
    figure.savefig(path, dpi=120)


def sample_pictures(path: Path, dataset: Dataset, count: int = 20) -> None:
    """Draws the first images of a data set with their classes.

    Args:
      path: the picture to write.
      dataset: the images.
      count: how many.
    """
    figure = Figure(figsize=(8, 1.15 * -(-count // 10)), layout="constrained")
    for axes, image, label in zip(
        figure.subplots(-(-count // 10), 10).flat, dataset.images, dataset.labels, strict=False
    ):
        axes.imshow(image)
        axes.set_title(drawn(dataset.classes[label]), fontsize=10)
        axes.set_axis_off()
    figure.savefig(path, dpi=100)
