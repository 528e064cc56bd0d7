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

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim
from jax.extend.core import Primitive
from jax.interpreters import ad
from jax.typing import DTypeLike

from l2t_jax._ops.platform_primitive import define
from l2t_jax._typing import Array, Size

# Types for which XLA has fast convolutions on a CPU; for others, such as float64, it has loops.
FAST_TYPES = ("float32",)

# The order of axes that XLA's CPU back end has fast convolutions for.
CANONICAL = ("NHWC", "HWIO", "NHWC")

# As `jax.default_matmul_precision` names it; None for the platform's own.
Precision = str | None


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
    images: tuple[Size, Size]

    @property
    def outputs(self) -> tuple[Size, Size]:
        """Height and width of the convolution's output."""
        height, width = (
            (image + low + high - size) // stride + 1
            for image, (low, high), size, stride in zip(
                self.images, self.padding, self.size, self.strides, strict=True
            )
        )
        return height, width

    @property
    def spaced(self) -> tuple[Size, Size]:
        """Height and width of the output with its positions as far apart as in the input."""
        height, width = (
            (output - 1) * stride + 1
            for output, stride in zip(self.outputs, self.strides, strict=True)
        )
        return height, width


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
    return conv_p.bind(images, kernel, window=window, operands=name, precision=precision)


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
    return array.transpose([names.index(name) for name in wanted])


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


def is_product(window: Window) -> bool:
    """Whether a convolution is no more than a matrix product."""
    return window == Window((1, 1), (1, 1), ((0, 0), (0, 0)), window.images)


def sees_all(window: Window) -> bool:
    """Whether every output sees the whole map, as on 2x2 maps with a padded 3x3 kernel."""
    if any(is_symbolic_dim(size) for size in window.images):
        return False
    return all(
        low - (output - 1) * stride >= 0 and low + image <= size
        for size, stride, (low, _), image, output in zip(
            window.size,
            window.strides,
            window.padding,
            window.images,
            window.outputs,
            strict=True,
        )
    )


AS_ON_CPU: dict[str, Any] = {"operands": None, "precision": None, "convolution": canonical}


def is_fast(array: Array, window: Window) -> bool:
    """Whether XLA's own convolution is the fastest form on a CPU."""
    return array.dtype.name in FAST_TYPES and window.size != (1, 1)


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


def flattened(images: Array) -> Array:
    """A map as a vector, ``[B, H, W, I] -> [B, H·W·I]``."""
    return images.reshape(images.shape[0], math.prod(images.shape[1:]))


def corners(window: Window) -> Iterator[tuple[int, ...]]:
    """Where in the kernel the map lies for each output, if every output sees the whole map."""
    for position in itertools.product(*(range(count) for count in window.outputs)):
        yield tuple(
            low - index * stride
            for index, stride, (low, _) in zip(
                position, window.strides, window.padding, strict=True
            )
        )


def parts(kernel: Array, window: Window) -> Iterator[Array]:
    """The part of the kernel that lies on the map for each output, ``[H·W·I, O]``."""
    height, width = window.images
    for top, left in corners(window):
        part = kernel[top : top + height, left : left + width]
        yield part.reshape(-1, kernel.shape[3])


def seen_through(window: Window) -> Iterator[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """For each tap of the kernel, which position of the map each output sees through it."""
    outputs = list(itertools.product(*(range(count) for count in window.outputs)))
    for tap in itertools.product(*(range(count) for count in window.size)):
        pairs = [
            (
                tuple(a - b for a, b in zip(tap, corner, strict=True)),
                output,
            )
            for output, corner in zip(outputs, corners(window), strict=True)
        ]
        yield [
            (seen, output)
            for seen, output in pairs
            if all(0 <= place < size for place, size in zip(seen, window.images, strict=True))
        ]


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


def taps(window: Window) -> Iterator[tuple[tuple[int, ...], tuple[Size, ...]]]:
    """First and last-plus-one positions, in the padded map, that each tap of the kernel sees."""
    for begin in itertools.product(range(window.size[0]), range(window.size[1])):
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
