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


def lists_of(name: str) -> str | None:
    """A set's name among the published index lists; None where there are none."""
    if name in SETS:
        return SETS[name].split
    wanted = tfds.PUBLISHED.get(name.removeprefix(tfds.PREFIX).partition(":")[0])
    return wanted.lists if wanted else None


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
