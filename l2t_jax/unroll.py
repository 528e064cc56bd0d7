"""Differentiable unrolled updates.

Inner parameters θ move by an optimiser along the gradients of one inner loss a step,
``θ_{t+1}, s_{t+1} = update(∇_θ L_t(θ_t, φ), s_t, θ_t)``, with meta-parameters φ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import jax
import optax

from l2t_jax._typing import Array, PyTree
from l2t_jax.optimizers import apply_gradient

Loss = Callable[[PyTree, PyTree], Array]


def unroll(
    inner_losses: Iterable[Loss],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    meta: PyTree,
) -> tuple[PyTree, PyTree]:
    """Takes one optimiser step on each loss in turn; differentiable in everything.

    A parameter that a loss does not depend on gets a zero gradient, so that weight decay and
    momentum still move it.

    Many optimisers have no derivative at some point: the root in Adam at a parameter that never
    had a gradient, a norm in clipping where all gradients are zero. A slope of the update's
    elementwise operations that is not finite counts as zero there. Values are not touched.

    Args:
      inner_losses: functions ``(params, meta) -> scalar``, one a step, in order.
      optimizer: any optax transformation that needs gradients, its state and parameters only.
        Parameters of a form of its own, as of `optax.lookahead`, it must not have.
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
