"""Where the taps of a kernel lie on a map, for each output of a convolution."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from jax.export import is_symbolic_dim

from l2t_jax._typing import Size


class Window(NamedTuple):
    """What a kernel sees of a map.

    Attributes:
      size: the kernel's height and width.
      strides: steps from one output to the next.
      padding: zeros (before, after) each of the two image axes.
      images: the map's height and width.
    """

    size: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    images: tuple[Size, Size]

    @property
    def outputs(self) -> tuple[Size, Size]:
        """Height and width of the convolution's output."""
        height, width = (
            (image + low + high - size) // stride + 1
            for image, (low, high), size, stride in zip(
                self.images, self.padding, self.size, self.strides, strict=True
            )
        )
        return height, width

    @property
    def spaced(self) -> tuple[Size, Size]:
        """Height and width of the output with its positions as far apart as in the input."""
        height, width = (
            (output - 1) * stride + 1
            for output, stride in zip(self.outputs, self.strides, strict=True)
        )
        return height, width


def is_product(window: Window) -> bool:
    """Whether a convolution is no more than a matrix product."""
    return window == Window((1, 1), (1, 1), ((0, 0), (0, 0)), window.images)


def sees_all(window: Window) -> bool:
    """Whether every output sees the whole map, as on 2x2 maps with a padded 3x3 kernel."""
    if any(is_symbolic_dim(size) for size in window.images):
        return False
    return all(
        low - (output - 1) * stride >= 0 and low + image <= size
        for size, stride, (low, _), image, output in zip(
            window.size,
            window.strides,
            window.padding,
            window.images,
            window.outputs,
            strict=True,
        )
    )


def taps(window: Window) -> Iterator[tuple[tuple[int, ...], tuple[Size, ...]]]:
    """First and last-plus-one positions, in the padded map, that each tap of the kernel sees."""
    for begin in itertools.product(range(window.size[0]), range(window.size[1])):
        yield (
            begin,
            tuple(
                first + (count - 1) * stride + 1
                for first, count, stride in zip(begin, window.outputs, window.strides, strict=True)
            ),
        )


def corners(window: Window) -> Iterator[tuple[int, ...]]:
    """Where in the kernel the map lies for each output, if every output sees the whole map."""
    for position in itertools.product(*(range(count) for count in window.outputs)):
        yield tuple(
            low - index * stride
            for index, stride, (low, _) in zip(
                position, window.strides, window.padding, strict=True
            )
        )


def seen_through(window: Window) -> Iterator[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """For each tap of the kernel, which position of the map each output sees through it."""
    outputs = list(itertools.product(*(range(count) for count in window.outputs)))
    for tap in itertools.product(*(range(count) for count in window.size)):
        pairs = [
            (
                tuple(a - b for a, b in zip(tap, corner, strict=True)),
                output,
            )
            for output, corner in zip(outputs, corners(window), strict=True)
        ]
        yield [
            (seen, output)
            for seen, output in pairs
            if all(0 <= place < size for place, size in zip(seen, window.images, strict=True))
        ]
