"""Pictures of what was transferred where."""

import numpy as np
import pytest

from experiments.data.dataset import Dataset
from experiments.reporting import accuracy_plots, transfer_plots
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


def test_any_name_can_be_drawn(tmp_path):
    """In every picture: formulas that are none, and bytes that are no text."""
    odd, pairs = "x$_$ caf\udce9", [(0, 0), (1, 1)]
    names = transfer_plots.Names({0: odd, 1: odd}, odd)
    history, weights = np.array([[1.0, 1.0], [0.5, 2.0]]), np.array([0.5, 2.0])
    channels = [np.full(4, 0.25)] * 2
    transfer_plots.lambda_matrices(tmp_path / "a.png", pairs, history, [1, 2], odd, names)
    transfer_plots.matching_diagram(tmp_path / "b.png", pairs, history, odd, names)
    transfer_plots.channel_weights(tmp_path / "c.png", pairs, channels, weights, odd, names)
    accuracy_plots.over_epochs(tmp_path / "d.png", {odd: np.ones((3, 2))}, odd, 0.1)
    accuracy_plots.over_images(tmp_path / "e.png", {odd: ([1, 2], [0.1, 0.2], [0, 0])}, odd)
    image = Dataset(np.zeros((20, 4, 4, 3), np.uint8), np.zeros(20, int), (odd,))
    transfer_plots.sample_pictures(tmp_path / "f.png", image)
    assert all((tmp_path / f"{name}.png").stat().st_size > 2000 for name in "abcdef")
