"""Readers of public image sets in the form of their official archives.

Each takes the unpacked archive's folder, the side in pixels that images in files are brought to,
and of their shorter side how much the centre crop keeps; it gives the training and the test part.
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
    """CIFAR's binary version: a record is ``skip`` coarse labels, the label, and planes."""
    classes = tuple((root / names).read_text(encoding="utf-8").split())
    parts = []
    for chosen in (train, (test,)):
        raw = np.concatenate([np.fromfile(root / file, np.uint8) for file in chosen])
        record = skip + 1 + 3 * 32 * 32
        if raw.size == 0 or raw.size % record:
            raise ValueError(f"{root}: {raw.size} bytes came; wanted a multiple of {record}")
        rows = raw.reshape(-1, record)
        images = rows[:, skip + 1 :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        parts.append(labelled(root, images, rows[:, skip].astype(np.int32), classes))
    return parts[0], parts[1]


def stl10(root: Path, size: int, crop_share: float | None) -> tuple[Dataset, Dataset]:
    """STL-10's binary version, brought from 96 pixels to ``size``; planes are column-major."""
    classes = tuple((root / "class_names.txt").read_text(encoding="utf-8").split())
    parts = []
    for part in ("train", "test"):
        raw = np.fromfile(root / f"{part}_X.bin", np.uint8)
        labels = np.fromfile(root / f"{part}_y.bin", np.uint8).astype(np.int32) - 1
        if raw.size != len(labels) * 3 * 96 * 96:
            raise ValueError(
                f"{root}: {raw.size} bytes of {part} images for {len(labels)} labels came; "
                f"wanted {len(labels) * 3 * 96 * 96}"
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
    """Images in memory, whose labels are checked."""
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
    """Images in files that two lists name, each with its label; all are there, and listed once."""
    names = [name for name, _ in train + test]
    missing = [name for name in names if not (root / name).is_file()]
    if missing or not (train and test):
        raise FileNotFoundError(
            f"{root}: {len(missing)} of {len(names)} listed images are missing"
            + (f", such as {missing[0]}" if missing else "; wanted at least one for each part")
        )
    # An image in both lists would be trained and tested on.
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"{root}: {twice[0]} is listed more than once, in training and test lists together; "
            "wanted every image once"
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
    """The lines of a list file that are not empty, divided into columns.

    Args:
      path: the file.
      columns: how many a line has at least; no two lines have the same first one.
      separator: between columns, blanks if None; with one column it has no meaning.

    Returns:
      Each line's columns.

    Raises:
      ValueError: a line with fewer columns, or one that says again what another has said.
      OSError: the file cannot be read.
    """
    found: dict[str, tuple[int, list[str]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not (text := line.strip()):
            continue
        row = [text] if columns == 1 else text.split(separator)
        if len(row) < columns:
            raise ValueError(f"{path}, line {number}: {text!r} came; wanted {columns} columns")
        if row[0] in found:
            raise ValueError(
                f"{path}, line {number}: {row[0]} came, as in line {found[row[0]][0]}; wanted it "
                "once"
            )
        found[row[0]] = number, row
    return [row for _, row in found.values()]


def lines(path: Path) -> list[str]:
    """The lines of a list file that are not empty; a ValueError where one comes twice."""
    return [row[0] for row in rows(path)]


def by_folder(
    root: Path, train: list[str], test: list[str], size: int, crop_share: float | None
) -> tuple[ImageFiles, ImageFiles]:
    """Two lists of ``CLASS/FILE``; both count the classes of the training part, sorted."""
    classes = sorted({name.split("/")[0] for name in train})
    number = {name: i for i, name in enumerate(classes)}
    if unknown := {name.split("/")[0] for name in test} - set(classes):
        raise ValueError(f"{root}: test images of classes without training images: {unknown}")
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
            f"{root}: images.txt and train_test_split.txt differ in {len(unknown)} images, such as "
            f"number {min(unknown)}"
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
        raise ValueError(f"{root}: validation images of classes not in wnids.txt: {unknown}")
    test = [(f"val/images/{row[0]}", number[row[1]]) for row in listed]
    return files(root, train, test, classes, size, crop_share)
