"""The type that the method itself computes in, whatever its networks compute in."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import DTypeLike

from l2t_jax._typing import Array


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
    """float32 for every narrower type, such as bfloat16; wider ones stay as they are.

    Eight bits of a bfloat16 lose every step of an optimiser below a 256th of a value, and float16
    ends at 65504: meta-parameters would stand still or become infinite.

    Example:
      >>> at_least_float32(jnp.bfloat16).name, at_least_float32(jnp.float64).name
      ('float32', 'float64')
    """
    return jnp.promote_types(dtype, jnp.float32)


def widen(array: Array) -> Array:
    """An array in the type of `at_least_float32`; the array itself where it is as wide."""
    return array.astype(at_least_float32(array.dtype))
