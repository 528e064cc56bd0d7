"""Readers of public image sets, as their official archives hold them.

Each reader takes three arguments: the unpacked archive's folder, the side in pixels that images in
files are scaled to, and how much of their shorter side the centre crop keeps (see
`crops.share_for`). It returns the training and the test part.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from . import crops
from .dataset import Dataset
from .image_files import Folder, ImageFiles


def cifar(
    root: Path,
    size: int,
    crop_share: float | None,
    *,
    train: tuple[str, ...],
    test: str,
    names: str,
    skip: int,
) -> tuple[Dataset, Dataset]:
    """CIFAR's binary version.

    A record holds ``skip`` coarse labels, the label, and a plane of 32x32 pixels for each colour.
    """
    classes = tuple((root / names).read_text(encoding="utf-8").split())
    parts = []
    for chosen in (train, (test,)):
        raw = np.concatenate([np.fromfile(root / file, np.uint8) for file in chosen])
        record = skip + 1 + 3 * 32 * 32
        if raw.size == 0 or raw.size % record:
            raise ValueError(
                f"{root}: the images must be records of {record} bytes (got {raw.size} bytes); "
                "unpack the archive again"
            )
        rows = raw.reshape(-1, record)
        images = rows[:, skip + 1 :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        parts.append(labelled(root, images, rows[:, skip].astype(np.int32), classes))
    return parts[0], parts[1]


def stl10(root: Path, size: int, crop_share: float | None) -> tuple[Dataset, Dataset]:
    """STL-10's binary version, scaled from 96 pixels to ``size``. Its planes are column-major."""
    classes = tuple((root / "class_names.txt").read_text(encoding="utf-8").split())
    parts = []
    for part in ("train", "test"):
        raw = np.fromfile(root / f"{part}_X.bin", np.uint8)
        labels = np.fromfile(root / f"{part}_y.bin", np.uint8).astype(np.int32) - 1
        if raw.size != (count := len(labels) * 3 * 96 * 96):
            raise ValueError(
                f"{root}: {part}_X.bin must have {count} bytes for {len(labels)} labels (got "
                f"{raw.size}); unpack the archive again"
            )
        images = raw.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
        small = [
            np.asarray(Image.fromarray(i).resize((size, size), Image.Resampling.BILINEAR))
            for i in np.ascontiguousarray(images)
        ]
        parts.append(labelled(root, np.stack(small), labels, classes))
    return parts[0], parts[1]


def labelled(
    root: Path, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> Dataset:
    """Images in memory, with checked labels."""
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(
            f"{root}: labels must be 0 to {len(classes) - 1} (got {labels.min()} to {labels.max()})"
        )
    return Dataset(np.ascontiguousarray(images), labels, classes)


Listed = list[tuple[str, int]]


def files(
    root: Path,
    train: Listed,
    test: Listed,
    classes: list[str],
    size: int,
    crop_share: float | None,
) -> tuple[ImageFiles, ImageFiles]:
    """Images in files that two lists name, each with its label.

    Raises:
      FileNotFoundError: an image is missing, or a list is empty.
      ValueError: an image is listed twice.
    """
    names = [name for name, _ in train + test]
    missing = [name for name in names if not (root / name).is_file()]
    if not (train and test):
        raise FileNotFoundError(
            f"{root}: the lists must name training and test images (got {len(train)} and "
            f"{len(test)}); unpack the archive again"
        )
    if missing:
        raise FileNotFoundError(
            f"{root} must have all {len(names)} listed images (got {len(names) - len(missing)}; "
            f"{missing[0]} is missing); unpack the archive again"
        )
    # An image in both lists would serve to train and to test.
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"{root}: an image must be listed once, in the training and test lists together (got "
            f"{twice[0]} more often); remove the other lines"
        )
    share = crops.share_for(size, crop_share)
    first, second = (
        ImageFiles(
            Folder(root),
            np.array([name for name, _ in part]),
            np.array([label for _, label in part], np.int32),
            tuple(classes),
            size,
            share,
        )
        for part in (train, test)
    )
    return first, second


