"""What a run trains and tests on, as its options say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..data import class_names, crops, digests, load, public_sets, splits
from ..data.batches import TrainingData, check_batch_size
from ..data.dataset import Dataset, Images
from ..data.image_files import ImageFiles, check
from ..data.in_memory import InMemory
from ..options.run_options import RunOptions
from ..system.devices import Devices

Splits = splits.Splits[Dataset | ImageFiles]

# Up to this many bytes of decoded training images are held on the device by themselves.
MEMORY = 2 * 1024**3


def load_splits(options: RunOptions) -> Splits:
    """Reads the data and divides them as configured.

    Returns:
      The parts: the training part as image files where workers are to decode it, and all that
      comes from npz files in memory. Every image has been decoded once, so that a broken one ends
      no run later.

    Raises:
      ValueError: the data are not of the described form, or do not go with the options; names all
        images that cannot be read.
      OSError: they cannot be read.
    """
    whole = whole_parts(options)
    taken = _taken(whole, options)._replace(data_sha256=digests.of_images(whole.parts()))
    train = taken.train
    if by_workers(options, len(train.labels), in_files=isinstance(train, ImageFiles)):
        check(taken.parts())
        return taken
    train, validation, test = load.in_memory(*taken.parts())
    return taken._replace(train=train, validation=validation, test=test)


def parts_to_use(options: RunOptions) -> Splits:
    """The three parts with as many images as are wanted; images in files are not decoded."""
    return _taken(whole_parts(options), options)


def _taken(whole: Splits, options: RunOptions) -> Splits:
    """As many of the images as the options ask for, checked."""
    train = whole.train
    class_names.check_every_class(train, f"--data {options.data}")
    if options.per_class is not None:
        train = splits.per_class(train, options.per_class, options.seed)
    taken = whole._replace(train=train)
    splits.check_not_empty(taken)
    check_batch_size(options.batch_size, len(train.labels))
    return taken


def whole_parts(options: RunOptions) -> Splits:
    """The three parts, before a number of images a class is taken."""
    if public_sets.is_public(options.data):
        if options.test_data is not None:
            raise ValueError(
                f"--test-data must not be given with --data {options.data}, which has test images "
                f"of its own (got {options.test_data})"
            )
        train, test = public_sets.read(
            options.data, options.data_dir, options.image_size, options.crop_share
        )
        lists = public_sets.lists_of(options.data)
        return splits.divide(train, test, options.val_fraction, options.seed, lists)
    train = load.load(options.data, options.image_size, options.crop_share)
    if options.test_data is None:
        train, test = splits.hold_out(train, options.test_fraction, options.seed)
    else:
        test = load.load(options.test_data, options.image_size, options.crop_share)
        test_name, name = f"--test-data {options.test_data}", f"--data {options.data}"
        check_shape(test, train.image_shape, test_name, name)
        test = class_names.by_name(test, train.classes, test_name, name)
    return splits.divide(train, test, options.val_fraction, options.seed)


def check_shape(images: Images, shape: tuple[int, int, int], source: str, owner: str) -> None:
    """Raises a ValueError unless images have the shape of those of what they are for."""
    if images.image_shape != shape:
        wanted, got = ("x".join(map(str, each)) for each in (shape, images.image_shape))
        raise ValueError(
            f"the images of {source} must be {wanted}, as those of {owner} (got {got})"
        )


def to_evaluate(
    source: str, data_dir: Path, size: int, crop_share: float | None
) -> Dataset | ImageFiles:
    """Images to evaluate on: all that there are, but of a public set its official test part.

    Args:
      source: of the kinds that ``--data`` takes.
      data_dir: the folder that public sets are in.
      size: side in pixels that the digits and images in files are brought to.
      crop_share: of the shorter side of images in files, how much the centre crop keeps.

    Returns:
      The images.

    Raises:
      ValueError: the data are not of the described form.
      OSError: they cannot be read.
    """
    if public_sets.is_public(source):
        images = public_sets.read(source, data_dir, size, crop_share)[1]
    else:
        images = load.load(source, size, crop_share)
    check([images])
    return images


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
    return options.image_size >= crops.LARGE or images * 3 * options.image_size**2 > MEMORY


def seeds(seed: int, number: int) -> list[int]:
    """Seeds of so many orders of the training images that have nothing to do with each other.

    The first is the given one.
    """
    others = np.random.SeedSequence(seed).generate_state(number - 1)
    return [seed, *map(int, others)]


@contextlib.contextmanager
def training_data(
    options: RunOptions, train: Dataset | ImageFiles, devices: Devices, seed: int
) -> Iterator[TrainingData]:
    """The training images as batches, in a seed's order; at the end all workers end."""
    if isinstance(train, Dataset):
        augment = options.augment == "crop-flip" or (
            # Not digits, which mirroring changes.
            options.augment == "auto" and options.data != "digits"
        )
        yield InMemory(train, devices, options.batch_size, seed, augment=augment)
        return
    from ..data.workers import FromFiles  # nothing else needs Grain

    feed = FromFiles(
        train,
        devices,
        options.batch_size,
        seed,
        epochs=options.epochs,
        augment=options.augment != "none",
        workers=options.workers,
    )
    with contextlib.closing(feed):
        yield feed
