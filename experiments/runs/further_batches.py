"""The images of a step's further batches: those of the outer loss, and those without labels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from ..data import digests, image_files, load, splits, unlabelled
from ..data.batches import Repeated, TrainingData, check_batch_size
from ..data.dataset import Dataset
from ..data.image_files import ImageFiles
from ..options.run_options import RunOptions
from ..options.train_options import Config
from ..system.devices import Devices
from . import division, inputs


class Further(NamedTuple):
    """The images of one further batch.

    Attributes:
      images: the images.
      batch_size: how many of them a step has.
    """

    images: Dataset | ImageFiles
    batch_size: int


# By the name that `experiments.training.jitted.Compiled.step` has for the batch. The place in this
# list decides the seed of its order.
NAMES = ("outer_batch", "unlabelled")


def take(
    config: Config, parts: inputs.Splits, devices: Devices
) -> tuple[inputs.Splits, dict[str, Further]]:
    """Takes or reads the images of the further batches that a run's options ask for.

    Args:
      config: the run's options.
      parts: the run's data.
      devices: its devices.

    Returns:
      The data, of which the training images may be fewer now, and the images of each batch.

    Raises:
      ValueError: the images cannot be read, do not fit the training images, or are too few.
      OSError: the images cannot be read.
    """
    found: dict[str, Further] = {}
    if config.entry().learns and config.outer_batch != "same":
        outer: Dataset | ImageFiles = parts.train
        if config.outer_batch == "validation":
            outer = parts.validation
        elif config.outer_batch == "held-out":
            train, outer = splits.hold_out(parts.train, config.outer_fraction, config.seed)
            check_batch_size(config.batch_size, len(train.labels), kind="remaining training")
            parts = parts._replace(train=train)
        kind = {"other": "training"}.get(config.outer_batch, config.outer_batch)
        asked = "--outer-batch-size", config.outer_batch_size
        found["outer_batch"] = _sized(outer, asked, kind, config.batch_size, devices)
    if config.unlabelled is not None:
        images = unlabelled.load(
            config.unlabelled, config.data_dir, config.image_size, config.crop_share
        )
        shape, called = parts.train.image_shape, f"--unlabelled {config.unlabelled}"
        division.check_shape(images, shape, called, "the training part")
        if config.augment == "resized-crop" and not isinstance(images, ImageFiles):
            raise ValueError(
                f"--augment resized-crop needs images in files (got {called}); give a folder of "
                "images, or another --augment"
            )
        if isinstance(images, ImageFiles):
            if isinstance(parts.train, Dataset):
                (images,) = load.in_memory(images)
            else:
                image_files.check([images])
        asked = "--unlabelled-batch-size", config.unlabelled_batch_size
        found["unlabelled"] = _sized(images, asked, "unlabelled", config.batch_size, devices)
    return parts, found


def recorded(further: dict[str, Further]) -> dict[str, str]:
    """What a run's config.json has about them: a digest of the images without labels."""
    if "unlabelled" not in further:
        return {}
    return {"unlabelled_sha256": digests.of_images([further["unlabelled"].images])}


@contextlib.contextmanager
def feeds(
    config: RunOptions, further: dict[str, Further], devices: Devices, steps: int
) -> Iterator[dict[str, TrainingData]]:
    """The batches, with as many steps an epoch as the training has. On exit all workers end."""
    with contextlib.ExitStack() as stack:
        found: dict[str, TrainingData] = {}
        seeds = inputs.seeds(config.seed, 1 + len(NAMES))[1:]
        for name, seed in zip(NAMES, seeds, strict=True):
            if name not in further:
                continue
            images, size = further[name]
            epochs = config.epochs * steps // max(len(images.labels) // size, 1) + 2
            feed = stack.enter_context(
                inputs.training_data(config, images, devices, seed, batch_size=size, epochs=epochs)
            )
            found[name] = Repeated(feed, steps)
        yield found


def _sized(
    images: Dataset | ImageFiles,
    asked: tuple[str, int | None],
    kind: str,
    batch_size: int,
    devices: Devices,
) -> Further:
    """The images with the batch size that was asked for, or else with that of the training.

    Where there are fewer images than that, the batch has as many of them as the devices can divide.

    Raises:
      ValueError: there are too few images, or the devices cannot divide the batch.
    """
    option, size = asked
    count = len(images.labels)
    if size is None:
        size = min(batch_size, max(count // devices.number, 1) * devices.number)
    check_batch_size(size, count, option, kind)
    devices.check_batch_size(size, option)
    return Further(images, size)
