"""What all training data share: batches, their order in an epoch, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import numpy as np

from l2t_jax import Batch


class TrainingData(Protocol):
    """Batches of training images, in a new random order in each epoch.

    Attributes:
      batch_size: images a batch.
      image_shape: height, width and channels of an image.
      steps: batches an epoch.
    """

    @property
    def batch_size(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def steps(self) -> int: ...

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (from 0), starting with batch ``first``.

        They are uint8 and split over the devices.
        """
        ...


def check_batch_size(batch_size: int, images: int) -> None:
    """Raises a ValueError where a batch is larger than the training data."""
    if batch_size > images:
        raise ValueError(
            f"--batch-size must be at most {images}, as there are so many training images (got "
            f"{batch_size})"
        )


def steps_per_epoch(images: int, batch_size: int) -> int:
    """How many batches hold every image at least once."""
    return -(-images // batch_size)


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, images: int, batch_size: int) -> np.ndarray:
    """Which images the batches of an epoch hold, ``[steps, batch_size]``.

    Every image comes at least once: the first images of the order fill up the last batch. The order
    depends on the arguments alone, so a run can start at any epoch.
    """
    permutation = np.random.default_rng([seed, epoch]).permutation(images).astype(np.int32)
    return np.resize(permutation, (steps_per_epoch(images, batch_size), batch_size))
