"""Pictures of what was transferred where."""

import numpy as np
import pytest

from experiments.reporting.transfer_plots import spread


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_names_are_moved_apart_and_keep_their_order(count):
    rng = np.random.default_rng(count)
    for values in (rng.uniform(0, 6, count), np.zeros(count), np.full(count, 6.0)):
        moved = spread(values, 0.3, 0.0, 6.0)
        gap = min(0.3, 6.0 / count)
        ordered = moved[np.argsort(values, kind="stable")]
        assert np.all(np.diff(ordered) > gap - 1e-9)
        assert moved.min() >= -1e-9
        assert moved.max() <= 6 + 1e-9


def test_names_that_do_not_overlap_stay_where_they_are():
    values = np.array([5.0, 1.0, 3.0])
    np.testing.assert_allclose(spread(values, 0.3, 0.0, 6.0), values)
