"""From options to data: what a run trains, validates and tests on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..data import (
    class_folders,
    class_names,
    crops,
    digests,
    image_files,
    load,
    public_sets,
    splits,
)
from ..data.batches import TrainingData, check_batch_size
from ..data.dataset import Dataset
from ..data.image_files import ImageFiles
from ..data.in_memory import InMemory
from ..options.run_options import RunOptions
from ..system.devices import Devices
from .division import Splits, whole_parts

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
    used = taken(whole, options)
    used = used._replace(data_sha256=digests.of_images(whole.parts()), files=_files(used.parts()))
    train = used.train
    if by_workers(options, len(train.labels), in_files=isinstance(train, ImageFiles)):
        image_files.check(used.parts())
        return used
    train, validation, test = load.in_memory(*used.parts())
    return used._replace(train=train, validation=validation, test=test)


def _files(parts: tuple[Dataset | ImageFiles, ...]) -> tuple[list[str], ...] | None:
    """The files of each part; None if a part's images are in memory."""
    found = [image_files.paths(part) for part in parts if isinstance(part, ImageFiles)]
    return tuple(found) if len(found) == len(parts) else None


def parts_to_use(options: RunOptions) -> Splits:
    """The three parts with as many images as the options ask for. No file is decoded."""
    return taken(whole_parts(options), options)


def taken(whole: Splits, options: RunOptions) -> Splits:
    """The parts with as many training images as the options ask for, checked."""
    train = whole.train
    class_names.check_every_class(train, f"--data {options.data}")
    if options.per_class is not None:
        train = splits.per_class(train, options.per_class, options.seed)
    used = whole._replace(train=train)
    splits.check_not_empty(used)
    if options.takes_steps:
        check_batch_size(options.batch_size, len(train.labels))
    return used


def to_evaluate(
    source: str, data_dir: Path, size: int, crop_share: float | None
) -> Dataset | ImageFiles:
    """Images to evaluate on: the test part of a public set or divided folder, of other data all.

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
        own = class_folders.parts_of(source)
        images = load.load(str(own.get("test", source)), size, crop_share)
    image_files.check([images])
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


def augmentation(options: RunOptions, train: Dataset | ImageFiles) -> str:
    """How training images are augmented: ``none``, ``crop-flip`` or ``resized-crop``."""
    if not options.takes_steps:
        return "none"
    if options.augment != "auto":
        return options.augment
    if isinstance(train, ImageFiles):
        return "resized-crop"
    # A mirrored digit is another sign.
    return "none" if options.data == "digits" else "crop-flip"


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
    augment = augmentation(options, train) != "none"
    if isinstance(train, Dataset):
        yield InMemory(train, devices, batch_size, seed, augment=augment)
        return
    from ..data.workers import FromFiles  # only this needs Grain

    feed = FromFiles(
        train,
        devices,
        batch_size,
        seed,
        epochs=options.epochs if epochs is None else epochs,
        augment=augment,
        workers=options.workers,
    )
    with contextlib.closing(feed):
        yield feed
