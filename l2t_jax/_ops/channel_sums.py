"""Sums over everything but the channels, and their transpose.

XLA's CPU back end computes what is summed once more for each of the sums, which in the gradient of
a batch norm after a max-pool takes longer than the rest of the layer. It does not do so where the
sum is a matrix product; and so that a derivative of any order has its sums in that form, the two
functions here are each other's transpose.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad

from l2t_jax._ops.platform_primitive import define
from l2t_jax._typing import Array, Size


def total(x: Array) -> Array:
    """Sum over all axes but the last, ``[..., C] -> [C]``.

    Example:
      >>> total(jnp.ones((2, 3, 4))).tolist()
      [6.0, 6.0, 6.0, 6.0]
    """
    return total_p.bind(x, shape=x.shape)


def repeat(channels: Array, shape: tuple[Size, ...]) -> Array:
    """One value a channel, everywhere, ``[C] -> [..., C]``; the transpose of `total`.

    Example:
      >>> repeat(jnp.array([1.0, 2.0]), (2, 2)).tolist()
      [[1.0, 2.0], [1.0, 2.0]]
    """
    return repeat_p.bind(channels, shape=shape)


def native_total(x: Array, *, shape: tuple[Size, ...]) -> Array:
    return jnp.sum(x, axis=tuple(range(len(shape) - 1)))


def cpu_total(x: Array, *, shape: tuple[Size, ...]) -> Array:
    # With two rows alike: a single row's product reads a narrow matrix at a fifth of the speed.
    ones = jnp.ones((2, math.prod(shape[:-1])), x.dtype)
    return (ones @ x.reshape(-1, shape[-1]))[0]


def native_repeat(channels: Array, *, shape: tuple[Size, ...]) -> Array:
    return jnp.broadcast_to(channels, shape)


def transposed_total(channels: Any, x: Any, *, shape: tuple[Size, ...]) -> list[Array]:
    del x
    return [repeat_p.bind(channels, shape=shape)]


def transposed_repeat(x: Any, channels: Any, *, shape: tuple[Size, ...]) -> list[Array]:
    del channels
    return [total_p.bind(x, shape=shape)]


total_p: Primitive = define("channel_total", native_total, cpu_total)
repeat_p: Primitive = define("channel_repeat", native_repeat, native_repeat)
ad.deflinear2(total_p, transposed_total)
ad.deflinear2(repeat_p, transposed_repeat)
