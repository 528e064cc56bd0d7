"""Folders of image files: listing and checking them, and decoding to squares of one size."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageOps

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}
# What Pillow raises for files that are no images, are cut off or damaged, or are bombs.
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
# Images from this size on are cropped as in the paper's experiments at 224 pixels.
LARGE = 128
# Share of the area, and aspect ratios, that a random resized crop draws from.
CROP_AREA, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


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

    def take(self, indices: np.ndarray) -> ImageFiles:
        """The samples at these indices."""
        return self._replace(names=self.names[indices], labels=self.labels[indices])

    def load(self, indices: np.ndarray) -> np.ndarray:
        """The images at these indices, uint8 RGB, decoded by as many threads as there are cores."""
        # Pillow lets go of the interpreter while it decodes and scales.
        with ThreadPoolExecutor() as threads:
            images = list(threads.map(self.centre, indices))
        return np.stack(images) if images else np.zeros((0, *self.image_shape), np.uint8)

    def centre(self, index: int) -> np.ndarray:
        """One image, scaled and cropped to the square in its centre.

        Raises:
          ValueError: it cannot be read.
        """
        bleed = (1 - self.crop_share) / 2
        return np.asarray(ImageOps.fit(self._read(index), (self.size,) * 2, bleed=bleed))

    def random_crop(self, index: int, generator: np.random.Generator) -> np.ndarray:
        """One image, cropped at random, scaled to the square, and mirrored at random.

        Raises:
          ValueError: it cannot be read.
        """
        image = self._read(index)
        left, top, width, height = random_box(image.size, generator)
        square = image.resize(
            (self.size,) * 2,
            Image.Resampling.BILINEAR,
            box=(left, top, left + width, top + height),
        )
        pixels = np.asarray(square)
        return pixels[:, ::-1] if generator.random() < 0.5 else pixels

    def _read(self, index: int) -> Image.Image:
        file = self.store.open(self.names[index])
        try:
            with Image.open(file) as image:
                return image.convert("RGB")
        except UNREADABLE as error:
            where = file if isinstance(file, Path) else f"{self.names[index]} of {self.store}"
            raise ValueError(f"unreadable image {where}: {error}") from None


def default_crop_share(size: int) -> float:
    """Share of the shorter side that the centre crop keeps, for images of ``size`` pixels."""
    return 224 / 256 if size >= LARGE else 1.0


def list_folder(root: Path, size: int, crop_share: float | None = None) -> ImageFiles:
    """Lists a folder of class folders, and reads the header of every image.

    Args:
      root: the folder.
      size: side in pixels that the images are to be brought to.
      crop_share: of the shorter side, how much the centre crop keeps; if None, all for small
        images, and 224 of 256 pixels for `LARGE` ones.

    Returns:
      The files.

    Raises:
      ValueError: no folder, an empty one, or files that are no images.
    """
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    if not classes:
        raise ValueError(f"{root} holds no folder; wanted one a class")
    names, labels, broken, empty = [], [], [], []
    for label, name in enumerate(classes):
        files = sorted(f for f in (root / name).iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            empty.append(name)
        for file in files:
            try:
                with Image.open(file):
                    pass
            except UNREADABLE as error:
                broken.append(f"{name}/{file.name} ({error})")
            names.append(f"{name}/{file.name}")
            labels.append(label)
    if empty:
        raise ValueError(f"{root}: no images in the class folders {', '.join(empty)}")
    if broken:
        raise ValueError(f"{root}: unreadable images: {'; '.join(broken)}")
    if crop_share is None:
        crop_share = default_crop_share(size)
    return ImageFiles(
        Folder(root), np.array(names), np.array(labels, np.int32), tuple(classes), size, crop_share
    )


def random_box(
    size: tuple[int, int], generator: np.random.Generator
) -> tuple[float, float, float, float]:
    """The part of an image that a random resized crop takes.

    Its area is a uniform share of the image's, and its aspect ratio log-uniform, see `CROP_AREA`
    and `CROP_RATIO`; draws that do not fit into the image are drawn again.

    Args:
      size: the image's width and height.
      generator: draws from it.

    Returns:
      Left edge, top edge, width and height.
    """
    width, height = size
    for _ in range(10):
        area = width * height * generator.uniform(*CROP_AREA)
        ratio = np.exp(generator.uniform(*np.log(CROP_RATIO)))
        across, down = np.sqrt(area * ratio), np.sqrt(area / ratio)
        if across <= width and down <= height:
            left, top = generator.uniform(0, width - across), generator.uniform(0, height - down)
            return left, top, across, down
    # Very long images: the centre, as far as the ratios allow.
    across = min(width, height * CROP_RATIO[1])
    down = min(height, width / CROP_RATIO[0])
    return (width - across) / 2, (height - down) / 2, across, down
