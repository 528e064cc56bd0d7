"""The products of a convolution as CPUs compute them fastest, most of them as matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import jax.numpy as jnp
from jax import lax

from l2t_jax._ops.native_convolution import (
    Precision,
    canonical,
    native_conv,
    native_spread,
    native_taps,
)
from l2t_jax._ops.window import Window, corners, seen_through, sees_all, taps
from l2t_jax._typing import Array

# Types for which XLA has fast convolutions on a CPU; for others, such as float64, it has loops.
FAST_TYPES = ("float32",)

AS_ON_CPU: dict[str, Any] = {"operands": None, "precision": None, "convolution": canonical}


def on_cpu(form: Callable[..., Array]) -> Callable[..., Array]:
    """A CPU's form of a product: it rounds to ``operands`` too, but computes in the wide type."""

    def computed_wide(
        *arrays: Array, window: Window, operands: str | None, precision: Precision
    ) -> Array:
        del precision  # a CPU rounds nothing
        if operands is not None:
            # Not to that type and back, which XLA takes the freedom to leave out.
            narrow = jnp.finfo(operands)
            arrays = tuple(lax.reduce_precision(x, narrow.nexp, narrow.nmant) for x in arrays)
        return form(*arrays, window=window)

    return computed_wide


@on_cpu
def cpu_conv(images: Array, kernel: Array, *, window: Window) -> Array:
    if sees_all(window):
        flat = flattened(images)
        outputs = [flat @ seen for seen in parts(kernel, window)]
        return jnp.stack(outputs, 1).reshape(-1, *window.outputs, kernel.shape[3])
    if is_fast(images, window):
        return native_conv(images, kernel, window=window, operands=None, precision=None)
    return shifted(images, window) @ kernel.reshape(-1, kernel.shape[3])


@on_cpu
def cpu_spread(outputs: Array, kernel: Array, *, window: Window) -> Array:
    if sees_all(window):
        # Transposed, since a product with the transposed part of a kernel is half as fast.
        columns = outputs.reshape(outputs.shape[0], -1, outputs.shape[3]).transpose(1, 2, 0)
        products = [seen @ columns[i] for i, seen in enumerate(parts(kernel, window))]
        return reduce(jnp.add, products).T.reshape(-1, *window.images, kernel.shape[2])
    if is_fast(outputs, window):
        return native_spread(outputs, kernel, **AS_ON_CPU, window=window)
    return unshifted(outputs @ kernel.reshape(-1, kernel.shape[3]).T, window)


@on_cpu
def cpu_taps(images: Array, outputs: Array, *, window: Window) -> Array:
    inputs, channels = images.shape[3], outputs.shape[3]
    if sees_all(window):
        rows, columns = images.transpose(1, 2, 3, 0), outputs.transpose(1, 2, 0, 3)
        zero = jnp.zeros((inputs, channels), images.dtype)
        blocks = [
            jnp.concatenate([rows[seen] for seen, _ in pairs], axis=1)
            @ jnp.concatenate([columns[position] for _, position in pairs])
            if pairs
            else zero
            for pairs in seen_through(window)
        ]
        return jnp.stack(blocks).reshape(*window.size, inputs, channels)
    if is_fast(images, window):
        return native_taps(images, outputs, **AS_ON_CPU, window=window)
    slices = shifted(images, window)
    product = outputs.reshape(-1, channels).T @ slices.reshape(-1, slices.shape[3])
    return product.T.reshape(*window.size, inputs, channels)


def is_fast(array: Array, window: Window) -> bool:
    """Whether XLA's own convolution is the fastest form on a CPU."""
    return array.dtype.name in FAST_TYPES and window.size != (1, 1)


def flattened(images: Array) -> Array:
    """A map as a vector, ``[B, H, W, I] -> [B, H·W·I]``."""
    return images.reshape(images.shape[0], math.prod(images.shape[1:]))


def parts(kernel: Array, window: Window) -> Iterator[Array]:
    """The part of the kernel that lies on the map for each output, ``[H·W·I, O]``."""
    height, width = window.images
    for top, left in corners(window):
        part = kernel[top : top + height, left : left + width]
        yield part.reshape(-1, kernel.shape[3])


def shifted(images: Array, window: Window) -> Array:
    """All that the taps of a kernel see, ``[B, H, W, I] -> [B, H', W', taps·I]``."""
    padded = jnp.pad(images, ((0, 0), *window.padding, (0, 0)))
    slices = [
        padded[:, begin[0] : end[0] : window.strides[0], begin[1] : end[1] : window.strides[1]]
        for begin, end in taps(window)
    ]
    return jnp.concatenate(slices, axis=-1)


def unshifted(slices: Array, window: Window) -> Array:
    """The transpose of `shifted`, a sum over the taps, ``[B, H', W', taps·I] -> [B, H, W, I]``."""
    zero = jnp.zeros((), slices.dtype)
    placed = []
    for part, (begin, end) in zip(
        jnp.split(slices, math.prod(window.size), axis=-1), taps(window), strict=True
    ):
        edges = [
            (first - low, size + low - last, stride - 1)
            for first, last, (low, _), size, stride in zip(
                begin, end, window.padding, window.images, window.strides, strict=True
            )
        ]
        placed.append(lax.pad(part, zero, ((0, 0, 0), *edges, (0, 0, 0))))
    return reduce(jnp.add, placed)
