"""Labelled images: what all kinds have in common, and those in memory."""

from __future__ import annotations

from typing import NamedTuple, Protocol, Self, TypeVar

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
        """The images at these indices, uint8 RGB ``[N, H, W, 3]``."""
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
