"""Training data as the loop takes them: epochs of uint8 batches on the devices."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Protocol

import jax
import numpy as np
from jax import Array

from l2t_jax import Batch

from ..system.devices import Devices
from .dataset import Dataset
from .preprocess import pad_crop_flip


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
        """The batches of an epoch (from 0), uint8, split over the devices, from one on."""
        ...


class InMemory:
    """Training images that live on every device, and are gathered and augmented there."""

    def __init__(
        self, data: Dataset, devices: Devices, batch_size: int, seed: int, *, augment: bool
    ) -> None:
        """Puts the images on the devices.

        Args:
          data: the images.
          devices: where they are wanted.
          batch_size: images a batch.
          seed: of the order and of the augmentation.
          augment: whether images are padded, cropped and mirrored at random.

        Raises:
          ValueError: the batch is larger than the training data.
        """
        check_batch_size(batch_size, len(data.labels))
        self.batch_size = batch_size
        self.image_shape = data.image_shape
        self.steps = steps_per_epoch(len(data.labels), batch_size)
        self._data = Batch(*devices.replicate((data.images, data.labels)))
        self._devices, self._seed, self._augment = devices, seed, augment
        self._key = jax.random.split(jax.random.key(seed))[1]

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (from 0), uint8, split over the devices, from one on."""
        key = jax.random.fold_in(self._key, number)
        rows = self._devices.rows(self.batch_size)
        order = epoch_order(self._seed, number, len(self._data.labels), self.batch_size)
        for i, indices in enumerate(order[first:], first):
            yield _gather(
                self._data,
                self._devices.batch(indices[rows], self.batch_size),
                jax.random.fold_in(key, i),
                augment=self._augment,
                devices=self._devices,
            )


@partial(jax.jit, static_argnames=("augment", "devices"))
def _gather(data: Batch, indices: Array, key: Array, *, augment: bool, devices: Devices) -> Batch:
    """Each device's share of a batch, out of the images that it holds."""
    images = jax.lax.with_sharding_constraint(data.images[indices], devices.split)
    if augment:
        images = pad_crop_flip(key, images)
    return jax.lax.with_sharding_constraint(Batch(images, data.labels[indices]), devices.split)


def check_batch_size(batch_size: int, images: int) -> None:
    """Raises a ValueError where a batch is larger than the training data."""
    if batch_size > images:
        raise ValueError(
            f"a batch of {batch_size} came; wanted at most the {images} training images"
        )


def steps_per_epoch(images: int, batch_size: int) -> int:
    """How many batches hold every image at least once."""
    return -(-images // batch_size)


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, images: int, batch_size: int) -> np.ndarray:
    """Which images the batches of an epoch hold, ``[steps, batch_size]``.

    Every image comes at least once: the last batch is filled up with the first ones. The order
    depends on the arguments alone, so that any epoch can be begun with.
    """
    permutation = np.random.default_rng([seed, epoch]).permutation(images).astype(np.int32)
    return np.resize(permutation, (steps_per_epoch(images, batch_size), batch_size))
