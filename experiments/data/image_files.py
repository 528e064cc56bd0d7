"""Image files, decoded to squares of one size when they are wanted, and checked before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from . import crops, decoding

Result = TypeVar("Result")

# So many problems are told one by one.
TOLD = 10


class Store(Protocol):
    """Where encoded images are."""

    def open(self, name: Any) -> Path | BinaryIO:
        """An image's file, as Pillow opens it."""
        ...


class Folder(NamedTuple):
    """Images in a folder, by their path in it."""

    path: Path

    def open(self, name: Any) -> Path:
        """The image's file."""
        return self.path / str(name)


class ImageFiles(NamedTuple):
    """Labelled images in files, each decoded whenever it is wanted.

    Attributes:
      store: where they are.
      names: by which it knows them, ``[N]``.
      labels: int32, ``[N]``, from 0 to the number of classes minus 1.
      classes: the classes' names, in the labels' order.
      size: side in pixels that the images are brought to.
      crop_share: of the shorter side, how much the centre crop keeps.
    """

    store: Store
    names: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    size: int
    crop_share: float

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.size, self.size, 3

    @property
    def named(self) -> bool:
        """Classes of images in files always have names."""
        return True

    def take(self, indices: np.ndarray) -> ImageFiles:
        """The samples at these indices."""
        return self._replace(names=self.names[indices], labels=self.labels[indices])

    def relabelled(self, labels: np.ndarray, classes: tuple[str, ...]) -> ImageFiles:
        """The same images with other labels, of other classes."""
        return self._replace(labels=labels, classes=classes)

    def load(self, indices: np.ndarray) -> np.ndarray:
        """The images at these indices, uint8 RGB, decoded by as many threads as there are cores.

        Raises:
          ValueError: names those that cannot be read.
        """
        images, problems = self.decode(indices)
        tell(problems)
        return images

    def decode(self, indices: np.ndarray, doing: str = "") -> tuple[np.ndarray, list[str]]:
        """The images at these indices that can be read, and what is wrong with each other one."""
        images, problems = each(self.centre, indices, doing)
        return np.stack(images) if images else np.zeros((0, *self.image_shape), np.uint8), problems

    def problems(self, *, decode: bool) -> list[str]:
        """What is wrong with each image that cannot be read; see `decoding.check`."""

        def check(index: int) -> None:
            self._named(index, lambda file: decoding.check(file, decode=decode))

        return each(check, np.arange(len(self.labels)), "checking")[1]

    def centre(self, index: int) -> np.ndarray:
        """One image, scaled and cropped to the square in its centre.

        Raises:
          ValueError: it cannot be read.
        """
        return crops.centre(self._read(index), self.size, self.crop_share)

    def random_crop(self, index: int, generator: np.random.Generator) -> np.ndarray:
        """One image, cropped at random, scaled to the square, and mirrored at random.

        Raises:
          ValueError: it cannot be read.
        """
        return crops.at_random(self._read(index), self.size, generator)

    def _read(self, index: int) -> Image.Image:
        return self._named(index, decoding.read)

    def _named(self, index: int, work: Callable[[Path | BinaryIO], Result]) -> Result:
        """What comes of an image's file; a ValueError names the image."""
        file = self.store.open(self.names[index])
        try:
            return work(file)
        except ValueError as error:
            where = file if isinstance(file, Path) else f"{self.names[index]} of {self.store}"
            raise ValueError(f"{shown(str(where))}: {error}") from None


def each(
    work: Callable[[int], Result], indices: np.ndarray, doing: str
) -> tuple[list[Result], list[str]]:
    """Works on all images, by as many threads as there are cores.

    Args:
      work: on an image, by its index; raises a ValueError where it cannot be read.
      indices: the images'.
      doing: what a progress bar calls it, on a terminal; no bar if empty.

    Returns:
      The results of those that can be read, and the messages of the others.
    """

    def attempt(index: int) -> tuple[Result, None] | tuple[None, str]:
        try:
            return work(index), None
        except ValueError as error:
            return None, str(error)

    # Pillow lets go of the interpreter while it decodes and scales.
    with ThreadPoolExecutor() as threads:
        ended = tqdm(
            threads.map(attempt, indices),
            desc=doing,
            total=len(indices),
            unit="image",
            dynamic_ncols=True,
            delay=2,
            leave=False,
            disable=None if doing else True,
        )
        results, messages = [], []
        for result, message in ended:
            if message is None:
                results.append(result)
            else:
                messages.append(message)
    return results, messages


def check(parts: Sequence[Any]) -> None:
    """Decodes all images of those parts that are files; a ValueError names all that fail.

    That costs less than an epoch's decoding, a quarter with JPEGs of half a megapixel or less, and
    spares runs that end in their middle.
    """
    files = [part for part in parts if isinstance(part, ImageFiles)]
    tell([problem for part in files for problem in part.problems(decode=True)])


def tell(problems: Sequence[str]) -> None:
    """Raises a ValueError with the number of problems and the first ones, if there are any."""
    if problems:
        more = len(problems) - TOLD
        raise ValueError(
            f"{len(problems)} problem{'s' * (len(problems) > 1)} with the images: "
            + "; ".join(problems[:TOLD])
            + (f"; and {more} more" if more > 0 else "")
        )


def shown(name: str) -> str:
    """A name that may hold line ends and the like, such that it can be read and told."""
    return name if name.isprintable() else repr(name)
