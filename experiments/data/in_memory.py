"""Training images in the devices' memory, gathered and augmented there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
from jax import Array

from l2t_jax import Batch

from ..system.devices import Devices
from .batches import check_batch_size, epoch_order, steps_per_epoch
from .dataset import Dataset
from .preprocess import pad_crop_flip


class InMemory:
    """Training images that every device holds. Batches are gathered and augmented there."""

    def __init__(
        self, data: Dataset, devices: Devices, batch_size: int, seed: int, *, augment: bool
    ) -> None:
        """Puts the images on the devices.

        Args:
          data: the images.
          devices: the devices that train.
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
        """The batches of an epoch (from 0), starting with batch ``first``; see `TrainingData`."""
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
    """Each device's share of a batch, taken from the images that the device holds."""
    images = jax.lax.with_sharding_constraint(data.images[indices], devices.split)
    if augment:
        images = pad_crop_flip(key, images)
    return jax.lax.with_sharding_constraint(Batch(images, data.labels[indices]), devices.split)
