"""A table of accuracies, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..data import few_images
from .groups import Arranged, Group

Part = Literal["test", "validation"]
# The result's accuracy on a part of the images.
ACCURACY: dict[Part, str] = {"test": "test_accuracy", "validation": "val_accuracy"}


class Cell(NamedTuple):
    """Accuracies over seeds, from 0 to 1.

    Attributes:
      mean: over the seeds.
      std: sample standard deviation, with divisor ``n - 1``; None for one seed.
      seeds: the seeds.
      values: accuracy with each.
      images: number of images of a run that they are of.
      classes: number of classes.
      best: whether the spread does not separate it from the highest mean of the column.
    """

    mean: float
    std: float | None
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    images: int
    classes: int
    best: bool = False

    @property
    def error(self) -> float:
        """The standard error of one run, from the number of its images."""
        return few_images.standard_error(self.mean, self.images)

    @property
    def chance(self) -> float:
        """Accuracy of a class drawn at random for each image."""
        return 1 / self.classes

    @property
    def spread(self) -> float:
        """The standard deviation of a run, or its standard error if that is larger.

        One seed has no standard deviation, and that of two may be small by chance.
        """
        return max(self.std or 0.0, self.error)

    def text(self, plus_minus: str = "±") -> str:
        """``mean ± std (seeds)`` in per cent."""
        spread = "" if self.std is None else f" {plus_minus} {100 * self.std:.1f}"
        return f"{100 * self.mean:.1f}{spread} ({len(self.seeds)})"


class Table(NamedTuple):
    """Rows, columns and cells; a cell without runs is missing."""

    rows: list[str]
    columns: list[str]
    cells: dict[tuple[str, str], Cell]


def cell(group: Group, part: Part = "test") -> Cell:
    """Mean and spread of a group of runs, on the test or the validation images."""
    values = tuple(run.result[ACCURACY[part]] for run in group.runs)
    std = statistics.stdev(values) if len(values) > 1 else None
    counts = group.runs[0].result["images"]
    images, classes = counts[part], counts["classes"]
    return Cell(statistics.fmean(values), std, group.seeds, values, images, classes)


def tabulate(arranged: Arranged, part: Part = "test") -> Table:
    """The cells of all groups; the best of each column are marked.

    The best are the highest mean, and all that differ from it by at most the spread of the
    difference of two such runs, ``√(s₁² + s₂²)``.
    """
    cells = {place: cell(group, part) for place, group in arranged.groups.items()}
    columns = [column.label for column in arranged.columns]
    for label in columns:
        places = [place for place in cells if place[1] == label]
        highest = max((cells[place] for place in places), key=lambda cell: cell.mean)
        for place in places:
            found = cells[place]
            apart = highest.mean - found.mean > math.hypot(highest.spread, found.spread)
            cells[place] = found._replace(best=not apart)
    return Table(arranged.rows, columns, cells)


def markdown(table: Table) -> str:
    """The table in per cent; the best of each column are bold."""

    def entry(row: str, column: str) -> str:
        found = table.cells.get((row, column))
        if found is None:
            return ""
        return f"**{found.text()}**" if found.best else found.text()

    return grid(
        ["method", *table.columns],
        [[row, *(entry(row, column) for column in table.columns)] for row in table.rows],
    )


LIMITS = ("data", "test images", "classes", "chance, %", "standard error, points")


def limits(table: Table) -> list[list[str]]:
    """How small a difference each column can show, as `LIMITS`: for one run at the highest mean."""
    lines = []
    for column in table.columns:
        found = [cell for (_, of), cell in table.cells.items() if of == column]
        cell = max(found, key=lambda cell: cell.mean)
        figures = [cell.images, cell.classes, f"{100 * cell.chance:.1f}", f"{100 * cell.error:.1f}"]
        lines.append([column, *map(str, figures)])
    return lines


def in_words(limit: Sequence[str]) -> str:
    """A line of `limits` as text."""
    data, images, classes, chance, error = limit
    return (
        f"{' '.join(data.split())}: {images} test images, {classes} classes, chance {chance} %, "
        f"standard error {error} points"
    )


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column is aligned left, the others right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [[text.replace("|", "\\|") for text in row] for row in (header, rule, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines) + "\n"


def latex(table: Table) -> str:
    """The table in per cent for the package booktabs; the best of each column are bold."""

    def entry(row: str, column: str) -> str:
        found = table.cells.get((row, column))
        if found is None:
            return ""
        text = found.text("$\\pm$")
        return f"\\textbf{{{text}}}" if found.best else text

    lines = [[escape(row), *(entry(row, column) for column in table.columns)] for row in table.rows]
    header = ["method", *map(escape, table.columns)]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            *(f"% {in_words(line)}" for line in limits(table)),
            f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            "\\toprule",
            f"{' & '.join(header)} \\\\",
            "\\midrule",
            *(f"{' & '.join(line)} \\\\" for line in lines),
            "\\bottomrule",
            "\\end{tabular}\n",
        ]
    )


def escape(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    special = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def comma_separated(table: Table, validation: Table) -> str:
    """All figures with every digit, as accuracies from 0 to 1: a line for each cell.

    Args:
      table: of the test images.
      validation: the same of the validation images.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            *("method", "data", "runs", "mean", "std", "seeds", "accuracies"),
            *("test_images", "chance", "standard_error", "bold"),
            *("validation_mean", "validation_accuracies"),
        ]
    )
    for row in table.rows:
        for column in table.columns:
            found = table.cells.get((row, column))
            if found is not None:
                std = "" if found.std is None else found.std
                lists = [" ".join(map(str, each)) for each in (found.seeds, found.values)]
                limit = [found.images, found.chance, found.error, int(found.best)]
                chosen = validation.cells[row, column]
                others = [chosen.mean, " ".join(map(str, chosen.values))]
                writer.writerow(
                    [row, column, len(found.seeds), found.mean, std, *lists, *limit, *others]
                )
    return text.getvalue()
