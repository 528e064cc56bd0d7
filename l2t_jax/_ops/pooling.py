"""Max-pooling in a form that is fast on each platform, in every derivative.

On a CPU and on a GPU it takes the maxima of shifted rows, then of columns. XLA's own windows take
several times as long there for the gradient, and still longer for second derivatives. On a CPU
windows that do not overlap have a derivative in one loop. On a TPU the slices' derivatives are pads
that are no part of a fusion. They write and read the map several times. There XLA's own windows
have the least traffic.

Which value of a window is the largest has no derivative. So `largest`, the derivative of the
maximum, is linear in its first argument, and `placed` is its transpose. Equal values share a
derivative; on a TPU the first of them has all of it.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from l2t_jax._ops.platform_primitive import define
from l2t_jax._typing import Array


class Windows(NamedTuple):
    """Where the square windows of a map are.

    Attributes:
      size: their height and width.
      stride: steps from one to the next.
      padding: positions on each side of the map that never count.
    """

    size: int
    stride: int
    padding: int


def max_pool(x: Array, size: int, stride: int, padding: int = 0) -> Array:
    """Max-pooling, ``[B, H, W, C] -> [B, H', W', C]``.

    Example:
      >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
      >>> max_pool(x, 2, 2)[0, :, :, 0].tolist()
      [[5.0, 7.0], [13.0, 15.0]]
    """
    return maxima_p.bind(x, windows=Windows(size, stride, padding))


def of_slices(x: Array, *, windows: Windows) -> Array:
    # `jnp.max` looks for what equals the maximum: where XLA computes that a second time with
    # another rounding, nothing does, and the gradient is 0/0.
    size, stride, padding = windows
    edge = (padding, padding)
    x = jnp.pad(x, ((0, 0), edge, edge, (0, 0)), constant_values=-jnp.inf)
    for axis in (1, 2):
        last = x.shape[axis] - size
        slices = [
            lax.slice_in_dim(x, begin, begin + last // stride * stride + 1, stride, axis)
            for begin in range(size)
        ]
        x = reduce(jnp.maximum, slices)
    return x


def of_windows(x: Array, *, windows: Windows) -> Array:
    size, stride, padding = windows
    edge = (padding, padding)
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, size, size, 1),
        (1, stride, stride, 1),
        ((0, 0), edge, edge, (0, 0)),
    )


def largest(form: Any, values: Array, x: Array, *, windows: Windows) -> Array:
    """The values where ``x`` has its windows' maxima, ``[B, H, W, C] -> [B, H', W', C]``."""
    return jax.jvp(partial(form, windows=windows), (x,), (values,))[1]


def placed(form: Any, pooled: Array, x: Array, *, windows: Windows) -> Array:
    """Sums of the values at the maxima that they belong to, ``[B, H', W', C] -> [B, H, W, C]``."""
    return jax.vjp(partial(form, windows=windows), x)[1](pooled)[0]


def placed_in_tiles(pooled: Array, x: Array, *, windows: Windows) -> Array:
    """What `placed` is of slices. Windows that do not overlap take one loop, and no sum of pads."""
    size, stride, padding = windows
    if stride != size or padding:
        return placed(of_slices, pooled, x, windows=windows)
    height, width = (length * size for length in pooled.shape[1:3])
    columns = [
        [x[:, row:height:size, column:width:size] for row in range(size)] for column in range(size)
    ]

    def maxima(columns: list[list[Array]]) -> Array:
        return reduce(jnp.maximum, [reduce(jnp.maximum, rows) for rows in columns])

    (parts,) = jax.vjp(maxima, columns)[1](pooled)
    whole = jnp.stack([jnp.stack(rows, axis=2) for rows in parts], axis=4)
    whole = whole.reshape(x.shape[0], height, width, x.shape[3])
    return jnp.pad(whole, ((0, 0), (0, x.shape[1] - height), (0, x.shape[2] - width), (0, 0)))


def linear_in_first(primitive: Primitive, transpose: Primitive) -> None:
    """Gives a primitive its derivatives. Those by its second argument are zero."""

    def jvp(primals: Any, tangents: Any, **options: Any) -> tuple[Array, Any]:
        _, x = primals
        result = primitive.bind(*primals, **options)
        moved = tangents[0]
        if type(moved) is ad.Zero:
            return result, jnp.zeros_like(result)
        return result, primitive.bind(moved, x, **options)

    def transposed(cotangent: Any, values: Any, x: Array, **options: Any) -> list[Any]:
        if type(cotangent) is ad.Zero:
            return [ad.Zero(values.aval), None]
        return [transpose.bind(cotangent, x, **options), None]

    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transposed


def batched(primitive: Primitive, operands: Any, axes: Any, /, **options: Any) -> tuple[Array, int]:
    """Maps as a larger batch, which leaves the form to the platform."""
    (many,) = {x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None}
    maps = [
        jnp.broadcast_to(x, (many, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]
    result = primitive.bind(*(x.reshape(-1, *x.shape[2:]) for x in maps), **options)
    return result.reshape(many, -1, *result.shape[1:]), 0


maxima_p: Primitive = define("window_maxima", of_slices, of_slices, of_windows)
largest_p: Primitive = define(
    "window_largest", *(partial(largest, form) for form in (of_slices, of_slices, of_windows))
)
placed_p: Primitive = define(
    "window_placed", partial(placed, of_slices), placed_in_tiles, partial(placed, of_windows)
)
ad.defjvp(maxima_p, lambda tangent, x, **options: largest_p.bind(tangent, x, **options))
linear_in_first(largest_p, placed_p)
linear_in_first(placed_p, largest_p)
for pooling_p in (maxima_p, largest_p, placed_p):
    batching.primitive_batchers[pooling_p] = partial(batched, pooling_p)
