"""Square crops of decoded images: in the centre to evaluate, at random to train."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

# Images of this size or more are cropped as in the paper's experiments at 224 pixels.
LARGE = 128
LARGE_SHARE = 224 / 256
# A random crop draws its share of the image's area, and its aspect ratio, from these ranges.
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def share_for(size: int, asked: float | None = None) -> float:
    """How much of an image's shorter side the centre crop keeps.

    Args:
      size: side in pixels of the square that images are brought to.
      asked: what ``--crop-share`` says; None for the default: all of a small image, and 224 of 256
        pixels from `LARGE` on.

    Returns:
      The share, above 0 and up to 1.

    Example:
      >>> share_for(32), share_for(224), share_for(224, 1.0)
      (1.0, 0.875, 1.0)
    """
    if asked is not None:
        return asked
    return LARGE_SHARE if size >= LARGE else 1.0


def centre(image: Image.Image, size: int, share: float) -> np.ndarray:
    """The square in an image's centre, scaled, uint8 ``[size, size, 3]``.

    Args:
      image: the image, in RGB.
      size: side in pixels of the result.
      share: how much of the shorter side is kept.
    """
    return np.asarray(ImageOps.fit(image, (size, size), bleed=(1 - share) / 2))


def at_random(image: Image.Image, size: int, generator: np.random.Generator) -> np.ndarray:
    """A random part of an image, scaled to a square and mirrored half of the time.

    Args:
      image: the image, in RGB.
      size: side in pixels of the result.
      generator: the source of the random numbers.

    Returns:
      uint8, ``[size, size, 3]``.
    """
    left, top, width, height = random_box(image.size, generator)
    square = image.resize(
        (size, size), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height)
    )
    pixels = np.asarray(square)
    return pixels[:, ::-1] if generator.random() < 0.5 else pixels


def random_box(
    size: tuple[int, int], generator: np.random.Generator
) -> tuple[float, float, float, float]:
    """The part of an image that a random crop takes.

    Its share of the area is uniform in `AREA`; its aspect ratio is log-uniform in `RATIO`. A box
    that does not fit into the image is drawn again.

    Args:
      size: the image's width and height.
      generator: the source of the random numbers.

    Returns:
      Left edge, top edge, width and height.
    """
    width, height = size
    for _ in range(10):
        area = width * height * generator.uniform(*AREA)
        ratio = np.exp(generator.uniform(*np.log(RATIO)))
        across, down = np.sqrt(area * ratio), np.sqrt(area / ratio)
        if across <= width and down <= height:
            left, top = generator.uniform(0, width - across), generator.uniform(0, height - down)
            return left, top, across, down
    # In a very long image hardly any box fits: take the centre, as far as the ratios allow.
    across = min(width, height * RATIO[1])
    down = min(height, width / RATIO[0])
    return (width - across) / 2, (height - down) / 2, across, down
