"""Looking into traced programs: their equations, and derivative rules written by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from inspect import unwrap
from pathlib import PurePath
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

# Primitives whose backward pass, or whose transpose, is whatever their author wrote.
_WRITTEN_BY_HAND = ("custom_vjp_call", "linear_call", "custom_transpose_call")
_JAX = PurePath(jax.__file__).parent


def subjaxprs(value: Any) -> Iterator[Jaxpr]:
    """The programs within a parameter of an equation."""
    if isinstance(value, ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from subjaxprs(part)


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """All equations of a program, those of the programs within it too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in subjaxprs(value):
                yield from equations(inner)


def has_handwritten_rules(function: Callable, *args: Any) -> bool:
    """Whether a function has derivative rules that may be no derivatives.

    Those are `jax.custom_vjp`, `jax.custom_gradient`, `jax.custom_derivatives.linear_call` and
    `jax.custom_jvp`, except for the rules that come with JAX, such as that of `jax.nn.relu`.

    Args:
      function: any function that JAX can trace.
      *args: its arguments, arrays or shapes.

    Returns:
      Whether any of them occurs, at whatever depth.

    Example:
      >>> import jax.numpy as jnp
      >>> has_handwritten_rules(jax.nn.relu, jnp.ones(3))
      False
      >>> has_handwritten_rules(jax.jit(jax.custom_gradient(lambda x: (x, lambda g: -g))), 1.0)
      True
    """
    program = jax.make_jaxpr(function)(*args)
    return any(_is_handwritten(equation) for equation in equations(program.jaxpr))


def _is_handwritten(equation: JaxprEqn) -> bool:
    name = equation.primitive.name
    if name.startswith(_WRITTEN_BY_HAND):
        return True
    return name.startswith("custom_jvp_call") and not _comes_with_jax(equation)


def _comes_with_jax(equation: JaxprEqn) -> bool:
    """Whether a function with a rule of its own is one of JAX, and the rule as well.

    A rule that is written with ``defjvps`` looks like JAX's own wherever it was written. What
    tells is then the function: JAX must know it by its name as one that has a rule, and it must
    not be another's, around JAX's.
    """
    program = equation.params["call_jaxpr"].jaxpr
    try:
        name, of_function = _origin(program.debug_info)
        _, of_rule = _origin(equation.params["jvp_jaxpr_fun"].debug_info)
        module = sys.modules[
            ".".join(("jax", *of_function.relative_to(_JAX).with_suffix("").parts))
        ]
        of_rule.relative_to(_JAX)
        known = getattr(module, name)
    except (AttributeError, KeyError, ValueError):
        return False
    ruled = unwrap(known, stop=lambda layer: isinstance(layer, jax.custom_jvp))
    around = any(inner.primitive is equation.primitive for inner in equations(program))
    return isinstance(ruled, jax.custom_jvp) and not around


def _origin(debug_info: Any) -> tuple[str, PurePath]:
    """A traced function's name and file, from ``name at file:line``."""
    name, _, place = debug_info.func_src_info.partition(" at ")
    return name, PurePath(place.rpartition(":")[0])
