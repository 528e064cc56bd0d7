"""Labelled images, and dividing them with a seed."""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np


class Images(Protocol):
    """Labelled images, in memory or in files.

    Attributes:
      labels: int32, ``[N]``, from 0 to the number of classes minus 1.
      classes: the classes' names, in the labels' order.
      named: whether the classes have names, not just the numbers of their labels.
      image_shape: height, width and channels, the same for all.
    """

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def named(self) -> bool: ...

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    def take(self, indices: np.ndarray) -> Self:
        """The samples at these indices."""
        ...

    def load(self, indices: np.ndarray) -> np.ndarray:
        """The images at these indices, uint8 RGB."""
        ...

    def relabelled(self, labels: np.ndarray, classes: tuple[str, ...]) -> Self:
        """The same samples with other labels, of other classes."""
        ...


Part = TypeVar("Part", bound=Images)


class Dataset(NamedTuple):
    """Labelled images in memory.

    Attributes:
      images: uint8 RGB, ``[N, H, W, 3]``.
      labels: int32, ``[N]``, from 0 to the number of classes minus 1.
      classes: the classes' names, in the labels' order.
      named: whether the classes have names, not just the numbers of their labels.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    named: bool = True

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    def take(self, indices: np.ndarray) -> Dataset:
        """The samples at these indices."""
        return self._replace(images=self.images[indices], labels=self.labels[indices])

    def load(self, indices: np.ndarray) -> np.ndarray:
        """The images at these indices."""
        return self.images[indices]

    def relabelled(self, labels: np.ndarray, classes: tuple[str, ...]) -> Dataset:
        """The same images with other labels, of other classes."""
        return self._replace(labels=labels, classes=classes)


class Splits(NamedTuple, Generic[Part]):
    """The three parts of an experiment's data.

    Attributes:
      train: to train on.
      validation: to choose the best epoch on.
      test: to test on.
      division: how they were divided, in words.
      data_sha256: digest of all the data that were divided, which no seed changes.
    """

    train: Part
    validation: Part
    test: Part
    division: str = "a seeded split"
    data_sha256: str = ""

    def parts(self) -> tuple[Part, Part, Part]:
        """The three."""
        return self.train, self.validation, self.test


def hold_out(data: Part, fraction: float, seed: int) -> tuple[Part, Part]:
    """Divides off a part of every class.

    Args:
      data: what to divide.
      fraction: share of each class that is held out, between 0 and 1; at least one image of each
        class that has two, and never all.
      seed: of the choice.

    Returns:
      What remains, and what is held out.
    """
    generator = np.random.default_rng(seed)
    held = np.zeros(len(data.labels), bool)
    for label in np.unique(data.labels):
        members = np.flatnonzero(data.labels == label)
        count = max(round(fraction * len(members)), 1)
        count = min(count, len(members) - 1)  # no class is held out whole
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
