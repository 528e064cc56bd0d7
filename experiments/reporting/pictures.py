"""The pictures of a report, with their captions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..options.methods import METHODS
from . import accuracy_plots, transfer_plots
from .groups import Arranged, Group
from .table import Table

Picture = tuple[str, str]


def of_accuracies(out: Path, arranged: Arranged, results: Table) -> Iterator[Picture]:
    """Draws accuracies over epochs and over images; yields each picture's name and caption."""
    for number, column in enumerate(arranged.columns, 1):
        of = [(row, arranged.groups.get((row, column.label))) for row in arranged.rows]
        # Runs with another number of epochs are in another group.
        accuracies = {row: of_all([r.val_accuracies for r in g.runs]) for row, g in of if g}
        name = f"epochs-{number}-{slug(column.label)}.png"
        classes = {group.runs[0].result["images"]["classes"] for _, group in of if group}
        chance = 1 / classes.pop() if len(classes) == 1 else None
        accuracy_plots.over_epochs(out / name, accuracies, column.label, chance)
        caption = (
            f"Validation accuracy over the epochs, {column.label}: mean over the seeds. From three "
            "seeds on, with a band of one standard deviation on each side."
        )
        yield name, caption
    for number, data in enumerate(dict.fromkeys(column.name for column in arranged.columns), 1):
        sizes = [c for c in arranged.columns if c.name == data and c.per_class is not None]
        if len(sizes) < 2:
            continue
        points = {}
        for row in arranged.rows:
            cells = [(c.per_class, results.cells.get((row, c.label))) for c in sizes]
            there = [(count, cell) for count, cell in cells if count is not None and cell]
            if there:
                points[row] = (
                    [count for count, _ in there],
                    [cell.mean for _, cell in there],
                    [cell.std or 0.0 for _, cell in there],
                )
        name = f"images-{number}-{slug(data)}.png"
        accuracy_plots.over_images(out / name, points, data)
        caption = (
            f"Test accuracy over the number of training images per class, {data}: mean and "
            "standard deviation over the seeds. The methods are shifted sideways a little."
        )
        yield name, caption


def of_transfer(out: Path, arranged: Arranged) -> Iterator[Picture]:
    """Draws the weights that methods learn; yields each picture's name and caption."""
    for number, ((row, column), group) in enumerate(arranged.groups.items(), 1):
        title = f"{row}, {column}"
        end = f"{number}-{slug(title)}.png"
        if METHODS[group.method].weighs_pairs:
            yield from _where(out, end, title, group)
        if METHODS[group.method].learns:
            yield _what(out, end, title, group)


def _where(out: Path, end: str, title: str, group: Group) -> Iterator[Picture]:
    """Draws λ over training and at its end."""
    histories = of_all([run.pair_weights for run in group.runs])
    history, epochs = histories.mean(axis=0), range(1, histories.shape[1] + 1)
    config = group.runs[0].config
    pairs, names = config["matched_pairs"], names_of(config)
    name = f"lambda-{end}"
    transfer_plots.lambda_matrices(out / name, pairs, history, epochs, title, names)
    caption = f"λ of each pair of layers over training, {title}: mean over an epoch's steps, "
    caption += f"{of_seeds(group.seeds)}."
    # The runs may end in different epochs.
    ends = np.array([run.pair_weights[-1] for run in group.runs])
    if len(ends) > 1:
        most = ends.std(axis=0, ddof=1).max()
        caption += (
            " In each run's last epoch, its standard deviation over the seeds is at most "
            f"{most:.2g}."
        )
    yield name, caption
    name = f"matching-{end}"
    moved = np.stack([history[0], ends.mean(axis=0)])
    transfer_plots.matching_diagram(out / name, pairs, moved, title, names)
    yield name, f"Which layers are matched in the last epoch, {title}: {of_seeds(group.seeds)}."


def of_all(values: Sequence[Sequence[float] | np.ndarray]) -> np.ndarray:
    """Values of each run's epochs, up to the first end of a run: --patience may end it early."""
    return np.array([each[: min(map(len, values))] for each in values])


def _what(out: Path, end: str, title: str, group: Group) -> Picture:
    """Draws the channel weights after training."""
    means = [run.weights for run in group.runs if run.weights is not None]
    by_pair = zip(*(each.channels for each in means), strict=True)
    channels = [np.mean(channels, axis=0) for channels in by_pair]
    pair_weights = np.mean([each.pair_weights for each in means], axis=0)
    names = names_of(group.runs[0].config)
    name = f"channels-{end}"
    transfer_plots.channel_weights(out / name, means[0].pairs, channels, pair_weights, title, names)
    which = "with the largest λ" if METHODS[group.method].weighs_pairs else "matched (λ is 1)"
    caption = (
        f"Channel weights of the pairs {which}, {title}: after the last epoch, mean over the "
        f"training images, {of_seeds(group.seeds)}. All would be 1 if they counted alike."
    )
    return name, caption


def names_of(config: dict[str, Any]) -> transfer_plots.Names:
    """What the pictures of a run call its layers."""
    return transfer_plots.Names(dict(enumerate(config["source_layers"])), config["target"])


def of_seeds(seeds: Sequence[int]) -> str:
    """``seed 0``, or ``mean over seeds 0, 1``."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"mean over seeds {', '.join(map(str, seeds))}"


def slug(label: str) -> str:
    """The label as part of a file's name; two labels may have the same."""
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")[:60]
