"""Dividing labelled images into training, validation and test parts."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, NamedTuple

import numpy as np

from ..system import npz
from .dataset import Part

PUBLISHED = Path(__file__).with_name("splits.npz")


class Splits(NamedTuple, Generic[Part]):
    """The three parts of an experiment's data.

    Attributes:
      train: the images to train on.
      validation: the images that choose the best epoch.
      test: the images to test on.
      division: how the data were divided, in words.
      data_sha256: digest of all data before the division; it does not depend on the seed.
      files: of images in files, the files of the three parts; None if there are none.
    """

    train: Part
    validation: Part
    test: Part
    division: str = "a seeded split"
    data_sha256: str = ""
    files: tuple[list[str], ...] | None = None

    def parts(self) -> tuple[Part, Part, Part]:
        """The three parts."""
        return self.train, self.validation, self.test


class Indices(NamedTuple):
    """Positions among the official training images (``train``, ``validation``) and test images."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def published(name: str) -> Indices:
    """The index lists that the paper used for a set. They count images in the official order."""
    lists = npz.read(PUBLISHED)
    return Indices(*(lists[f"{name}/{part}"] for part in ("train", "val", "test")))


def divide(
    train: Part, test: Part, val_fraction: float, seed: int, lists: str | None = None
) -> Splits[Part]:
    """Takes the validation part out of the training images.

    Args:
      train: the training images; of a public set in the official order.
      test: the test images; likewise.
      val_fraction: share of each class to hold out for validation, between 0 and 1. It is not used
        where the published lists are.
      seed: of the choice of the validation images.
      lists: the set's name among the published index lists; None if it has none. They are used only
        if the set has as many images as they count, which a miniature has not.

    Returns:
      The three parts, and how the data were divided.
    """
    division = "a seeded split"
    if lists is not None:
        indices = published(lists)
        counts = len(indices.train) + len(indices.validation), len(indices.test)
        if counts == (len(train.labels), len(test.labels)):
            return Splits(
                train.take(indices.train),
                train.take(indices.validation),
                test.take(indices.test),
                "the published split",
            )
        division += f": the published one is for all {counts[0]} and {counts[1]} images"
    return Splits(*hold_out(train, val_fraction, seed), test, division)


def hold_out(data: Part, fraction: float, seed: int) -> tuple[Part, Part]:
    """Holds out a part of every class.

    Args:
      data: the images to divide.
      fraction: share of each class to hold out, between 0 and 1. A class of two images or more
        gives at least one, and never all.
      seed: of the choice.

    Returns:
      The rest, and the part held out.
    """
    generator = np.random.default_rng(seed)
    held = np.zeros(len(data.labels), bool)
    for label in np.unique(data.labels):
        members = np.flatnonzero(data.labels == label)
        count = max(round(fraction * len(members)), 1)
        count = min(count, len(members) - 1)
        held[generator.permutation(members)[:count]] = True
    return data.take(np.flatnonzero(~held)), data.take(np.flatnonzero(held))


def per_class(data: Part, count: int, seed: int) -> Part:
    """Takes ``count`` images of each class.

    Raises:
      ValueError: a class has fewer.
    """
    sizes = np.bincount(data.labels, minlength=len(data.classes))
    if count < 1 or count > sizes.min():
        raise ValueError(
            f"--per-class must be 1 to {sizes.min()}, the size of the smallest class "
            f"({data.classes[int(sizes.argmin())]}) in the training part (got {count})"
        )
    generator = np.random.default_rng(seed)
    chosen = [
        generator.permutation(np.flatnonzero(data.labels == label))[:count]
        for label in range(len(data.classes))
    ]
    return data.take(np.sort(np.concatenate(chosen)))


def check_not_empty(splits: Splits[Part]) -> None:
    """Raises a ValueError where a part has no image."""
    for name, part in zip(("training", "validation", "test"), splits.parts(), strict=True):
        if not len(part.labels):
            raise ValueError(
                f"the {name} part must have an image (got none); give --data more images of a class"
            )
