"""What a run trains and tests on, as its options say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from experiments import data
from experiments.config import Config
from experiments.devices import Devices
from experiments.feed import InMemory, TrainingData
from experiments.folders import LARGE, ImageFiles

Splits = data.Splits[data.Dataset | ImageFiles]

# Up to this many bytes of decoded training images are held on the device by themselves.
MEMORY = 2 * 1024**3


def load_splits(config: Config) -> Splits:
    """Reads the data and divides them as configured.

    Returns:
      The parts: the training part as image files where workers are to decode it, and all that
      comes from npz files in memory.

    Raises:
      ValueError: the data are not of the described form, or do not go with the options.
      OSError: they cannot be read.
    """
    train = data.load(config.data, config.image_size, config.crop_share)
    if config.test_data is None:
        train, test = data.hold_out(train, config.test_fraction, config.seed)
    else:
        test = data.load(config.test_data, config.image_size, config.crop_share)
        data.check_test(train, test)
    train, validation = data.hold_out(train, config.val_fraction, config.seed)
    if config.per_class is not None:
        train = data.per_class(train, config.per_class, config.seed)
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if not len(part.labels):
            raise ValueError(f"no image is left for the {name} part; wanted at least one")
    if by_workers(config, len(train.labels)):
        return data.Splits(train, validation, test)
    return data.Splits(*(data.in_memory(part) for part in (train, validation, test)))


def by_workers(config: Config, images: int) -> bool:
    """Whether workers decode the training images, of which there are so many."""
    asked = config.loader == "workers" or config.augment == "resized-crop"
    if not Path(config.data).is_dir():
        if asked:
            option = "--loader workers" if config.loader == "workers" else "--augment resized-crop"
            raise ValueError(f"{option} with --data {config.data} came; wanted a folder of images")
        return False
    if asked or config.loader == "memory" or config.augment == "crop-flip":
        return asked
    return config.image_size >= LARGE or images * 3 * config.image_size**2 > MEMORY


@contextlib.contextmanager
def training_data(
    config: Config, train: data.Dataset | ImageFiles, devices: Devices
) -> Iterator[TrainingData]:
    """The training images as batches on the devices; at the end all workers end."""
    if isinstance(train, data.Dataset):
        augment = config.augment == "crop-flip" or (
            # Not digits, which mirroring changes.
            config.augment == "auto" and config.data != "digits"
        )
        yield InMemory(train, devices, config.batch_size, config.seed, augment=augment)
        return
    from experiments.stream import FromFiles  # nothing else needs Grain

    feed = FromFiles(
        train,
        devices,
        config.batch_size,
        config.seed,
        epochs=config.epochs,
        augment=config.augment != "none",
        workers=config.workers,
    )
    with contextlib.closing(feed):
        yield feed
