"""Pictures of what was transferred where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l2t_jax.matching import Pair

matplotlib.use("Agg")


def pair_matrix(pairs: Sequence[Pair], values: np.ndarray) -> tuple[np.ndarray, list, list]:
    """Pair weights as a matrix, source layers by target layers; NaN where a pair is not matched.

    Returns:
      The matrix and the source and target layers of its rows and columns.
    """
    sources, targets = sorted({m for m, _ in pairs}), sorted({n for _, n in pairs})
    matrix = np.full((len(sources), len(targets)), np.nan)
    for (m, n), value in zip(pairs, values, strict=True):
        matrix[sources.index(m), targets.index(n)] = value
    return matrix, sources, targets


def lambda_matrices(
    path: Path, pairs: Sequence[Pair], history: np.ndarray, epochs: Sequence[int], title: str
) -> None:
    """Draws the λ matrix at up to five moments of training, and every λ over the epochs.

    Args:
      path: the picture to write.
      pairs: the pairs (source layer, target layer).
      history: mean λ of each pair in each epoch, ``[epochs, pairs]``.
      epochs: the epochs' numbers.
      title: what was trained.
    """
    moments = sorted({int(i) for i in np.linspace(0, len(epochs) - 1, min(5, len(epochs)))})
    figure = Figure(figsize=(2.3 * len(moments) + 1, 5.6), layout="constrained")
    figure.suptitle(title)
    grid = figure.add_gridspec(2, len(moments), height_ratios=[1, 1.1])
    top = max(float(np.max(history)), 1e-6)
    panels = [figure.add_subplot(grid[0, i]) for i in range(len(moments))]
    for panel, moment in zip(panels, moments, strict=True):
        matrix, sources, targets = pair_matrix(pairs, history[moment])
        image = panel.imshow(matrix, vmin=0, vmax=top, cmap="viridis", aspect="auto")
        panel.set_title(f"epoch {epochs[moment]}", fontsize=9)
        panel.set_xticks(range(len(targets)), targets)
        panel.set_yticks(range(len(sources)), sources)
        panel.set_xlabel("target layer")
    panels[0].set_ylabel("source layer")
    figure.colorbar(image, ax=panels, label="mean λ")
    lines = figure.add_subplot(grid[1, :])
    _, sources, targets = pair_matrix(pairs, history[0])
    colours = matplotlib.colormaps["tab10"]
    styles = ["-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2))]
    for i, (m, n) in enumerate(pairs):
        lines.plot(
            epochs,
            history[:, i],
            color=colours(sources.index(m) % 10),
            linestyle=styles[targets.index(n) % 5],
            marker="." if len(epochs) == 1 else None,
            label=f"{m}→{n}",
        )
    lines.set(xlabel="epoch", ylabel="mean λ", ylim=(0, None))
    lines.xaxis.set_major_locator(MaxNLocator(integer=True))
    lines.legend(
        title="source→target",
        fontsize=7,
        title_fontsize=7,
        ncols=2 + len(pairs) // 16,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    figure.savefig(path, dpi=120)


def matching_diagram(path: Path, pairs: Sequence[Pair], weights: np.ndarray, title: str) -> None:
    """Draws source layers on the left, target layers on the right, line width by λ.

    Args:
      path: the picture to write.
      pairs: the pairs (source layer, target layer).
      weights: λ of each pair, ``[pairs]``.
      title: what was trained.
    """
    matrix, sources, targets = pair_matrix(pairs, weights)
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
    for x, layers, name in ((0, sources, "source"), (1, targets, "target")):
        for index, layer in enumerate(layers):
            y = height(index, len(layers))
            axes.text(
                x,
                y,
                f"{name} {layer}",
                ha="center",
                va="center",
                zorder=2,
                bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "0.4"},
            )
    axes.set(xlim=(-0.25, 1.25), ylim=(rows, 0))
    axes.set_axis_off()
    axes.set_title(f"{title}\nline width: mean λ, widest {top:.2f}", fontsize=10)
    figure.savefig(path, dpi=120)
