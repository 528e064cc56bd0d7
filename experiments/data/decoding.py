"""Decodes an image file of any format, pixel type and orientation to RGB."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

# A file's content decides its format. Pillow knows more formats; some start a program (EPS).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# Pillow raises these for files that are not images, damaged files and decompression bombs.
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
# Up to twice Image.MAX_IMAGE_PIXELS Pillow only warns. The filter is set once and not around each
# image, because it holds for all threads.
warnings.simplefilter("error", Image.DecompressionBombWarning)

# TIFF's tags: bits of a sample, and what 0 means.
BITS, PHOTOMETRIC = 258, 262
# EXIF orientation → the transposition that turns the image upright.
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
    """An image in RGB, turned upright.

    - Of an animation the first frame is used.
    - Greys of 9 to 16 bits are scaled to 8.
    - Transparent pixels are placed on white.

    Raises:
      ValueError: the image cannot be read; the message says why.
    """
    with opened(file) as image:
        image.load()
        turn = TURNS.get(orientation(image))
        rgb = to_rgb(image)
        return rgb if turn is None else rgb.transpose(turn)


def check(file: Path | BinaryIO, *, decode: bool) -> None:
    """Raises a ValueError if an image cannot be read. The message says why.

    Args:
      file: the image file.
      decode: whether to decode the image, which finds all damage; else only its header is read.
    """
    with opened(file) as image:
        if decode:
            # At an eighth of the size all of a JPEG is still read, at two thirds of the cost.
            image.draft(None, (1, 1))
            image.load()


@contextlib.contextmanager
def opened(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """Opens an image and reads its header. `to_rgb` can convert it.

    Raises:
      ValueError: the image cannot be read, here or within the block; the message says why.
    """
    try:
        with contextlib.ExitStack() as stack:
            # Of a path Pillow maps uncompressed TIFFs into memory, and reads the rows of those that
            # are to be turned as columns.
            stream = stack.enter_context(file.open("rb")) if isinstance(file, Path) else file
            image = stack.enter_context(Image.open(stream, formats=FORMATS))
            if image.mode in ("I", "F") and not is_16_bit(image):
                raise ValueError("greys must have 8 or 16 bits (got 32, without a known white)")
            yield image
    except UNREADABLE as error:
        empty = isinstance(file, Path) and file.is_file() and not file.stat().st_size
        raise ValueError("the file is empty" if empty else reason(error)) from None


def reason(error: BaseException) -> str:
    """Why an image cannot be read, without the path that some messages contain."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more than {Image.MAX_IMAGE_PIXELS} pixels (a decompression bomb)"
    if isinstance(error, UnidentifiedImageError):
        return f"it is not an image in one of the formats {', '.join(FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def is_16_bit(image: Image.Image) -> bool:
    """Whether an image has 16-bit greys."""
    # Pillow reads 16 bits of these formats into larger integers, too.
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def orientation(image: Image.Image) -> int:
    """An image's orientation in EXIF; 1, which is upright, where there is none."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF raises anything, and the pixels may be fine
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image's pixels as RGB."""
    if is_16_bit(image):  # Pillow would clip it at 255
        greys, most = np.asarray(image).astype(np.int64), 65535
        if image.format == "TIFF":  # which may have fewer bits, or 0 as its white
            tags = image.tag_v2  # type: ignore[attr-defined]
            most = 2 ** int(np.ravel(tags.get(BITS, 16))[0]) - 1
            greys = most - greys if tags.get(PHOTOMETRIC) == 0 else greys
        scaled = (greys * 255 + most // 2) // most
        if isinstance(clear := image.info.get("transparency"), int):
            scaled[greys == clear] = 255
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:  # transparent pixels can have any colour
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
