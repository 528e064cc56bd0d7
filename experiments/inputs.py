"""What a run trains and tests on, as its options say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from experiments import data, official
from experiments.devices import Devices
from experiments.feed import InMemory, TrainingData
from experiments.folders import LARGE, ImageFiles
from experiments.options import RunOptions

Splits = data.Splits[data.Dataset | ImageFiles]

# Up to this many bytes of decoded training images are held on the device by themselves.
MEMORY = 2 * 1024**3


def load_splits(options: RunOptions) -> Splits:
    """Reads the data and divides them as configured.

    Returns:
      The parts: the training part as image files where workers are to decode it, and all that
      comes from npz files in memory.

    Raises:
      ValueError: the data are not of the described form, or do not go with the options.
      OSError: they cannot be read.
    """
    train, validation, test, division = whole_parts(options)
    if options.per_class is not None:
        train = data.per_class(train, options.per_class, options.seed)
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if not len(part.labels):
            raise ValueError(f"no image is left for the {name} part; wanted at least one")
    if by_workers(options, len(train.labels), in_files=isinstance(train, ImageFiles)):
        return data.Splits(train, validation, test, division)
    train, validation, test = (data.in_memory(part) for part in (train, validation, test))
    return data.Splits(train, validation, test, division)


def whole_parts(options: RunOptions) -> Splits:
    """The three parts, before a number of images a class is taken."""
    if options.data in official.SETS:
        if options.test_data is not None:
            raise ValueError(
                f"--data {options.data} with --test-data came; it has test images of its own"
            )
        return official.load(
            options.data,
            options.data_dir,
            options.image_size,
            options.crop_share,
            options.val_fraction,
            options.seed,
        )
    train = data.load(options.data, options.image_size, options.crop_share)
    if options.test_data is None:
        train, test = data.hold_out(train, options.test_fraction, options.seed)
    else:
        test = data.load(options.test_data, options.image_size, options.crop_share)
        data.check_test(train, test)
    return data.Splits(*data.hold_out(train, options.val_fraction, options.seed), test)


def by_workers(options: RunOptions, images: int, *, in_files: bool) -> bool:
    """Whether workers decode the training images, of which there are so many."""
    asked = options.loader == "workers" or options.augment == "resized-crop"
    if not in_files:
        if asked:
            option = "--loader workers" if options.loader == "workers" else "--augment resized-crop"
            raise ValueError(f"{option} with --data {options.data} came; wanted a folder of images")
        return False
    if asked or options.loader == "memory" or options.augment == "crop-flip":
        return asked
    return options.image_size >= LARGE or images * 3 * options.image_size**2 > MEMORY


@contextlib.contextmanager
def training_data(
    options: RunOptions, train: data.Dataset | ImageFiles, devices: Devices
) -> Iterator[TrainingData]:
    """The training images as batches on the devices; at the end all workers end."""
    if isinstance(train, data.Dataset):
        augment = options.augment == "crop-flip" or (
            # Not digits, which mirroring changes.
            options.augment == "auto" and options.data != "digits"
        )
        yield InMemory(train, devices, options.batch_size, options.seed, augment=augment)
        return
    from experiments.stream import FromFiles  # nothing else needs Grain

    feed = FromFiles(
        train,
        devices,
        options.batch_size,
        options.seed,
        epochs=options.epochs,
        augment=options.augment != "none",
        workers=options.workers,
    )
    with contextlib.closing(feed):
        yield feed
