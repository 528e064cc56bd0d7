"""A table of test accuracies, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from .groups import Arranged, Group


class Cell(NamedTuple):
    """Test accuracies over seeds, from 0 to 1.

    Attributes:
      mean: over the seeds.
      std: sample standard deviation, with divisor ``n - 1``; None for one seed.
      seeds: the seeds.
      values: accuracy with each.
      best: whether no mean of the column is higher.
    """

    mean: float
    std: float | None
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    best: bool = False

    def text(self, plus_minus: str = "±") -> str:
        """``mean ± std (seeds)`` in per cent."""
        spread = "" if self.std is None else f" {plus_minus} {100 * self.std:.1f}"
        return f"{100 * self.mean:.1f}{spread} ({len(self.seeds)})"


class Table(NamedTuple):
    """Rows, columns and what stands there; a cell without runs is missing."""

    rows: list[str]
    columns: list[str]
    cells: dict[tuple[str, str], Cell]


def cell(group: Group) -> Cell:
    """Mean and spread of a group of runs."""
    values = tuple(run.accuracy for run in group.runs)
    std = statistics.stdev(values) if len(values) > 1 else None
    return Cell(statistics.fmean(values), std, group.seeds, values)


def tabulate(arranged: Arranged) -> Table:
    """The cells of all groups, the best of each column marked."""
    cells = {place: cell(group) for place, group in arranged.groups.items()}
    columns = [column.label for column in arranged.columns]
    for label in columns:
        places = [place for place in cells if place[1] == label]
        best = max(cells[place].mean for place in places)
        for place in places:
            # Means of the same figures may differ in their last digit.
            cells[place] = cells[place]._replace(best=cells[place].mean > best - 1e-12)
    return Table(arranged.rows, columns, cells)


def markdown(table: Table) -> str:
    """The table in per cent, the best of each column bold."""

    def entry(row: str, column: str) -> str:
        found = table.cells.get((row, column))
        if found is None:
            return ""
        return f"**{found.text()}**" if found.best else found.text()

    return grid(
        ["method", *table.columns],
        [[row, *(entry(row, column) for column in table.columns)] for row in table.rows],
    )


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [[text.replace("|", "\\|") for text in row] for row in (header, rule, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines) + "\n"


def latex(table: Table) -> str:
    """The table in per cent for the package booktabs, the best of each column bold."""

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
    """The text with what LaTeX reads as commands escaped."""
    special = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def comma_separated(table: Table) -> str:
    """All figures, every digit, as accuracies from 0 to 1: a line for each cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "data", "runs", "mean", "std", "seeds", "accuracies"])
    for row in table.rows:
        for column in table.columns:
            found = table.cells.get((row, column))
            if found is not None:
                std = "" if found.std is None else found.std
                lists = [" ".join(map(str, each)) for each in (found.seeds, found.values)]
                writer.writerow([row, column, len(found.seeds), found.mean, std, *lists])
    return text.getvalue()
