"""Training images in files. Worker processes decode and augment them ahead of the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from l2t_jax import Batch

from ..system.devices import Devices
from .batches import check_batch_size, epoch_order, steps_per_epoch
from .image_files import ImageFiles

# How many batches every worker holds ready.
AHEAD = 2


class Batches:
    """The batches of all epochs by number, for Grain. A process decodes only its own rows."""

    def __init__(
        self,
        files: ImageFiles,
        rows: np.ndarray,
        batch_size: int,
        seed: int,
        *,
        epochs: int,
        augment: bool,
    ) -> None:
        """Prepares the numbering; decodes nothing yet.

        Args:
          files: the images.
          rows: positions in a batch that this process decodes.
          batch_size: images in a whole batch.
          seed: of the order and of the augmentation.
          epochs: passes over the images.
          augment: whether images are cropped and mirrored at random; else their centre is used.
        """
        self.files, self.rows, self.batch_size = files, rows, batch_size
        self.seed, self.augment = seed, augment
        self.steps = steps_per_epoch(len(files.labels), batch_size)
        self.epochs = epochs

    def __len__(self) -> int:
        return self.epochs * self.steps

    def __getitem__(self, number: Any) -> dict[str, np.ndarray]:
        epoch, step = divmod(int(number), self.steps)
        order = epoch_order(self.seed, epoch, len(self.files.labels), self.batch_size)
        indices = order[step, self.rows]
        places = step * self.batch_size + self.rows
        images = [self._image(i, epoch, place) for i, place in zip(indices, places, strict=True)]
        return {"images": np.stack(images), "labels": self.files.labels[indices]}

    def _image(self, index: int, epoch: int, place: int) -> np.ndarray:
        if not self.augment:
            return self.files.centre(index)
        # Every place in an epoch has its own random numbers, whichever process decodes it. The last
        # number is at least 1, because [seed, epoch, 0] gives the numbers of [seed, epoch], which
        # the order uses.
        return self.files.random_crop(
            index, np.random.default_rng([self.seed, epoch, int(place) + 1])
        )


class FromFiles:
    """Training images that Grain's workers decode a few batches ahead."""

    def __init__(
        self,
        files: ImageFiles,
        devices: Devices,
        batch_size: int,
        seed: int,
        *,
        epochs: int,
        augment: bool,
        workers: int,
    ) -> None:
        """Starts no worker. `epoch` starts them, and `close` ends them.

        Args:
          files: the images.
          devices: the devices that train.
          batch_size: images a batch, over all processes of the run.
          seed: of the order and of the augmentation.
          epochs: the most passes over the images.
          augment: whether images are cropped and mirrored at random.
          workers: number of processes that decode; with 0 a thread of this process does.

        Raises:
          ValueError: the batch is larger than the training data.
        """
        check_batch_size(batch_size, len(files.labels))
        rows = devices.rows(batch_size)
        source = Batches(files, rows, batch_size, seed, epochs=epochs, augment=augment)
        self.batch_size, self.image_shape, self.steps = batch_size, files.image_shape, source.steps
        self._batches = grain.MapDataset.source(source)
        self._devices, self._workers = devices, workers
        self._iterator: Any = None
        self._next = 0  # number of the iterator's next batch

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (from 0), starting with batch ``first``; see `TrainingData`.

        The workers continue with the next epoch by themselves. Any other epoch starts them anew.
        """
        begin = number * self.steps + first
        if self._iterator is None or self._next != begin:
            self.close()
            self._iterator, self._next = self._start(begin), begin
        for _ in range(first, self.steps):
            batch = next(self._iterator)
            self._next += 1
            yield Batch(
                self._devices.batch(batch["images"], self.batch_size),
                self._devices.batch(batch["labels"], self.batch_size),
            )

    def close(self) -> None:
        """Ends the workers."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _start(self, begin: int) -> Any:
        reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
        dataset = self._batches[begin:].to_iter_dataset(reading)
        if self._workers:
            # Grain reads absl's flags, which only a program started by absl parses.
            flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(self._workers, per_worker_buffer_size=AHEAD)
            )
        return iter(dataset)
