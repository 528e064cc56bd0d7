"""Convolution as one trilinear form, of which every derivative is a fast matrix product.

XLA's CPU back end runs convolutions, and still more the ones that their gradients are, at speeds
that differ up to a hundredfold with the shapes; JAX's rules choose among them while they
differentiate, where a model has no say. Here a convolution is the gradient by ``y`` of

    F(x, k, y) = <y, conv(x, k)>,    x [B,H,W,I],  k [h,w,I,O],  y [B,H',W',O].

Its gradients by the three arguments are three bilinear primitives, `conv`, `spread` and `taps`.
Each transpose of one is another of them, so that a derivative of any order, in any mode, is made
of these three again. What they become is decided when a program is lowered for a platform: on a
CPU, matrix products over shifted slices; elsewhere XLA's own convolutions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad

from l2t_jax._forms import define
from l2t_jax._typing import Array

# On a CPU, with fewer output channels than this, slices are not used often enough to be worth
# writing, unless the map is so small that XLA's own convolution is up to 100 times slower.
CHANNELS, SMALL_MAP = 128, 9
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


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
    images: tuple[int, int]

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of the convolution's output."""
        height, width = (
            (image + low + high - size) // stride + 1
            for image, (low, high), size, stride in zip(
                self.images, self.padding, self.size, self.strides, strict=True
            )
        )
        return height, width


def convolve(
    images: Array,
    kernel: Array,
    strides: Sequence[int] = (1, 1),
    padding: Sequence[tuple[int, int]] = ((0, 0), (0, 0)),
) -> Array:
    """A 2-d convolution without groups or dilation.

    Args:
      images: ``[B, H, W, I]``.
      kernel: ``[h, w, I, O]``.
      strides: of the two image axes.
      padding: zeros (before, after) each of them.

    Returns:
      ``[B, H', W', O]``.

    Example:
      >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> convolve(x, jnp.ones((3, 3, 1, 1)), (2, 2), [(1, 1), (1, 1)])[0, :, :, 0].tolist()
      [[8.0, 12.0], [20.0, 24.0]]
    """
    (low, high), (left, right) = padding
    window = Window(
        (kernel.shape[0], kernel.shape[1]),
        (strides[0], strides[1]),
        ((low, high), (left, right)),
        (images.shape[1], images.shape[2]),
    )
    return conv_p.bind(images, kernel, window=window)


def native_conv(images: Array, kernel: Array, *, window: Window) -> Array:
    if window == Window((1, 1), (1, 1), ((0, 0), (0, 0)), window.images):
        return images @ kernel[0, 0]
    return lax.conv_general_dilated(
        images, kernel, window.strides, window.padding, dimension_numbers=DIMENSIONS
    )


def native_spread(outputs: Array, kernel: Array, *, window: Window) -> Array:
    shape = (len(outputs), *window.images, kernel.shape[2])
    images = jax.ShapeDtypeStruct(shape, outputs.dtype)
    conv = partial(native_conv, kernel=kernel, window=window)
    return jax.linear_transpose(conv, images)(outputs)[0]


def native_taps(images: Array, outputs: Array, *, window: Window) -> Array:
    shape = (*window.size, images.shape[3], outputs.shape[3])
    kernel = jax.ShapeDtypeStruct(shape, images.dtype)
    return jax.linear_transpose(partial(native_conv, images, window=window), kernel)(outputs)[0]


def few_channels(kernel: Array, window: Window) -> bool:
    """Whether XLA's own convolution is the faster form on a CPU."""
    if window.size == (1, 1):
        return False  # nothing to write
    return kernel.shape[3] < CHANNELS and window.outputs[0] * window.outputs[1] > SMALL_MAP


def cpu_conv(images: Array, kernel: Array, *, window: Window) -> Array:
    if few_channels(kernel, window):
        return native_conv(images, kernel, window=window)
    matrix = kernel.reshape(-1, kernel.shape[3])
    return shifted(images, window) @ matrix


def cpu_spread(outputs: Array, kernel: Array, *, window: Window) -> Array:
    if few_channels(kernel, window):
        return native_spread(outputs, kernel, window=window)
    matrix = kernel.reshape(-1, kernel.shape[3]).T
    return unshifted(outputs @ matrix, window)


def cpu_taps(images: Array, outputs: Array, *, window: Window) -> Array:
    shape = (*window.size, images.shape[3], outputs.shape[3])
    slices = shifted(images, window)
    # The left operand is transposed first: it had better be the smaller one.
    if slices.shape[3] < shape[3]:
        return jnp.einsum("bhwi,bhwo->io", slices, outputs).reshape(shape)
    return jnp.einsum("bhwo,bhwi->oi", outputs, slices).T.reshape(shape)


def shifted(images: Array, window: Window) -> Array:
    """All that the kernel's taps see, ``[B, H, W, I] -> [B, H', W', h·w·I]``."""
    padded = jnp.pad(images, ((0, 0), *window.padding, (0, 0)))
    slices = [
        padded[:, begin[0] : end[0] : window.strides[0], begin[1] : end[1] : window.strides[1]]
        for begin, end in taps(window)
    ]
    return jnp.concatenate(slices, axis=-1)


def unshifted(slices: Array, window: Window) -> Array:
    """The transpose of `shifted`, a sum over the taps, ``[B, H', W', h·w·I] -> [B, H, W, I]``."""
    parts = jnp.split(slices, window.size[0] * window.size[1], axis=-1)
    zero = jnp.zeros((), slices.dtype)
    placed = []
    for part, (begin, end) in zip(parts, taps(window), strict=True):
        edges = [
            (first - low, size + low - last, stride - 1)
            for first, last, (low, _), size, stride in zip(
                begin, end, window.padding, window.images, window.strides, strict=True
            )
        ]
        placed.append(lax.pad(part, zero, ((0, 0, 0), *edges, (0, 0, 0))))
    return reduce(jnp.add, placed)


def taps(window: Window) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """First and last-plus-one positions, in the padded map, that each tap of the kernel sees."""
    for begin in itertools.product(*map(range, window.size)):
        yield (
            begin,
            tuple(
                first + (count - 1) * stride + 1
                for first, count, stride in zip(begin, window.outputs, window.strides, strict=True)
            ),
        )


conv_p: Primitive = define("conv", native_conv, cpu_conv)
spread_p: Primitive = define("conv_spread", native_spread, cpu_spread)
taps_p: Primitive = define("conv_taps", native_taps, cpu_taps)
ad.defbilinear(
    conv_p,
    lambda y, x, k, window: spread_p.bind(y, k, window=window),
    lambda y, x, k, window: taps_p.bind(x, y, window=window),
)
ad.defbilinear(
    spread_p,
    lambda x, y, k, window: conv_p.bind(x, k, window=window),
    lambda x, y, k, window: taps_p.bind(x, y, window=window),
)
ad.defbilinear(
    taps_p,
    lambda k, x, y, window: spread_p.bind(y, k, window=window),
    lambda k, x, y, window: conv_p.bind(x, k, window=window),
)
