"""Differentiable unrolled updates, and meta-gradients through them.

The setting is a general bilevel problem. Inner parameters θ move by an optimiser along the
gradients of one inner loss a step, ``θ_{t+1}, s_{t+1} = update(∇_θ L_t(θ_t, φ), s_t, θ_t)``; the
meta-parameters φ are to reduce an outer loss of the last ``θ``. The functions ending in
``_meta_gradient`` all give ``d outer / dφ``, optimiser included; they differ in cost only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from l2t_jax._typing import Array, PyTree

Loss = Callable[[PyTree, PyTree], Array]


def apply_gradient(
    optimizer: optax.GradientTransformation, gradient: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree]:
    """One optimiser step: ``(gradient, opt_state, params) -> (params, opt_state)``."""
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def unroll(
    inner_losses: Sequence[Loss],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    meta: PyTree,
) -> tuple[PyTree, PyTree]:
    """Takes one optimiser step on each loss in turn; differentiable in everything.

    A parameter that a loss does not depend on gets a zero gradient, so that weight decay and
    momentum still move it.

    Args:
      inner_losses: functions ``(params, meta) -> scalar``, one a step, in order.
      optimizer: any optax transformation.
      params: the inner parameters θ.
      opt_state: the optimiser's state for ``params``.
      meta: the meta-parameters φ.

    Returns:
      The parameters and the optimiser's state after the last step.

    Example:
      >>> sgd = optax.sgd(0.5)
      >>> loss = lambda params, meta: meta * jnp.square(params)
      >>> float(unroll([loss, loss], sgd, jnp.array(8.0), sgd.init(8.0), jnp.array(0.5))[0])
      2.0
    """
    for loss in inner_losses:
        params, opt_state = apply_gradient(
            optimizer, jax.grad(loss)(params, meta), opt_state, params
        )
    return params, opt_state


@runtime_checkable
class MetaGradient(Protocol):
    def __call__(
        self,
        outer_loss: Loss,
        inner_losses: Sequence[Loss],
        optimizer: optax.GradientTransformation,
        params: PyTree,
        opt_state: PyTree,
        meta: PyTree,
    ) -> tuple[Array, PyTree]:
        """Differentiates an outer loss through unrolled updates.

        Args:
          outer_loss: ``(params, meta) -> scalar``, taken at the end of the unroll.
          inner_losses: ``(params, meta) -> scalar``, one a step, in order.
          optimizer: any optax transformation that can be differentiated.
          params: the inner parameters the unroll starts from.
          opt_state: the optimiser's state it starts from.
          meta: the meta-parameters φ; real arrays.

        Returns:
          The outer loss, and its gradient with respect to ``meta``.
        """


def reverse_meta_gradient(
    outer_loss: Loss,
    inner_losses: Sequence[Loss],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    meta: PyTree,
) -> tuple[Array, PyTree]:
    """The meta-gradient by `jax.grad` through the whole unroll (reverse over reverse).

    The shortest way to write it, and the oracle for the others; it stores the second-order graph
    of every step. See `MetaGradient` for arguments and returns.

    Example:
      >>> sgd = optax.sgd(0.5)
      >>> inner = lambda params, meta: meta * jnp.square(params)
      >>> outer = lambda params, meta: params
      >>> value, gradient = reverse_meta_gradient(
      ...     outer, [inner], sgd, jnp.array(8.0), sgd.init(8.0), jnp.array(0.5))
      >>> float(value), float(gradient)  # params (1 - meta), -params
      (4.0, -8.0)
    """

    def outer(meta: PyTree) -> Array:
        end, _ = unroll(inner_losses, optimizer, params, opt_state, meta)
        return outer_loss(end, meta)

    return jax.value_and_grad(outer)(meta)


def mixed_meta_gradient(
    outer_loss: Loss,
    inner_losses: Sequence[Loss],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    meta: PyTree,
) -> tuple[Array, PyTree]:
    """The meta-gradient by an adjoint sweep with forward-over-reverse steps.

    With ``a`` and ``b`` the adjoints of parameters and optimiser state after a step, the step's
    adjoint is ``(u, b, a') = update^T(a, b)``, the transposed optimiser, which gives the cotangent
    ``u`` of the gradient, and then, by the symmetry of the Hessian,

        ``a ← a' + H u``,  ``dφ ← dφ + d/dε ∇_φ L(θ + ε u, φ)``.

    Both are one tangent of the step's own gradient along ``u``, linearised when the step was
    taken, so that nothing is computed twice. What the linearisations keep grows with the number
    of steps, about as in plain reverse mode: this saves time, not memory. See `MetaGradient` for
    arguments and returns.

    Example:
      >>> sgd = optax.sgd(0.5)
      >>> inner = lambda params, meta: meta * jnp.square(params)
      >>> outer = lambda params, meta: params
      >>> value, gradient = mixed_meta_gradient(
      ...     outer, [inner], sgd, jnp.array(8.0), sgd.init(8.0), jnp.array(0.5))
      >>> float(value), float(gradient)  # params (1 - meta), -params
      (4.0, -8.0)
    """
    tape = []
    for loss in inner_losses:

        def gradients(params: PyTree, loss: Loss = loss) -> tuple[PyTree, PyTree]:
            return jax.grad(loss, argnums=(0, 1))(params, meta)

        (gradient, _), tangents = jax.linearize(gradients, params)
        params, opt_state, transposed = _transposable_step(optimizer, gradient, opt_state, params)
        tape.append((tangents, transposed))

    value, (params_bar, meta_bar) = jax.value_and_grad(outer_loss, argnums=(0, 1))(params, meta)
    state_bar = jax.tree.map(jnp.zeros_like, _split(opt_state)[0])
    for tangents, transposed in reversed(tape):
        gradient_bar, state_bar, params_bar = transposed(params_bar, state_bar)
        hessian_product, cross = tangents(gradient_bar)
        params_bar = jax.tree.map(jnp.add, params_bar, hessian_product)
        meta_bar = jax.tree.map(jnp.add, meta_bar, cross)
    return value, meta_bar


def _transposable_step(
    optimizer: optax.GradientTransformation, gradient: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree, Callable[[PyTree, PyTree], tuple[PyTree, PyTree, PyTree]]]:
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
