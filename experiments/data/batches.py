"""What all training data share: batches, their order in an epoch, and how many there are."""

from __future__ import annotations

import itertools
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


class Repeated:
    """Batches with as many in an epoch as another feed has. They run on from epoch to epoch."""

    def __init__(self, feed: TrainingData, steps: int) -> None:
        """Gives a feed's batches in its own order, ``steps`` of them an epoch."""
        self._feed, self.steps = feed, steps
        self.batch_size, self.image_shape = feed.batch_size, feed.image_shape

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (from 0), starting with batch ``first``; see `TrainingData`."""
        due = self.steps - first
        own, at = divmod(number * self.steps + first, self._feed.steps)
        while due > 0:
            for batch in itertools.islice(self._feed.epoch(own, at), due):
                due -= 1
                yield batch
            own, at = own + 1, 0


def check_batch_size(
    batch_size: int, images: int, option: str = "--batch-size", kind: str = "training"
) -> None:
    """Raises a ValueError where a batch is larger than its data."""
    if batch_size > images:
        raise ValueError(
            f"{option} must be at most {images}, as there are so many {kind} images (got "
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
