"""Convolution as one trilinear form, of which every derivative is a fast matrix product.

XLA's CPU back end runs convolutions at speeds that differ up to a hundredfold with their shapes and
with how their axes are named; JAX's rules choose those while they differentiate, where a model has
no say. Here a convolution is the gradient by ``y`` of

    F(x, k, y) = <y, conv(x, k)>,    x [B,H,W,I],  k [h,w,I,O],  y [B,H',W',O].

Its gradients by the three arguments are three bilinear primitives, `conv`, `spread` and `taps`.
Each transpose of one is another of them, so that a derivative of any order, in any mode, is made
of these three again. What they become is decided when a program is lowered for a platform: XLA's
own convolutions, or on a CPU matrix products where those are faster.

Where ``operands`` names a narrower type, each of them rounds its two arguments to that type, and
accumulates and returns the type that came: all that is kept between them is as wide as before.

Accelerators round the operands of float32 products by default; ``precision`` says how much they
may. It is a parameter of the primitives, taken from `jax.default_matmul_precision` where a
convolution is written, as JAX's own products do: when a program is lowered, that context has long
been left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad
from jax.typing import DTypeLike

from l2t_jax._ops.cpu_convolution import cpu_conv, cpu_spread, cpu_taps
from l2t_jax._ops.native_convolution import native_conv, native_spread, native_taps
from l2t_jax._ops.platform_primitive import define
from l2t_jax._ops.window import Window
from l2t_jax._typing import Array


def convolve(
    images: Array,
    kernel: Array,
    strides: Sequence[int] = (1, 1),
    padding: Sequence[tuple[int, int]] = ((0, 0), (0, 0)),
    operands: DTypeLike | None = None,
) -> Array:
    """A 2-d convolution without groups or dilation.

    Args:
      images: ``[B, H, W, I]``.
      kernel: ``[h, w, I, O]``.
      strides: of the two image axes.
      padding: zeros (before, after) each of them.
      operands: type that images and kernel are rounded to, and in every derivative likewise its
        two arguments; as they are if None. What is rounded so is not rounded any further; all else
        has the precision of `jax.default_matmul_precision`.

    Returns:
      ``[B, H', W', O]``, of the images' type.

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
    name = None if operands is None else jnp.dtype(operands).name
    asked = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    # None would become what is asked for where the program is lowered. Then a TPU takes rounded
    # operands apart as if they were wide.
    precision = asked if name is None else "default"
    images, kernel = varying_alike(images, kernel)
    return conv_p.bind(images, kernel, window=window, operands=name, precision=precision)


def varying_alike(*arrays: Array) -> list[Array]:
    """Arrays that differ over the same devices within `jax.shard_map`, as a product's have to.

    JAX's own functions do the same before they bind a primitive. The transpose of what is done here
    adds a derivative up over the devices that share its array.
    """
    axes = [_varying(array) for array in arrays]
    union = frozenset[str]().union(*axes)
    return [
        jax.lax.pcast(array, tuple(sorted(union - own)), to="varying") if union - own else array
        for array, own in zip(arrays, axes, strict=True)
    ]


def _varying(array: Array) -> frozenset[str]:
    kind: Any = jax.typeof(array)
    # Versions of JAX call it differently.
    axes: frozenset[str] | None = getattr(kind, "vma", None)
    if axes is None:
        axes = getattr(getattr(kind, "manual_axis_type", None), "varying", None)
    return axes or frozenset()


conv_p: Primitive = define("conv", native_conv, cpu_conv)
spread_p: Primitive = define("conv_spread", native_spread, cpu_spread)
taps_p: Primitive = define("conv_taps", native_taps, cpu_taps)
ad.defbilinear(
    conv_p,
    lambda y, x, k, **options: spread_p.bind(y, k, **options),
    lambda y, x, k, **options: taps_p.bind(x, y, **options),
)
ad.defbilinear(
    spread_p,
    lambda x, y, k, **options: conv_p.bind(x, k, **options),
    lambda x, y, k, **options: taps_p.bind(x, y, **options),
)
ad.defbilinear(
    taps_p,
    lambda k, x, y, **options: spread_p.bind(y, k, **options),
    lambda k, x, y, **options: conv_p.bind(x, k, **options),
)
