"""From an image file to RGB, whatever its format, its kind of pixels and its orientation."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

# By its content. Pillow knows more, some of which start another program (EPS).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# What Pillow raises for files that are no images, are cut off or damaged, or are bombs.
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
# Up to twice Image.MAX_IMAGE_PIXELS Pillow only warns. Here and not around each image: a filter
# holds for all threads.
warnings.simplefilter("error", Image.DecompressionBombWarning)

# What brings an image upright, by its orientation in EXIF.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read(file: Path | BinaryIO) -> Image.Image:
    """An image in RGB, upright; of an animation the first picture.

    Greys of 16 bits are scaled to 8; what is transparent lies on white.

    Raises:
      ValueError: says why it cannot be read.
    """
    with opened(file) as image:
        image.load()
        turn = TURNS.get(orientation(image))
        rgb = to_rgb(image)
        return rgb if turn is None else rgb.transpose(turn)


def check(file: Path | BinaryIO, *, decode: bool) -> None:
    """Raises a ValueError that says why an image cannot be read.

    Args:
      file: the image's.
      decode: whether it is decoded, which alone finds all damage; else its header is read.
    """
    with opened(file) as image:
        if decode:
            # An eighth of a JPEG's size: all of its code is read, at two thirds of the cost.
            image.draft(None, (1, 1))
            image.load()


@contextlib.contextmanager
def opened(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """An image whose header is read, and is one that `to_rgb` takes.

    Raises:
      ValueError: says why it cannot be read, also where that turns out within.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.mode in ("I", "F") and not is_16_bit(image):
                raise ValueError("greys of 32 bits, without a known white; wanted 8 or 16 bits")
            yield image
    except UNREADABLE as error:
        empty = isinstance(file, Path) and file.is_file() and not file.stat().st_size
        raise ValueError("an empty file" if empty else reason(error)) from None


def reason(error: BaseException) -> str:
    """Why an image cannot be read, without its path, which Pillow and Python tell now and then."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"a decompression bomb of more than {Image.MAX_IMAGE_PIXELS} pixels"
    if isinstance(error, UnidentifiedImageError):
        return f"no image in one of the formats {', '.join(FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def is_16_bit(image: Image.Image) -> bool:
    """Whether an image is one of 16-bit greys."""
    # Of these formats Pillow has larger integers for 16 bits, too.
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def orientation(image: Image.Image) -> int:
    """An image's orientation in EXIF; that of upright ones, 1, where none can be told."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # of all kinds for damaged EXIF, which says nothing about the pixels
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image's pixels as RGB."""
    if is_16_bit(image):  # which Pillow would clip at 255
        greys = np.asarray(image).astype(np.int64)
        return Image.fromarray(((greys * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:  # below it anything may lie
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
