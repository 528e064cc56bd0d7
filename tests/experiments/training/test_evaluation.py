"""Classifying images batch by batch."""

import numpy as np
import pytest

from experiments.data.dataset import Dataset
from experiments.system import devices
from experiments.training import evaluation


@pytest.mark.parametrize(("side", "most"), [(32, 500), (128, 500), (224, 163), (4000, 1)])
def test_large_images_make_small_batches(side, most):
    """Of 224x224 pixels 163: the 500 of 128x128 have as many."""
    few = np.broadcast_to(np.zeros((), np.uint8), (600, side, side, 3))
    images = Dataset(few, np.zeros(600, int), ("a",))
    assert evaluation.forward_batch(images) == most
    if side < 128:
        counts = [count for _, count in evaluation.batches(devices.one_device(), images)]
        assert counts == [500, 100]
