"""Derivatives of functions that have none at some point, such as an optimiser's update at zero.

Optimisers are written to be run, not to be differentiated. Adam divides by √v and clipping by a
norm; at v = 0 the slope of the root is infinite, and the chain rule takes it times the zero slope
of v. That is NaN, and it spreads to all else. Here such slopes are defined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from l2t_jax._jaxprs import subjaxprs
from l2t_jax._typing import Array, PyTree

# Elementwise operations with a finite value, or a value that goes unused, where a slope is not.
_SINGULAR = (
    *("acos", "acosh", "asin", "atan2", "atanh", "cbrt", "digamma", "div", "erf_inv"),
    *("integer_pow", "lgamma", "log", "log1p", "pow", "rsqrt", "sqrt", "tan"),
)
# Operations that run programs within their parameters.
_CALLS = ("checkpoint", "closed_call", "jit", "pjit", "remat", "remat2")
_RUNS_PROGRAMS = (*_CALLS, "cond", "scan", "while")


def finite_derivatives(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """The same function, in whose derivative a slope counts as zero where it is not finite.

    With ``f = f_n ∘ … ∘ f_1`` in elementwise operations, each partial derivative ``∂f_k/∂x`` in
    the chain rule is replaced by zero wherever it is infinite or NaN. Values stay as they are, in a
    compiled program to the bit. A function without an operation that has such points, such as
    SGD's update, is called as it is. Rules that a function has of its own (`jax.custom_jvp`,
    `jax.custom_vjp`) are kept.

    What is NaN in the values stays NaN there, and a NaN that is passed into the derivative stays
    one: only slopes are replaced.

    Args:
      function: a function of pytrees that JAX can trace.

    Returns:
      A function of the same arguments, which can be differentiated in forward and in reverse mode.

    Example:
      >>> function = lambda x: jnp.sqrt(jnp.sum(jnp.square(x)))
      >>> jax.grad(function)(jnp.zeros(2)).tolist()
      [nan, nan]
      >>> jax.grad(finite_derivatives(function))(jnp.zeros(2)).tolist()
      [0.0, 0.0]
    """

    def defined(*args: PyTree) -> PyTree:
        leaves, treedef = jax.tree.flatten(args)
        traced = [isinstance(leaf, jax.Array | np.ndarray | np.generic) for leaf in leaves]

        def flat(arrays: Sequence[Array]) -> PyTree:
            remaining = iter(arrays)
            given = [
                next(remaining) if flag else leaf for leaf, flag in zip(leaves, traced, strict=True)
            ]
            return function(*jax.tree.unflatten(treedef, given))

        arrays = [leaf for leaf, flag in zip(leaves, traced, strict=True) if flag]
        program, shapes = jax.make_jaxpr(flat, return_shape=True)(arrays)
        if not _is_singular(program.jaxpr):
            return function(*args)
        results = _evaluate(program.jaxpr, program.consts, arrays)
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return defined


def _is_singular(jaxpr: Jaxpr, moving: Sequence[bool] | None = None) -> bool:
    """Whether an operation in `_SINGULAR` works on real values that come from the inputs."""
    flags = [True] * len(jaxpr.invars) if moving is None else moving
    moves = {var for var, flag in zip(jaxpr.invars, flags, strict=True) if flag and _is_real(var)}
    moves.update(var for var in jaxpr.constvars if _is_real(var))
    for equation in jaxpr.eqns:
        given = [not isinstance(atom, Literal) and atom in moves for atom in equation.invars]
        if not any(given):
            continue
        if equation.primitive.name in _SINGULAR and _can_be_singular(equation):
            return True
        for inner in subjaxprs(tuple(equation.params.values())):
            one_to_one = equation.primitive.name in _CALLS
            if _is_singular(inner, given if one_to_one else None):
                return True
        moves.update(var for var in equation.outvars if _is_real(var))
    return False


def _is_real(atom: Any) -> bool:
    return jnp.issubdtype(atom.aval.dtype, jnp.inexact)


def _can_be_singular(equation: JaxprEqn) -> bool:
    if equation.primitive.name == "integer_pow":
        return equation.params["y"] < 0
    if equation.primitive.name == "div":
        return not isinstance(equation.invars[1], Literal)
    return True


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Runs a program, with the slopes of its elementwise operations made finite."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        results = _run(equation, [read(atom) for atom in equation.invars])
        if not equation.primitive.multiple_results:
            results = [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _run(equation: JaxprEqn, operands: list[Any]) -> Any:
    primitive, params = equation.primitive, equation.params
    variable = [_is_real(atom) and not isinstance(atom, Literal) for atom in equation.invars]
    singular = primitive.name in _SINGULAR and _can_be_singular(equation)
    with equation.ctx.manager:
        # The factor of a product is a slope, which may have become infinite on the way.
        if any(variable) and (singular or (primitive.name == "mul" and all(variable))):
            return _with_finite_slopes(equation, variable, operands)
        if primitive.name in _RUNS_PROGRAMS:
            params = {name: _replaced(value) for name, value in params.items()}
        bound = primitive.get_bind_params(params)
        subfunctions, params = bound if isinstance(bound, tuple) else ((), bound)
        return primitive.bind(*subfunctions, *operands, **params)


def _replaced(value: Any) -> Any:
    """A parameter of an equation, whose programs are `_evaluate` of what they were."""
    if isinstance(value, tuple):
        parts = [_replaced(part) for part in value]
        return value if all(a is b for a, b in zip(parts, value, strict=True)) else tuple(parts)
    # First the closed ones: since jax 0.11 both kinds are one class.
    if not isinstance(value, ClosedJaxpr):
        if not isinstance(value, Jaxpr) or value.constvars:
            return value
        replaced = _replaced(ClosedJaxpr(value, ()))
        return replaced.jaxpr if not replaced.consts else value
    if not _is_singular(value.jaxpr) or len(value.consts) != len(value.jaxpr.constvars):
        return value
    shapes = [
        jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)
        for aval in value.in_avals
    ]
    return jax.make_jaxpr(lambda *args: _evaluate(value.jaxpr, value.consts, args))(*shapes)


def _with_finite_slopes(equation: JaxprEqn, variable: list[bool], operands: list[Any]) -> Array:
    """An elementwise operation's value, with zero for its slopes where they are not finite."""
    name = equation.primitive.name
    # Whole numbers too: since jax 0.11 no rule may close over what is traced.
    positions = [
        position for position, atom in enumerate(equation.invars) if not isinstance(atom, Literal)
    ]

    def of(*moving: Array) -> Array:
        given = list(operands)
        for position, value in zip(positions, moving, strict=True):
            given[position] = value
        return equation.primitive.bind(*given, **equation.params)

    def along(which: int, moving: Sequence[Array], tangent: Array) -> Array:
        def of_one(x: Array) -> Array:
            return of(*moving[:which], x, *moving[which + 1 :])

        return jax.jvp(of_one, (moving[which],), (tangent,))[1]

    def slope(which: int, moving: Sequence[Array]) -> Array:
        one = jnp.ones((), moving[which].dtype)
        if name == "mul" or (name == "div" and positions[which] == 0):
            return of(*moving[:which], one, *moving[which + 1 :])  # a number where the rest is
        return along(which, moving, jnp.broadcast_to(one, moving[which].shape))

    defined = jax.custom_jvp(of)

    @partial(defined.defjvp, symbolic_zeros=True)
    def rule(moving: Sequence[Array], tangents: Sequence[Any]) -> tuple[Array, Array]:
        result = defined(*moving)
        total = jnp.zeros_like(result)
        for which, tangent in enumerate(tangents):
            if isinstance(tangent, SymbolicZero):
                continue
            finite = jnp.isfinite(slope(which, moving))
            # Chosen before and after, so that nothing gets through in either direction; and no
            # higher derivative gets through to the operands, whose values stay.
            still = [
                jnp.where(finite, x, lax.stop_gradient(x)) if variable[position] else x
                for position, x in zip(positions, moving, strict=True)
            ]
            change = along(which, still, jnp.where(finite, tangent, 0))
            total += jnp.where(finite, change, 0)
        return result, total

    return defined(*(operands[position] for position in positions))
