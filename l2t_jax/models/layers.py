"""Layers that the bundled networks share, with PyTorch's conventions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.core import max_dim
from jax.export import is_symbolic_dim
from jax.typing import DTypeLike

from l2t_jax._ops.channel_sums import repeat, total
from l2t_jax._ops.convolution import convolve
from l2t_jax._typing import Array, Size

fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def torch_uniform(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """PyTorch's default for linear kernels, uniform in ``±1/sqrt(inputs)``."""
    bound = shape[0] ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class Conv(nn.Module):
    """A square convolution with symmetric padding ``size // 2`` and fan-out initialisation.

    ``operands`` is the type that its operands are rounded to, forward and in all derivatives.
    """

    features: int
    size: int
    stride: int = 1
    use_bias: bool = False
    operands: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", fan_out_normal, shape, x.dtype)
        edge = (self.size // 2, self.size // 2)
        y = convolve(x, kernel, (self.stride, self.stride), [edge, edge], self.operands)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,), x.dtype)
        return y + repeat(bias, y.shape)


class BatchNorm(nn.Module):
    """Batch norm over all axes but the last, with PyTorch's running statistics.

    The running variance is the unbiased one (Linen's own stores the biased one), and ``momentum``
    is the share of the new value.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        shape, dtype = x.shape[-1:], x.dtype
        scale = self.param("scale", nn.initializers.ones, shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, dtype)
        # Everything is relative to a constant near the mean, so that the difference of squares
        # below keeps its digits. The two sums, and those of each derivative, do not wait for each
        # other: devices that share a batch reduce them in one message.
        near = lax.stop_gradient(running_mean.value)
        moved = x - repeat(near, x.shape)
        if train:
            count = math.prod(x.shape[:-1])
            mean = total(moved) / count
            var = jnp.maximum(total(moved * moved) / count - mean * mean, 0)
            for running, value in (
                (running_mean, near + mean),
                (running_var, var * unbiased(count, dtype)),
            ):
                running.value += self.momentum * (value - running.value)
        else:
            mean, var = running_mean.value - near, running_var.value
        factor = lax.rsqrt(var + self.epsilon) * scale
        return moved * repeat(factor, x.shape) + repeat(bias - mean * factor, x.shape)


def unbiased(count: Size, dtype: DTypeLike) -> float | Array:
    """What makes a variance of so many values the unbiased one, ``count / (count - 1)``."""
    if not is_symbolic_dim(count):
        return count / max(count - 1, 1)
    # The size of an exported program's batch: a number once it runs.
    return jnp.asarray(count, dtype) / jnp.asarray(max_dim(count - 1, 1), dtype)
