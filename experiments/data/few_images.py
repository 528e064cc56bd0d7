"""Warnings where a run has few validation or test images."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .class_names import listed, without_images
from .dataset import Images
from .splits import Splits

# With this many images, one is at most a point of accuracy, and the standard error at most five.
ENOUGH = 100
# What a warning advises for each part.
MORE = {
    "validation": "they choose the best epoch; take more with --val-fraction",
    "test": "take more with --test-fraction or --test-data, or average over seeds",
}


def standard_error(accuracy: float, images: int) -> float:
    """Standard error of an accuracy measured on so many images, ``√(q (1 - q) / n)``.

    ``q = (k + 1) / (n + 2)`` is Laplace's estimate, where k of n are right. So the error is not
    zero when all of a few images are right.

    Args:
      accuracy: share classified correctly, from 0 to 1.
      images: the number n of images, 1 or more.

    Returns:
      The standard error, from 0 to 1.

    Example:
      >>> round(standard_error(0.5, 100), 3), round(standard_error(1.0, 5), 3)
      (0.05, 0.156)

    Source: Laplace (1774), "Mémoire sur la probabilité des causes", the rule of succession.
    """
    estimate = (accuracy * images + 1) / (images + 2)
    return math.sqrt(estimate * (1 - estimate) / images)


def of_count(part: str, images: int) -> list[str]:
    """A warning where a part has few images.

    Args:
      part: its name, such as ``test``.
      images: its number of images, 1 or more.

    Returns:
      The warning, or nothing.

    Example:
      >>> of_count("test", 4)[0].partition(";")[0]
      'only 4 test images: one is 25.0 points of accuracy, the standard error up to 25.0 points'
    """
    if images >= ENOUGH:
        return []
    plural = "s" * (images > 1)
    # The error is largest where half of the images are right.
    return [
        f"only {images} {part} image{plural}: one is {100 / images:.1f} points of accuracy, the "
        f"standard error up to {100 * standard_error(0.5, images):.1f} points"
        + (f"; {MORE[part]}" if part in MORE else "")
    ]


def of_counts(counts: Mapping[str, int]) -> list[str]:
    """Warnings of few images.

    Args:
      counts: number of images of each part, by its name.
    """
    return [warning for part in MORE for warning in of_count(part, counts[part])]


def of_splits(splits: Splits) -> list[str]:
    """Warnings of few images, and of classes that have none in a part."""
    parts: dict[str, Images] = {"validation": splits.validation, "test": splits.test}
    warnings = of_counts({name: len(part.labels) for name, part in parts.items()})
    for name, part in parts.items():
        if missing := without_images(part):
            warnings.append(
                f"no {name} image of {listed(missing)}: the {name} accuracy says nothing of "
                f"{'this class' if len(missing) == 1 else 'these classes'}"
            )
    return warnings
