"""Differentiable unrolled updates, and meta-gradients through them.

The setting is a general bilevel problem. Inner parameters θ move by an optimiser along the
gradients of one inner loss a step, ``θ_{t+1}, s_{t+1} = update(∇_θ L_t(θ_t, φ), s_t, θ_t)``; the
meta-parameters φ are to reduce an outer loss of the last ``θ``. Every `MetaGradient` gives
``d outer / dφ``, optimiser included; they differ in cost only. The fast ones are in
`l2t_jax.adjoint`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax
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
      >>> import jax.numpy as jnp
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
    of every step.

    Args:
      outer_loss: ``(params, meta) -> scalar``, taken at the end of the unroll.
      inner_losses: ``(params, meta) -> scalar``, one a step, in order.
      optimizer: any optax transformation that can be differentiated.
      params: the inner parameters the unroll starts from, a pytree of real arrays.
      opt_state: the optimiser's state it starts from.
      meta: the meta-parameters φ, a pytree of real arrays.

    Returns:
      The outer loss, a scalar, and its gradient with respect to ``meta``.

    Example:
      >>> import jax.numpy as jnp
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
