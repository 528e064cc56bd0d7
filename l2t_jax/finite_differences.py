"""A meta-gradient without second derivatives: differences of gradients in their place."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from l2t_jax._known import known
from l2t_jax._typing import Array, PyTree
from l2t_jax.adjoint import (
    TransposedGradient,
    both_gradients,
    differentiable_gradients,
    sweep,
)
from l2t_jax.unroll import Loss


def finite_difference_meta_gradient(
    outer_loss: Loss,
    inner_losses: Iterable[Loss],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    meta: PyTree,
    *,
    step: float | Array = 1e-3,
    central: bool = False,
) -> tuple[Array, PyTree]:
    """The meta-gradient by an adjoint sweep whose Hessian products are finite differences.

    ``H u ≈ (∇_θ L(θ + ε u) − ∇_θ L(θ)) / ε`` and ``dφ += (∇_φ L(θ + ε u) − ∇_φ L(θ)) / ε`` with
    ``ε = step · ‖θ‖ / ‖u‖``. It needs neither a second-order graph nor its memory, and one-sided
    fewer operations than an exact sweep. What it gives is an approximation: its error is of the
    order of ``step`` (``step²`` if central) plus that of the loss's rounding over ``step``. A loss
    that computes in less than float32, or whose products a device rounds, needs a larger step or
    another meta-gradient. Across a kink, such as that of a ReLU, it sees the mean slope, where the
    exact derivative sees none.

    The optimiser's own derivatives are exact. A loss with a derivative rule written by hand is
    differentiated exactly too, as in `l2t_jax.mixed_meta_gradient`.

    Args:
      outer_loss: ``(params, meta) -> scalar``, taken at the end of the unroll.
      inner_losses: ``(params, meta) -> scalar``, one a step, in order.
      optimizer: an optax transformation, as of `l2t_jax.unroll`.
      params: the inner parameters the unroll starts from, a pytree of arrays of float32 or wider.
      opt_state: the optimiser's state it starts from.
      meta: the meta-parameters φ, a pytree of arrays of float32 or wider.
      step: length of a difference, relative to the parameters' norm. So this norm must not be tiny
        beside the lengths over which the losses change.
      central: whether to take ``(∇L(θ + ε u) − ∇L(θ − ε u)) / 2ε``, for one gradient more.

    Returns:
      The outer loss, a scalar, and its gradient with respect to ``meta``.

    Raises:
      ValueError: ``step`` is not above 0, or parameters or meta-parameters are narrower
        than float32.

    Example:
      >>> sgd = optax.sgd(0.5)
      >>> inner = lambda params, meta: meta * jnp.square(params)
      >>> outer = lambda params, meta: params
      >>> value, gradient = finite_difference_meta_gradient(
      ...     outer, [inner], sgd, jnp.array(8.0), sgd.init(8.0), jnp.array(0.5), central=True)
      >>> float(value), round(float(gradient), 2)  # params (1 - meta), -params
      (4.0, -8.0)

    Source: the difference of gradients is that of Liu, Simonyan and Yang (2019), "DARTS", eq. 8.
    """
    length = known(step)
    if length is not None and not length > 0:
        raise ValueError(f"step must be above 0 (got {step}); 1e-3 suits float32")
    for name, tree in (("params", params), ("meta", meta)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            dtype = jnp.result_type(leaf)
            if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits < 32:
                place = " at ".join(filter(None, (str(dtype), jax.tree_util.keystr(path))))
                raise ValueError(
                    f"{name} must be float32 or wider for differences (got {place}); take another "
                    "meta-gradient"
                )
    params = jax.tree.map(jnp.asarray, params)
    by_difference = partial(_by_difference, step=step, central=central)
    differentiable = differentiable_gradients(inner_losses, params, meta, by_difference)
    return sweep(outer_loss, differentiable, optimizer, params, opt_state, meta)


def _by_difference(
    loss: Loss, params: PyTree, meta: PyTree, *, step: float | Array, central: bool
) -> tuple[PyTree, TransposedGradient]:
    """The gradient by the parameters, and how both gradients change along a direction."""
    gradients = both_gradients(loss, meta)
    here = gradients(params)

    def along(direction: PyTree) -> tuple[PyTree, PyTree]:
        # The direction's largest entry becomes 1, or its squares might not be representable.
        largest = _largest(direction)
        direction = jax.tree.map(lambda leaf: leaf / largest.astype(leaf.dtype), direction)
        size = _largest(params)
        size = size * optax.tree.norm(jax.tree.map(lambda leaf: leaf / size, params))
        length = optax.tree.norm(direction)
        # Of parameters that are all 0, or a direction that is, any length will do.
        step_length = step * jnp.where(size > 0, size, 1.0) / jnp.where(length > 0, length, 1.0)

        def moved(sign: float) -> tuple[PyTree, PyTree]:
            return gradients(
                jax.tree.map(
                    lambda leaf, change: leaf + (sign * step_length * change).astype(leaf.dtype),
                    params,
                    direction,
                )
            )

        ahead, behind = moved(1.0), moved(-1.0) if central else here
        span = step_length * (2 if central else 1)
        return jax.tree.map(lambda a, b: ((a - b) / span * largest).astype(a.dtype), ahead, behind)

    return here[0], along


def _largest(tree: PyTree) -> Array:
    """The largest absolute entry; 1 if all are 0."""
    entries = [jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(tree)]
    largest = jnp.max(jnp.stack([*entries, jnp.zeros(())]))
    return jnp.where(largest > 0, largest, 1)
