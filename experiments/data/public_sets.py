"""Public image sets by name, from the unpacked official archives or TensorFlow Datasets, with the
paper's splits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..system import npz
from . import archives, tfds
from .dataset import Dataset, Splits, hold_out
from .image_files import ImageFiles

# Training and test images.
Parts = tuple[Dataset | ImageFiles, Dataset | ImageFiles]
PUBLISHED = Path(__file__).with_name("splits.npz")


class Official(NamedTuple):
    """A public image set.

    Attributes:
      folder: its unpacked archive's place below the data folder.
      archive: what has to be unpacked there.
      read: ``(folder, size, crop_share) -> (training part, test part)``.
      split: its name among the published index lists; None where there are none.
    """

    folder: str
    archive: str
    read: Callable[[Path, int, float | None], Parts]
    split: str | None = None


def is_public(source: str) -> bool:
    """Whether data of that name are a public set, which has test images of its own."""
    return source in SETS or source.startswith(tfds.PREFIX)


def read(name: str, data_dir: Path, size: int, crop_share: float | None) -> Parts:
    """The official training and test part of a public image set.

    Args:
      name: one of `SETS`; or ``tfds:`` and a name of TensorFlow Datasets, see `tfds.read`.
      data_dir: the folder that holds its unpacked archive, or what is prepared.
      size: side in pixels that images in files are brought to.
      crop_share: of the shorter side of images in files, how much the centre crop keeps.

    Returns:
      Both, in the official order.

    Raises:
      FileNotFoundError: the unpacked archive or a part of it is missing.
      ValueError: it is not of the official form.
    """
    if name.startswith(tfds.PREFIX):
        return tfds.read(name.removeprefix(tfds.PREFIX), data_dir, size, crop_share)
    wanted = SETS[name]
    root = data_dir / wanted.folder
    if not root.is_dir():
        raise FileNotFoundError(
            f"{name} came, and no folder {root}; wanted {wanted.archive} unpacked there "
            "(--data-dir names the folder above it)"
        )
    return wanted.read(root, size, crop_share)


def load(
    name: str,
    data_dir: Path,
    size: int,
    crop_share: float | None,
    val_fraction: float,
    seed: int,
) -> Splits:
    """Reads a public image set and divides it as the paper does, where it is whole.

    Args:
      name, data_dir, size, crop_share: as for `read`.
      val_fraction: share of each class held out for validation where no split is published, or
        where the set is not of the published one's size, such as a miniature.
      seed: of that split.

    Returns:
      The parts, which say how they were divided.

    Raises:
      FileNotFoundError, ValueError: as for `read`.
    """
    train, test = read(name, data_dir, size, crop_share)
    split = lists_of(name)
    if split is None:
        return Splits(*hold_out(train, val_fraction, seed), test)
    lists = published(split)
    counts = len(lists.train) + len(lists.validation), len(lists.test)
    if counts != (len(train.labels), len(test.labels)):
        return Splits(
            *hold_out(train, val_fraction, seed),
            test,
            f"a seeded split: the published one is for all {counts[0]} and {counts[1]} images",
        )
    return Splits(
        train.take(lists.train),
        train.take(lists.validation),
        test.take(lists.test),
        "the published split",
    )


def lists_of(name: str) -> str | None:
    """A set's name among the published index lists; None where there are none."""
    if name in SETS:
        return SETS[name].split
    wanted = tfds.PUBLISHED.get(name.removeprefix(tfds.PREFIX).partition(":")[0])
    return wanted.lists if wanted else None


class Indices(NamedTuple):
    """Positions among the official training images (``train``, ``validation``) and test images."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def published(name: str) -> Indices:
    """The index lists that the paper used for a set, which count in the official order."""
    lists = npz.read(PUBLISHED)
    return Indices(*(lists[f"{name}/{part}"] for part in ("train", "val", "test")))


SETS: dict[str, Official] = {
    "cifar10": Official(
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        partial(
            archives.cifar,
            train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            test="test_batch.bin",
            names="batches.meta.txt",
            skip=0,
        ),
    ),
    "cifar100": Official(
        "cifar-100-binary",
        "cifar-100-binary.tar.gz",
        partial(
            archives.cifar,
            train=("train.bin",),
            test="test.bin",
            names="fine_label_names.txt",
            skip=1,
        ),
        "cifar100",
    ),
    "stl10": Official("stl10_binary", "stl10_binary.tar.gz", archives.stl10, "stl10"),
    "cub200": Official("CUB_200_2011", "CUB_200_2011.tgz", archives.cub200, "cub200"),
    "dogs": Official("dogs", "images.tar and lists.tar of Stanford Dogs", archives.dogs, "dog"),
    "mit67": Official("mit67", "indoorCVPR_09.tar with its two list files", archives.mit67),
    "stanford40": Official(
        "stanford40", "JPEGImages and ImageSplits of Stanford 40", archives.stanford40
    ),
    "tinyimagenet": Official("tiny-imagenet-200", "tiny-imagenet-200.zip", archives.tinyimagenet),
}