def rows(path: Path, columns: int = 1, separator: str | None = None) -> list[list[str]]:
    """The columns of each line of a list file. Empty lines are skipped.

    Args:
      path: the file.
      columns: the least number of columns. Every line must have another first column.
      separator: what separates the columns; blanks if None. With one column it has no meaning.

    Returns:
      Each line's columns.

    Raises:
      ValueError: a line has fewer columns, or the first column of another line.
      OSError: the file cannot be read.
    """
    found: dict[str, tuple[int, list[str]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not (text := line.strip()):
            continue
        row = [text] if columns == 1 else text.split(separator)
        if len(row) < columns:
            raise ValueError(f"{path}, line {number} must have {columns} columns (got {text!r})")
        if row[0] in found:
            raise ValueError(
                f"{path}, line {number} must name something new (got {row[0]}, as in line "
                f"{found[row[0]][0]}); remove one of them"
            )
        found[row[0]] = number, row
    return [row for _, row in found.values()]


def lines(path: Path) -> list[str]:
    """The lines of a list file, without empty ones. A repeated line raises a ValueError."""
    return [row[0] for row in rows(path)]


def by_folder(
    root: Path, train: list[str], test: list[str], size: int, crop_share: float | None
) -> tuple[ImageFiles, ImageFiles]:
    """Images from two lists of ``CLASS/FILE``. The sorted training classes number the labels."""
    classes = sorted({name.split("/")[0] for name in train})
    number = {name: i for i, name in enumerate(classes)}
    if unknown := {name.split("/")[0] for name in test} - set(classes):
        raise ValueError(
            f"{root}: every class of the test images must have training images (got none of "
            f"{', '.join(sorted(unknown))})"
        )
    first, second = ([(n, number[n.split("/")[0]]) for n in part] for part in (train, test))
    return files(root, first, second, classes, size, crop_share)


def mit67(root: Path, size: int, crop_share: float | None) -> tuple[ImageFiles, ImageFiles]:
    """MIT Indoor 67: ``Images/CLASS/FILE``, listed in TrainImages.txt and TestImages.txt."""
    train, test = (lines(root / f"{part}Images.txt") for part in ("Train", "Test"))
    return by_folder(root / "Images", train, test, size, crop_share)


def stanford40(root: Path, size: int, crop_share: float | None) -> tuple[ImageFiles, ImageFiles]:
    """Stanford 40: ``JPEGImages/FILE``, listed in ImageSplits/CLASS_{train,test}.txt."""
    lists = root / "ImageSplits"
    classes = sorted(p.name.removesuffix("_train.txt") for p in lists.glob("*_train.txt"))
    train, test = (
        [(f, i) for i, c in enumerate(classes) for f in lines(lists / f"{c}_{part}.txt")]
        for part in ("train", "test")
    )
    return files(root / "JPEGImages", train, test, classes, size, crop_share)


def cub200(root: Path, size: int, crop_share: float | None) -> tuple[ImageFiles, ImageFiles]:
    """CUB-200-2011: ``images/CLASS/FILE``, listed in images.txt and train_test_split.txt."""
    names = {row[0]: row[1] for row in rows(root / "images.txt", 2)}
    training = {row[0]: row[1] for row in rows(root / "train_test_split.txt", 2)}
    if unknown := names.keys() ^ training.keys():
        raise ValueError(
            f"{root}: images.txt and train_test_split.txt must list the same images (got "
            f"{len(unknown)} in one of them alone, such as number {min(unknown)})"
        )
    train, test = (
        sorted((n for i, n in names.items() if training[i] == flag), key=lambda n: n.split("/"))
        for flag in ("1", "0")
    )
    return by_folder(root / "images", train, test, size, crop_share)


def dogs(root: Path, size: int, crop_share: float | None) -> tuple[ImageFiles, ImageFiles]:
    """Stanford Dogs: ``Images/CLASS/FILE``, listed in train_list.mat and test_list.mat."""
    from scipy.io import loadmat

    train, test = (
        sorted(
            (str(row[0][0]) for row in loadmat(root / f"{part}_list.mat")["file_list"]),
            key=lambda n: n.split("/"),
        )
        for part in ("train", "test")
    )
    return by_folder(root / "Images", train, test, size, crop_share)


def tinyimagenet(root: Path, size: int, crop_share: float | None) -> tuple[ImageFiles, ImageFiles]:
    """TinyImageNet: train/WNID/images/FILE and val/images/FILE, listed in val_annotations.txt."""
    classes = sorted(lines(root / "wnids.txt"))
    number = {name: i for i, name in enumerate(classes)}
    train = [
        (f"train/{c}/images/{f.name}", i)
        for i, c in enumerate(classes)
        for f in sorted((root / "train" / c / "images").glob("*"))
    ]
    listed = rows(root / "val" / "val_annotations.txt", 2, "\t")
    if unknown := {row[1] for row in listed} - set(classes):
        raise ValueError(
            f"{root}: wnids.txt must list every class of the validation images (got also "
            f"{', '.join(sorted(unknown))})"
        )
    test = [(f"val/images/{row[0]}", number[row[1]]) for row in listed]
    return files(root, train, test, classes, size, crop_share)
