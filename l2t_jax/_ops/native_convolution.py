"""The products of a convolution as XLA's own convolutions, the form for accelerators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.typing import DTypeLike

from l2t_jax._ops.window import Window, is_product
from l2t_jax._typing import Array, Size

# The order of axes that XLA's CPU back end has fast convolutions for.
CANONICAL = ("NHWC", "HWIO", "NHWC")

# As `jax.default_matmul_precision` names it; None for the platform's own.
Precision = str | None


def native_conv(
    images: Array, kernel: Array, *, window: Window, operands: str | None, precision: Precision
) -> Array:
    wide, (images, kernel) = rounded(operands, images, kernel)
    if is_product(window):
        return jnp.matmul(images, kernel[0, 0], precision=precision, preferred_element_type=wide)
    return lax.conv_general_dilated(
        images,
        kernel,
        window.strides,
        window.padding,
        dimension_numbers=CANONICAL,
        precision=precision,
        preferred_element_type=wide,
    )


def native_spread(
    outputs: Array,
    kernel: Array,
    *,
    window: Window,
    operands: str | None,
    precision: Precision,
    convolution: Callable[..., Array] = lax.conv_general_dilated,
) -> Array:
    wide, (outputs, kernel) = rounded(operands, outputs, kernel)
    if is_product(window):
        return jnp.matmul(outputs, kernel[0, 0].T, precision=precision, preferred_element_type=wide)
    before = [size - 1 - low for size, (low, _) in zip(window.size, window.padding, strict=True)]
    after = [
        image + size - 1 - spaced - low
        for image, size, spaced, low in zip(
            window.images, window.size, window.spaced, before, strict=True
        )
    ]
    return convolution(
        outputs,
        lax.rev(kernel, (0, 1)),
        (1, 1),
        list(zip(before, after, strict=True)),
        lhs_dilation=window.strides,
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
        precision=precision,
        preferred_element_type=wide,
    )


def native_taps(
    images: Array,
    outputs: Array,
    *,
    window: Window,
    operands: str | None,
    precision: Precision,
    convolution: Callable[..., Array] = lax.conv_general_dilated,
) -> Array:
    wide, (images, outputs) = rounded(operands, images, outputs)
    if is_product(window):
        product = jnp.einsum(
            "bhwi,bhwo->io", images, outputs, precision=precision, preferred_element_type=wide
        )
        return product[None, None]
    padding = [
        (low, size - 1 + spaced - image - low)
        for (low, _), size, spaced, image in zip(
            window.padding, window.size, window.spaced, window.images, strict=True
        )
    ]
    return convolution(
        images,
        outputs,
        (1, 1),
        padding,
        rhs_dilation=window.strides,
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        precision=precision,
        preferred_element_type=wide,
    )


def rounded(operands: str | None, *arrays: Array) -> tuple[DTypeLike, list[Array]]:
    """The arrays' own type, and the arrays in the type of a product's operands."""
    return arrays[0].dtype, [
        array if operands is None else array.astype(operands) for array in arrays
    ]


def canonical(
    images: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: Sequence[tuple[Size, Size]],
    *,
    dimension_numbers: tuple[str, str, str],
    **options: Any,
) -> Array:
    """`lax.conv_general_dilated`, with its operands' axes in the order of `CANONICAL`.

    XLA brings a convolution's axes into that order by itself, but only at a program's top level.
    What is left in another order within a `lax.cond`, `lax.scan` or `lax.while_loop` takes up to a
    hundred times as long.
    """
    of_images, of_kernel, of_result = dimension_numbers
    result = lax.conv_general_dilated(
        in_order(images, of_images, CANONICAL[0]),
        in_order(kernel, of_kernel, CANONICAL[1]),
        strides,
        padding,
        dimension_numbers=CANONICAL,
        **options,
    )
    return in_order(result, CANONICAL[2], of_result)


def in_order(array: Array, names: str, wanted: str) -> Array:
    """An array whose axes have these names, with its axes in another order."""
    order = [names.index(name) for name in wanted]
    ordered = array.transpose(order)
    if order[-1] == array.ndim - 1:
        return ordered
    # As it lies in memory so far: XLA then copies it by blocks, and not in one loop.
    return with_layout_constraint(ordered, Layout(tuple(order.index(i) for i in range(array.ndim))))
