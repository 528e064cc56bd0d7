"""Affine maps, and where they start."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from l2t_jax._typing import Array, Float


class Affine(NamedTuple):
    """An affine map ``x K + b``: kernel ``[inputs, outputs]``, bias ``[outputs]``.

    Attributes:
      kernel: ``[inputs, outputs]``.
      bias: ``[outputs]``.
    """

    kernel: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]


def uniform_affine(key: Array, inputs: int, outputs: int, dtype: Any) -> Affine:
    """Kernel and bias drawn uniformly in ``±1/sqrt(inputs)`` (PyTorch's default)."""
    kernel_key, bias_key = jax.random.split(key)
    bound = inputs**-0.5
    return Affine(
        jax.random.uniform(kernel_key, (inputs, outputs), dtype, -bound, bound),
        jax.random.uniform(bias_key, (outputs,), dtype, -bound, bound),
    )
