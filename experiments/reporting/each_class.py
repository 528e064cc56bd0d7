"""The accuracy of each class: a report's tables, and a picture of what is taken for what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import confusion, table
from .confusion import LISTED
from .groups import Arranged, Column, Group
from .pictures import Picture, of_seeds, slug


def chosen(arranged: Arranged, column: Column, validation: table.Table) -> tuple[str, Group] | None:
    """The row with the highest validation accuracy of those whose runs have counted the classes."""
    counted = {
        row: group
        for (row, label), group in arranged.groups.items()
        if label == column.label and is_counted(group)
    }
    if not counted:
        return None
    best = max(counted, key=lambda row: validation.cells[row, column.label].mean)
    return best, counted[best]


def is_counted(group: Group) -> bool:
    """Whether all runs have the same classes, and what their test images are taken for."""
    return len({run.confusion.classes if run.confusion else None for run in group.runs}) == 1 and (
        group.runs[0].confusion is not None
    )


def pictures(out: Path, arranged: Arranged, validation: table.Table) -> Iterator[Picture]:
    """Draws what is taken for what; yields each picture's name and caption."""
    for number, column in enumerate(arranged.columns, 1):
        found = chosen(arranged, column, validation)
        if found is None:
            continue
        row, group = found
        counts = [run.confusion for run in group.runs if run.confusion]
        matrix = np.sum([each.matrix for each in counts], axis=0)
        name = f"confusion-{number}-{slug(column.label)}.png"
        title = f"{row}, {column.label}"
        confusion.draw(out / name, matrix, counts[0].classes, title)
        yield (
            name,
            f"What the test images are taken for, {title}, the row with the highest validation "
            f"accuracy: counts, {of_seeds(group.seeds).replace('mean', 'sum')}.",
        )


def tables(arranged: Arranged, validation: table.Table) -> Iterator[str]:
    """A table for each column: the mean test accuracy of each class by each row."""
    found = [(column, chosen(arranged, column, validation)) for column in arranged.columns]
    shown = [(column, best) for column, best in found if best is not None]
    if not shown:
        return
    yield "## Each class"
    yield (
        "Test accuracy of each class in per cent, mean over the seeds. The classes that the row "
        f"with the highest validation accuracy knows least come first; at most {LISTED} are listed."
    )
    for column, (best, group) in shown:
        first = group.runs[0].confusion
        assert first is not None
        rows = {
            row: mean(arranged.groups[row, column.label])
            for row in arranged.rows
            if (row, column.label) in arranged.groups
            and is_counted(arranged.groups[row, column.label])
        }
        order = np.argsort(rows[best], kind="stable")
        order = order[np.isfinite(rows[best][order])][:LISTED]
        yield f"{column.label}:"
        yield table.grid(
            ["class", *rows],
            [
                [first.classes[c], *(f"{100 * each[c]:.1f}" for each in rows.values())]
                for c in order
            ],
        ).strip()


def mean(group: Group) -> np.ndarray:
    """Mean accuracy of each class over a group's runs, ``[classes]``."""
    return confusion.of_classes([run.confusion.matrix for run in group.runs if run.confusion])
