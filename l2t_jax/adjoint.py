"""One step of an unroll backwards, for the sweeps in `l2t_jax.meta_gradients`.

With ``a`` and ``b`` the adjoints of parameters and optimiser state after a step, the step's adjoint
is ``(u, b, a') = update^T(a, b)``, the transposed optimiser, which gives the cotangent ``u`` of the
gradient ``g = ∇_θ L``, and then

    a ← a' + (∂g/∂θ)^T u,    dφ ← dφ + (∂g/∂φ)^T u.

Where ``g`` is a gradient, ``∂g/∂θ`` is a Hessian ``H``, which is its own transpose, so that

    (∂g/∂θ)^T u = H u,    (∂g/∂φ)^T u = d/dε ∇_φ L(θ + ε u, φ).

Both are one tangent of the step's own gradient along ``u``. Transposing that gradient instead, as
`jax.grad` of an unroll does, leaves the forms to the second transpose: with the bundled networks,
whose convolutions have the same fast forms in every derivative, it takes as long; with XLA's own
convolutions on a CPU twice as long.

A derivative rule that is written by hand, such as reversing or clipping a gradient, gives a ``g``
that is no gradient of anything, and a Jacobian without that symmetry. Losses with such rules are
found when they are traced, and for them ``g`` is transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2t_jax._jaxprs import has_handwritten_rules
from l2t_jax._typing import Array, PyTree
from l2t_jax.optimizers import apply_gradient
from l2t_jax.unroll import Loss


class Cotangents(NamedTuple):
    """Gradients of the outer loss by what goes into the steps that are left.

    Attributes:
      params: by the inner parameters.
      state: by the real leaves of the optimiser's state.
      meta: by the meta-parameters, summed over the steps that are done.
    """

    params: PyTree
    state: list[Array]
    meta: PyTree


TransposedGradient = Callable[[PyTree], tuple[PyTree, PyTree]]
DifferentiableGradient = Callable[[PyTree, PyTree], tuple[PyTree, TransposedGradient]]
TransposedStep = Callable[[PyTree, list[Array]], tuple[PyTree, list[Array], PyTree]]


def sweep(
    outer_loss: Loss,
    differentiable: Sequence[DifferentiableGradient],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    meta: PyTree,
) -> tuple[Array, PyTree]:
    """The unroll forwards, then backwards: the outer loss, and its gradient by ``meta``."""
    taken = []
    for gradient_and_transpose in differentiable:
        gradient, transposed_gradient = gradient_and_transpose(params, meta)
        params, opt_state, transposed_step = transposable_step(
            optimizer, gradient, opt_state, params
        )
        taken.append((transposed_step, transposed_gradient))
    value, cotangents = outer_cotangents(outer_loss, params, opt_state, meta)
    for transposed_step, transposed_gradient in reversed(taken):
        cotangents = step_back(transposed_step, transposed_gradient, cotangents)
    return value, cotangents.meta


def both_gradients(loss: Loss, meta: PyTree) -> Callable[[PyTree], tuple[PyTree, PyTree]]:
    """``params -> (∇_θ L, ∇_φ L)``, whose change along a direction is a step's adjoint."""
    return lambda params: jax.grad(loss, argnums=(0, 1))(params, meta)


def _symmetric(loss: Loss, params: PyTree, meta: PyTree) -> tuple[PyTree, TransposedGradient]:
    """By the symmetry of second derivatives: how both gradients change along a direction."""
    (gradient, _), tangent = jax.linearize(both_gradients(loss, meta), params)
    return gradient, tangent


def differentiable_gradients(
    losses: Iterable[Loss],
    params: PyTree,
    meta: PyTree,
    symmetric: Callable[[Loss, PyTree, PyTree], tuple[PyTree, TransposedGradient]] = _symmetric,
) -> list[DifferentiableGradient]:
    """Each loss's gradient by the parameters, with its transpose, the cheapest way that is right.

    Args:
      losses: ``(params, meta) -> scalar``; each is traced once, however often it occurs.
      params: parameters, or their shapes.
      meta: meta-parameters, or their shapes.
      symmetric: the way for a loss whose second derivatives are symmetric.

    Returns:
      For each loss a function ``(params, meta) -> (g, transpose)``, where ``transpose`` maps ``u``
      to ``(∂g/∂θ)^T u`` and ``(∂g/∂φ)^T u``.
    """
    losses = list(losses)  # also of an iterator, which can be gone through once
    ways: dict[int, DifferentiableGradient] = {}
    for loss in losses:
        if id(loss) not in ways:
            by_hand = has_handwritten_rules(loss, params, meta)
            ways[id(loss)] = partial(_transposed if by_hand else symmetric, loss)
    return [ways[id(loss)] for loss in losses]


def _transposed(loss: Loss, params: PyTree, meta: PyTree) -> tuple[PyTree, TransposedGradient]:
    """Without it: reverse mode over reverse mode."""
    return jax.vjp(jax.grad(loss), params, meta)


def outer_cotangents(
    outer_loss: Loss, params: PyTree, opt_state: PyTree, meta: PyTree
) -> tuple[Array, Cotangents]:
    """The outer loss, and its gradients after the last step."""
    value, (params_bar, meta_bar) = jax.value_and_grad(outer_loss, argnums=(0, 1))(params, meta)
    return value, Cotangents(
        params_bar, jax.tree.map(jnp.zeros_like, _split(opt_state)[0]), meta_bar
    )


def step_back(
    transposed_step: TransposedStep, transposed_gradient: TransposedGradient, after: Cotangents
) -> Cotangents:
    """A step's adjoint: from the cotangents after it to those before it."""
    gradient_bar, state_bar, params_bar = transposed_step(after.params, after.state)
    through_gradient, meta_bar = transposed_gradient(gradient_bar)
    return Cotangents(
        jax.tree.map(jnp.add, params_bar, through_gradient),
        state_bar,
        jax.tree.map(jnp.add, after.meta, meta_bar),
    )


def transposable_step(
    optimizer: optax.GradientTransformation, gradient: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree, TransposedStep]:
    """An optimiser step and its transpose, over the real leaves of the optimiser's state."""
    real, rest = _split(opt_state)

    def step(gradient: PyTree, real: list[Array], params: PyTree) -> Any:
        params, opt_state = apply_gradient(optimizer, gradient, _join(real, rest), params)
        real, other = _split(opt_state)
        return (params, real), other

    (params, real), vjp, rest = jax.vjp(step, gradient, real, params, has_aux=True)
    return params, _join(real, rest), lambda params_bar, real_bar: vjp((params_bar, real_bar))


def _split(tree: PyTree) -> tuple[list[Array], tuple[Any, list[Any]]]:
    """Parts a pytree into its real leaves, which have derivatives, and all the rest."""
    leaves, treedef = jax.tree.flatten(tree)
    is_real = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves]
    real = [leaf for leaf, flag in zip(leaves, is_real, strict=True) if flag]
    other = [None if flag else leaf for leaf, flag in zip(leaves, is_real, strict=True)]
    return real, (treedef, other)


def _join(real: list[Array], rest: tuple[Any, list[Any]]) -> PyTree:
    """Undoes `_split`."""
    treedef, other = rest
    remaining = iter(real)
    return jax.tree.unflatten(
        treedef, [next(remaining) if leaf is None else leaf for leaf in other]
    )
