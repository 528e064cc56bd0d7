"""From options to data: what a run trains, validates and tests on."""

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

# Without --loader, training images up to this many decoded bytes are held on the device.
MEMORY = 2 * 1024**3


def load_splits(options: RunOptions) -> Splits:
    """Reads the data and divides them as the options say.

    Returns:
      The three parts. Images in files stay there if workers decode the training part; all others
      are in memory. Every image has been decoded once, so an unreadable one cannot end the run
      later.

    Raises:
      ValueError: the data have the wrong form or do not fit the options, or images cannot be read;
        the message names all of these.
      OSError: the data cannot be read.
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
    """The three parts with as many images as the options ask for. No file is decoded."""
    return _taken(whole_parts(options), options)


def _taken(whole: Splits, options: RunOptions) -> Splits:
    """The parts with as many training images as the options ask for, checked."""
    train = whole.train
    class_names.check_every_class(train, f"--data {options.data}")
    if options.per_class is not None:
        train = splits.per_class(train, options.per_class, options.seed)
    taken = whole._replace(train=train)
    splits.check_not_empty(taken)
    if options.takes_steps:
        check_batch_size(options.batch_size, len(train.labels))
    return taken


def whole_parts(options: RunOptions) -> Splits:
    """The three parts before `--per-class` applies."""
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
    """Raises a ValueError unless images have this shape.

    Args:
      images: the images.
      shape: height, width and channels.
      source: what a message calls the images.
      owner: what a message calls the owner of the shape.
    """
    if images.image_shape != shape:
        wanted, got = ("x".join(map(str, each)) for each in (shape, images.image_shape))
        raise ValueError(
            f"the images of {source} must be {wanted}, as those of {owner} (got {got})"
        )


def to_evaluate(
    source: str, data_dir: Path, size: int, crop_share: float | None
) -> Dataset | ImageFiles:
    """Images to evaluate on: of a public set the official test part, of other data all.

    Args:
      source: data as for ``--data``.
      data_dir: the folder that holds public sets.
      size: side in pixels that the digits and images in files are scaled to.
      crop_share: how much of a file image's shorter side the centre crop keeps; None for the
        default, see `crops.share_for`.

    Returns:
      The images.

    Raises:
      ValueError: the data have the wrong form.
      OSError: the data cannot be read.
    """
    if public_sets.is_public(source):
        images = public_sets.read(source, data_dir, size, crop_share)[1]
    else:
        images = load.load(source, size, crop_share)
    check([images])
    return images


def by_workers(options: RunOptions, images: int, *, in_files: bool) -> bool:
    """Whether workers decode the training images.

    Args:
      options: the run's options.
      images: number of training images.
      in_files: whether they are in files.
    """
    asked = options.loader == "workers" or options.augment == "resized-crop"
    if not in_files:
        if asked:
            option = "--loader workers" if options.loader == "workers" else "--augment resized-crop"
            raise ValueError(
                f"{option} needs images in files (got --data {options.data}); give a folder of "
                "images"
            )
        return False
    if asked or options.loader == "memory" or options.augment == "crop-flip":
        return asked
    return options.image_size >= crops.LARGE or images * 3 * options.image_size**2 > MEMORY


def seeds(seed: int, number: int) -> list[int]:
    """Seeds for several independent orders of the training images. The first is ``seed``."""
    others = np.random.SeedSequence(seed).generate_state(number - 1)
    return [seed, *map(int, others)]


@contextlib.contextmanager
def training_data(
    options: RunOptions,
    train: Dataset | ImageFiles,
    devices: Devices,
    seed: int,
    *,
    batch_size: int | None = None,
    epochs: int | None = None,
) -> Iterator[TrainingData]:
    """Images as batches, in the order of a seed. On exit all workers end.

    Args:
      options: the run's options; they say how images are augmented, and by whom.
      train: the images.
      devices: the devices that train.
      seed: of the order and of the augmentation.
      batch_size: images a batch; that of the options if None.
      epochs: the most passes over the images; those of the options if None.
    """
    batch_size = options.batch_size if batch_size is None else batch_size
    if isinstance(train, Dataset):
        augment = options.augment == "crop-flip" or (
            # A mirrored digit is another sign.
            options.augment == "auto" and options.data != "digits"
        )
        yield InMemory(train, devices, batch_size, seed, augment=augment)
        return
    from ..data.workers import FromFiles  # only this needs Grain

    feed = FromFiles(
        train,
        devices,
        batch_size,
        seed,
        epochs=options.epochs if epochs is None else epochs,
        augment=options.augment != "none",
        workers=options.workers,
    )
    with contextlib.closing(feed):
        yield feed
