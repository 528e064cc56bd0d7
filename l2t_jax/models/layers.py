"""Layers that the bundled networks share, with PyTorch's conventions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from l2t_jax._typing import Array

# Up to this many output positions a convolution is cheaper as one matrix product over shifted
# slices: XLA's CPU back end takes about 100 times as long for 3x3 on a 2x2 map.
SMALL_MAP = 9
# Images whose share of a kernel's gradient is computed at once on the CPU: with 128 at once its
# convolution takes up to twice as long as four times with 32.
CHUNK = 32

fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def torch_uniform(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """PyTorch's default for linear kernels, uniform in ``±1/sqrt(inputs)``."""
    bound = shape[0] ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def convolve(
    images: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options: Any,
) -> Array:
    """A 2-d convolution, ``[B, H, W, I] * [h, w, I, O] -> [B, H', W', O]``, in its faster form.

    Stands in for `jax.lax.conv_general_dilated` inside the `flax.linen.Conv` of `conv` below, which
    has neither groups nor dilation; the other options only say so. The form is chosen by the
    shapes alone.
    """
    height, width = (
        (size + low + high - extent) // stride + 1
        for size, (low, high), extent, stride in zip(
            images.shape[1:3], padding, kernel.shape[:2], strides, strict=True
        )
    )
    if kernel.shape[:2] == (1, 1):
        return images[:, :: strides[0], :: strides[1]] @ kernel[0, 0]
    if height * width > SMALL_MAP:
        native = partial(
            lax.conv_general_dilated, window_strides=strides, padding=padding, **options
        )
        return _bilinear(native, images, kernel)
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    batch, _, _, channels = padded.shape
    slices = [
        lax.slice(
            padded,
            (0, i, j, 0),
            (
                batch,
                i + (height - 1) * strides[0] + 1,
                j + (width - 1) * strides[1] + 1,
                channels,
            ),
            (1, *strides, 1),
        )
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]
    return jnp.concatenate(slices, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _bilinear(native: Callable[..., Array], images: Array, kernel: Array) -> Array:
    """A convolution whose derivative by the kernel takes the images in chunks on the CPU."""
    return native(images, kernel)


@_bilinear.defjvp
def _bilinear_jvp(
    native: Callable[..., Array], primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (images, kernel), (images_dot, kernel_dot) = primals, tangents
    by_kernel = _chunked(native, images, kernel_dot)
    return _bilinear(native, images, kernel), _bilinear(native, images_dot, kernel) + by_kernel


def _chunked(native: Callable[..., Array], images: Array, kernel: Array) -> Array:
    """The same convolution, chunk by chunk: its transpose sums the kernel's gradient likewise."""
    if len(images) <= CHUNK:
        return _bilinear(native, images, kernel)

    def chunks(images: Array, kernel: Array) -> Array:
        parts = [images[i : i + CHUNK] for i in range(0, len(images), CHUNK)]
        return jnp.concatenate([_bilinear(native, part, kernel) for part in parts])

    # Decided when the program is lowered for a platform; other back ends get the plain form.
    return lax.platform_dependent(images, kernel, cpu=chunks, default=partial(_bilinear, native))


def conv(
    x: Array, features: int, size: int, stride: int = 1, *, use_bias: bool = False, name: str
) -> Array:
    """A square convolution with symmetric padding ``size // 2`` and fan-out initialisation."""
    return nn.Conv(
        features,
        (size, size),
        (stride, stride),
        padding=size // 2,
        use_bias=use_bias,
        kernel_init=fan_out_normal,
        conv_general_dilated=convolve,
        param_dtype=x.dtype,
        name=name,
    )(x)


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
        if train:
            axes = tuple(range(x.ndim - 1))
            mean, var = jnp.mean(x, axes), jnp.var(x, axes)
            count = math.prod(x.shape[:-1])
            for running, value in (
                (running_mean, mean),
                (running_var, var * (count / max(count - 1, 1))),
            ):
                running.value += self.momentum * (value - running.value)
        else:
            mean, var = running_mean.value, running_var.value
        return (x - mean) * (lax.rsqrt(var + self.epsilon) * scale) + bias


def max_pool(x: Array, size: int, stride: int, padding: int = 0) -> Array:
    """Max-pooling as a maximum over shifted slices, ``[B, H, W, C] -> [B, H', W', C]``.

    `jax.lax.reduce_window` takes several times as long for the gradient, and its second
    derivatives more still.
    """
    edge = (padding, padding)
    x = jnp.pad(x, ((0, 0), edge, edge, (0, 0)), constant_values=-jnp.inf)
    height, width = ((extent - size) // stride + 1 for extent in x.shape[1:3])
    if size == stride:
        x = x[:, : height * size, : width * size]
        x = x.reshape(x.shape[0], height, size, width, size, x.shape[-1])
        return jnp.max(x, axis=(2, 4))
    return reduce(
        jnp.maximum,
        (
            x[
                :,
                i : i + (height - 1) * stride + 1 : stride,
                j : j + (width - 1) * stride + 1 : stride,
            ]
            for i in range(size)
            for j in range(size)
        ),
    )
