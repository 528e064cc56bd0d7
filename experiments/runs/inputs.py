"""What a run trains and tests on, as its options say."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..data import class_names, dataset, load, public_sets
from ..data.image_files import LARGE, ImageFiles, check
from ..data.in_memory import InMemory, TrainingData, check_batch_size
from ..options.run_options import RunOptions
from ..system.devices import Devices

Splits = dataset.Splits[dataset.Dataset | ImageFiles]

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
    splits = _taken(whole, options)._replace(data_sha256=digest(whole.parts()))
    train = splits.train
    if by_workers(options, len(train.labels), in_files=isinstance(train, ImageFiles)):
        check(splits.parts())
        return splits
    train, validation, test = load.in_memory(*splits.parts())
    return splits._replace(train=train, validation=validation, test=test)


def parts_to_use(options: RunOptions) -> Splits:
    """The three parts with as many images as are wanted; images in files are not decoded."""
    return _taken(whole_parts(options), options)


def _taken(whole: Splits, options: RunOptions) -> Splits:
    """Of all data those that are wanted."""
    train = whole.train
    if len(train.classes) < 2:
        raise ValueError(f"--data {options.data} must have two classes or more (got one)")
    check_every_class(train, options.data)
    if options.per_class is not None:
        train = dataset.per_class(train, options.per_class, options.seed)
    splits = whole._replace(train=train)
    for name, part in zip(("training", "validation", "test"), splits.parts(), strict=True):
        if not len(part.labels):
            raise ValueError(
                f"the {name} part must have an image (got none); give --data more images of a class"
            )
    check_batch_size(options.batch_size, len(train.labels))
    return splits


def whole_parts(options: RunOptions) -> Splits:
    """The three parts, before a number of images a class is taken."""
    if public_sets.is_public(options.data):
        if options.test_data is not None:
            raise ValueError(
                f"--test-data must not be given with --data {options.data}, which has test images "
                f"of its own (got {options.test_data})"
            )
        return public_sets.load(
            options.data,
            options.data_dir,
            options.image_size,
            options.crop_share,
            options.val_fraction,
            options.seed,
        )
    train = load.load(options.data, options.image_size, options.crop_share)
    if options.test_data is None:
        train, test = dataset.hold_out(train, options.test_fraction, options.seed)
    else:
        test = load.load(options.test_data, options.image_size, options.crop_share)
        test_name, name = f"--test-data {options.test_data}", f"--data {options.data}"
        check_shape(test, train.image_shape, test_name, name)
        test = class_names.by_name(test, train.classes, test_name, name)
    return dataset.Splits(*dataset.hold_out(train, options.val_fraction, options.seed), test)


def check_every_class(train: dataset.Images, source: str) -> None:
    """Raises a ValueError unless there is an image of every class."""
    if not (empty := class_names.without_images(train)):
        return
    none = class_names.listed(empty)
    if train.named:
        raise ValueError(
            f"--data {source} must have an image of every class (got none of {none}); leave out "
            "the names of those classes, and number the others without gaps"
        )
    there = class_names.with_images(train)
    from_one = empty == class_names.numbers(1)
    got = f"{there[0]} to {there[-1]}" if from_one else class_names.listed(there)
    how = "subtract 1" if from_one else "number the classes anew"
    raise ValueError(
        f"the labels of --data {source} must count from 0 without gaps (got {got}: no image of "
        f"class{'es' * (len(empty) > 1)} {none}); {how}{class_names.ignored(train.labels)}"
    )


def check_shape(
    images: dataset.Images, shape: tuple[int, int, int], source: str, owner: str
) -> None:
    """Raises a ValueError unless images have the shape of those of what they are for."""
    if images.image_shape != shape:
        wanted, got = ("x".join(map(str, each)) for each in (shape, images.image_shape))
        raise ValueError(
            f"the images of {source} must be {wanted}, as those of {owner} (got {got})"
        )


def to_evaluate(
    source: str, data_dir: Path, size: int, crop_share: float | None
) -> dataset.Dataset | ImageFiles:
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
    return options.image_size >= LARGE or images * 3 * options.image_size**2 > MEMORY


def digest(parts: Iterable[dataset.Dataset | ImageFiles]) -> str:
    """SHA-256 of all images with their labels, in whatever order and whichever part they are.

    Of images in files it is their names that count.
    """
    samples = (
        hashlib.sha256(sample + f" {label}".encode()).digest()
        for part in parts
        for sample, label in zip(_contents(part), part.labels, strict=True)
    )
    return hashlib.sha256(b"".join(sorted(samples))).hexdigest()


def _contents(part: dataset.Dataset | ImageFiles) -> Iterator[bytes]:
    if isinstance(part, dataset.Dataset):
        return (image.tobytes() for image in part.images)
    return (str(name).encode() for name in part.names)


def split_digest(splits: Splits) -> str:
    """SHA-256 of the parts as they are; of images in files, of their names and labels."""
    total = hashlib.sha256()
    for part in splits.parts():
        content = part.images if isinstance(part, dataset.Dataset) else part.names
        for array in (content, part.labels):
            total.update(f"{array.dtype} {array.shape}\n".encode())
            total.update(np.ascontiguousarray(array).view(np.uint8))
    return total.hexdigest()


def seeds(seed: int, number: int) -> list[int]:
    """Seeds of so many orders of the training images that have nothing to do with each other.

    The first is the given one.
    """
    others = np.random.SeedSequence(seed).generate_state(number - 1)
    return [seed, *map(int, others)]


@contextlib.contextmanager
def training_data(
    options: RunOptions, train: dataset.Dataset | ImageFiles, devices: Devices, seed: int
) -> Iterator[TrainingData]:
    """The training images as batches, in a seed's order; at the end all workers end."""
    if isinstance(train, dataset.Dataset):
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
