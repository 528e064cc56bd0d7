"""A function whose products round their operands, as accelerators do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend import core

# The library's own convolutions, and those of JAX.
PRODUCTS = ("dot_general", "conv_general_dilated", "conv", "conv_spread", "conv_taps")
# Bits after the point: of a TPU's single pass, and of a GPU's tensor cores.
BITS = {"bfloat16": 7, "TensorFloat-32": 10}


def rounded(function: Callable[..., Any], bits: int) -> Callable[..., Any]:
    """The function with both operands of every float32 product rounded to so many bits.

    Products that ask for the highest precision themselves, such as those that resize images, are
    left as they are. An accelerator leaves them too.
    """

    def wrapped(*arguments: Any) -> Any:
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        found = evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(arguments), bits)
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return wrapped


def evaluate(jaxpr: Any, constants: list[Any], arguments: list[Any], bits: int) -> list[Any]:
    """Evaluates a jaxpr with rounded products, also in the functions that it calls."""
    known: dict[Any, Any] = {}
    known |= zip(jaxpr.constvars, constants, strict=True)
    known |= zip(jaxpr.invars, arguments, strict=True)

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        name = equation.primitive.name
        inner = equation.params.get("jaxpr")
        if inner is not None and name in ("jit", "pjit", "closed_call"):
            found = evaluate(inner.jaxpr, inner.consts, given, bits)
        else:
            highest = (lax.Precision.HIGHEST,) * 2
            if name in PRODUCTS and equation.params.get("precision") != highest:
                given = [lax.reduce_precision(operand, 8, bits) for operand in given]
            bound = equation.primitive.get_bind_params(equation.params)
            # Of some versions of JAX a tuple, of others the parameters alone.
            subfunctions, params = bound if isinstance(bound, tuple) else ((), bound)
            found = equation.primitive.bind(*subfunctions, *given, **params)
            found = found if equation.primitive.multiple_results else [found]
        known |= zip(equation.outvars, found, strict=True)
    return [read(atom) for atom in jaxpr.outvars]
