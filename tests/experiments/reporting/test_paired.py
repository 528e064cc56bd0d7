"""Differences of methods seed by seed."""

import numpy as np
import pytest
from scipy import stats

from experiments.reporting import paired
from experiments.reporting.table import Cell, Table


def cell(values: dict[int, float]) -> Cell:
    return Cell(float(np.mean([*values.values()])), None, (*values,), (*values.values(),), 100, 10)


ONE, OTHER = {0: 0.50, 1: 0.62, 2: 0.40, 5: 0.9}, {2: 0.35, 0: 0.47, 1: 0.50, 4: 0.1}


def test_a_difference_is_that_of_the_common_seeds_as_scipy_has_it():
    found = paired.difference(cell(ONE), cell(OTHER))
    first, second = ([values[seed] for seed in (0, 1, 2)] for values in (ONE, OTHER))
    assert found.seeds == 3
    assert found.mean / found.error == pytest.approx(stats.ttest_rel(first, second).statistic)
    assert found.mean == pytest.approx(np.mean(np.subtract(first, second)))
    assert found.text() == "+6.7 ± 2.7 (3)"
    assert paired.difference(cell(ONE), cell({0: 0.5, 7: 0.5})) is None


def test_rows_are_compared_with_the_one_that_validates_best():
    rows, columns = ["a", "b", "c"], ["x", "y"]
    results = {("a", "x"): cell(ONE), ("b", "x"): cell(OTHER), ("c", "y"): cell(ONE)}
    validation = results | {("b", "x"): cell({0: 0.9})}
    text = "\n".join(
        paired.section(Table(rows, columns, results), Table(rows, columns, validation))
    )
    assert text.endswith("| a | +6.7 ± 2.7 (3) |  |\n| b | 0 |  |\n| c |  | 0 |")
    # The factors that it names are Student's.
    told = [f"{stats.t.ppf(0.975, seeds - 1):.1f}" for seeds in (2, 3, 4, 5)]
    assert f"{told[0]}, {told[1]}, {told[2]} or {told[3]} standard errors with 2, 3, 4 or 5" in text
    alone = Table(["c"], ["y"], {("c", "y"): cell(ONE)})
    assert not [*paired.section(alone, alone)]
