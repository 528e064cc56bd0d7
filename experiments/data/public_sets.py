"""Public image sets by name, from unpacked official archives or TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from . import archives, tfds
from .dataset import Dataset
from .image_files import ImageFiles

# Training and test images.
Parts = tuple[Dataset | ImageFiles, Dataset | ImageFiles]


class Official(NamedTuple):
    """A public image set.

    Attributes:
      folder: the unpacked archive's folder, below the data folder.
      archive: the archive to unpack there.
      read: ``(folder, size, crop_share) -> (training part, test part)``.
      split: its name among the published index lists; None if it has none.
    """

    folder: str
    archive: str
    read: Callable[[Path, int, float | None], Parts]
    split: str | None = None


def is_public(source: str) -> bool:
    """Whether a name is that of a public set. Public sets have their own test images."""
    return source in SETS or source.startswith(tfds.PREFIX)


def read(name: str, data_dir: Path, size: int, crop_share: float | None) -> Parts:
    """The official training and test part of a public image set.

    Args:
      name: one of `SETS`; or ``tfds:`` and a name of TensorFlow Datasets, see `tfds.read`.
      data_dir: the folder that holds its unpacked archive, or the prepared set.
      size: side in pixels that images in files are scaled to.
      crop_share: how much of a file image's shorter side the centre crop keeps; None for the
        default, see `crops.share_for`.

    Returns:
      Both parts, in the official order.

    Raises:
      FileNotFoundError: the unpacked archive or a part of it is missing.
      ValueError: it does not have the official form.
    """
    if name.startswith(tfds.PREFIX):
        return tfds.read(name.removeprefix(tfds.PREFIX), data_dir, size, crop_share)
    chosen = SETS[name]
    root = data_dir / chosen.folder
    if not root.is_dir():
        raise FileNotFoundError(
            f"{name} must be unpacked in {root} (got no such folder); unpack {chosen.archive} "
            "there, or name the folder above it with --data-dir"
        )
    return chosen.read(root, size, crop_share)


def lists_of(name: str) -> str | None:
    """A set's name among the published index lists; None if it has none."""
    if name in SETS:
        return SETS[name].split
    found = tfds.PUBLISHED.get(name.removeprefix(tfds.PREFIX).partition(":")[0])
    return found.lists if found else None


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
