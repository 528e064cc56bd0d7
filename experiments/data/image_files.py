"""Image files, checked at the start and decoded to squares of one size at use."""

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

# A message lists at most this many problems.
TOLD = 10


class Store(Protocol):
    """A place that holds encoded images."""

    def open(self, name: Any) -> Path | BinaryIO:
        """An image's file, for Pillow to open."""
        ...


class Folder(NamedTuple):
    """Images in a folder, by their relative path."""

    path: Path

    def open(self, name: Any) -> Path:
        """The image's file."""
        return self.path / str(name)


class ImageFiles(NamedTuple):
    """Labelled images in files. An image is decoded at each use.

    Attributes:
      store: the place that holds them.
      names: their names in the store, ``[N]``.
      labels: int32, ``[N]``, from 0 to the number of classes minus 1.
      classes: the classes' names, in the labels' order.
      size: side in pixels that images are scaled to.
      crop_share: how much of the shorter side the centre crop keeps.
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
        """The images at these indices, uint8 RGB, decoded by one thread a core.

        Raises:
          ValueError: images cannot be read; the message names them.
        """
        images, problems = self.decode(indices)
        tell(problems)
        return images

    def decode(self, indices: np.ndarray, doing: str = "") -> tuple[np.ndarray, list[str]]:
        """The readable images at these indices, and a message for each unreadable one.

        Args:
          indices: of the images.
          doing: the progress bar's label; see `each`.
        """
        images, problems = each(self.centre, indices, doing)
        return np.stack(images) if images else np.zeros((0, *self.image_shape), np.uint8), problems

    def problems(self, *, decode: bool) -> list[str]:
        """A message for each unreadable image; see `decoding.check`."""
        return self._checked(decode)[1]

    def readable(self) -> tuple[ImageFiles, list[str]]:
        """The images that can be read, and a message for each of the others."""
        good, problems = self._checked(decode=True)
        return self.take(np.array(good, int)), problems

    def _checked(self, decode: bool) -> tuple[list[int], list[str]]:
        def check(index: int) -> int:
            self._named(index, lambda file: decoding.check(file, decode=decode))
            return index

        return each(check, np.arange(len(self.labels)), "checking")

    def centre(self, index: int) -> np.ndarray:
        """One image, cropped to the square in its centre and scaled.

        Raises:
          ValueError: the image cannot be read.
        """
        return crops.centre(self._read(index), self.size, self.crop_share)

    def random_crop(self, index: int, generator: np.random.Generator) -> np.ndarray:
        """One image, cropped at random, scaled to a square, and mirrored half of the time.

        Raises:
          ValueError: the image cannot be read.
        """
        return crops.at_random(self._read(index), self.size, generator)

    def _read(self, index: int) -> Image.Image:
        return self._named(index, decoding.read)

    def _named(self, index: int, work: Callable[[Path | BinaryIO], Result]) -> Result:
        """The result of work on an image's file. A ValueError names the image."""
        file = self.store.open(self.names[index])
        try:
            return work(file)
        except ValueError as error:
            where = file if isinstance(file, Path) else f"{self.names[index]} of {self.store}"
            raise ValueError(f"{shown(str(where))}: {error}") from None


def each(
    work: Callable[[int], Result], indices: np.ndarray, doing: str
) -> tuple[list[Result], list[str]]:
    """Works on all images, with one thread a core.

    Args:
      work: takes an image's index; raises a ValueError if the image cannot be read.
      indices: of the images.
      doing: the progress bar's label; no bar if empty. A bar appears only on a terminal.

    Returns:
      The results of the readable images, and the messages of the others.
    """

    def attempt(index: int) -> tuple[Result, None] | tuple[None, str]:
        try:
            return work(index), None
        except ValueError as error:
            return None, str(error)

    # Pillow releases the interpreter's lock while it decodes and scales.
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


def paths(images: ImageFiles) -> list[str]:
    """Where the images are: the paths of those in a folder, the names of others in their store."""
    return [
        str(images.store.open(name)) if isinstance(images.store, Folder) else str(name)
        for name in images.names
    ]


def check(parts: Sequence[Any]) -> None:
    """Decodes all images in files. A ValueError names all that fail.

    So an unreadable image ends a run at its start and not later. The check costs less than the
    decoding of an epoch: a quarter with JPEGs of half a megapixel or less.
    """
    files = [part for part in parts if isinstance(part, ImageFiles)]
    tell([problem for part in files for problem in part.problems(decode=True)])


def tell(problems: Sequence[str]) -> None:
    """Raises a ValueError if there are problems. It has their number and lists the first ones."""
    if problems:
        more = len(problems) - TOLD
        raise ValueError(
            f"{len(problems)} problem{'s' * (len(problems) > 1)} with the images: "
            + "; ".join(problems[:TOLD])
            + (f"; and {more} more" if more > 0 else "")
        )


def shown(name: str) -> str:
    """A file's name for a message. Names with line ends and the like are quoted."""
    return name if name.isprintable() else repr(name)
