"""Meta-gradients: an outer loss differentiated through unrolled updates, optimiser included.

Inner parameters θ move by an optimiser along the gradients of one inner loss a step, see `unroll`;
the meta-parameters φ are to reduce an outer loss of the last ``θ``. Every `MetaGradient` gives
``d outer / dφ``; those here differ in cost only. The fast ones sweep the unroll backwards, see
`l2t_jax.adjoint`. An approximate one is in `l2t_jax.finite_differences`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jax import lax

from l2t_jax._typing import Array, PyTree
from l2t_jax.adjoint import (
    DifferentiableGradient,
    differentiable_gradients,
    outer_cotangents,
    step_back,
    sweep,
    transposable_step,
)
from l2t_jax.unroll import Loss, unroll


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
          optimizer: an optax transformation, as of `unroll`.
          params: the inner parameters the unroll starts from.
          opt_state: the optimiser's state it starts from.
          meta: the meta-parameters φ; real arrays.

        Returns:
          The outer loss, and its gradient with respect to ``meta``.
        """


def reverse_meta_gradient(
    outer_loss: Loss,
    inner_losses: Iterable[Loss],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    meta: PyTree,
) -> tuple[Array, PyTree]:
    """The meta-gradient by `jax.grad` through the whole unroll (reverse over reverse).

    The shortest way to write it, and the oracle for the others; it stores the second-order graph
    of every step. It relies on nothing but what `jax.grad` relies on.

    Args:
      outer_loss: ``(params, meta) -> scalar``, taken at the end of the unroll.
      inner_losses: ``(params, meta) -> scalar``, one a step, in order.
      optimizer: an optax transformation, as of `unroll`.
      params: the inner parameters the unroll starts from, a pytree of real arrays.
      opt_state: the optimiser's state it starts from.
      meta: the meta-parameters φ, a pytree of real arrays.

    Returns:
      The outer loss, a scalar, and its gradient with respect to ``meta``.

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
    inner_losses: Iterable[Loss],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    meta: PyTree,
) -> tuple[Array, PyTree]:
    """The meta-gradient by an adjoint sweep that computes nothing twice.

    Each step is linearised when it is taken. What the linearisations keep grows with the number
    of steps, about as in plain reverse mode: this saves time, not memory.

    The sweep relies on symmetric second derivatives. An inner loss with a derivative rule written
    by hand (`jax.custom_vjp`, or `jax.custom_jvp` outside of JAX itself) need not have them: the
    gradient of its steps is transposed instead, at the cost of `reverse_meta_gradient`.

    Args:
      outer_loss: ``(params, meta) -> scalar``, taken at the end of the unroll.
      inner_losses: ``(params, meta) -> scalar``, one a step, in order.
      optimizer: an optax transformation, as of `unroll`.
      params: the inner parameters the unroll starts from, a pytree of real arrays.
      opt_state: the optimiser's state it starts from.
      meta: the meta-parameters φ, a pytree of real arrays.

    Returns:
      The outer loss, a scalar, and its gradient with respect to ``meta``.

    Example:
      >>> sgd = optax.sgd(0.5)
      >>> inner = lambda params, meta: meta * jnp.square(params)
      >>> outer = lambda params, meta: params
      >>> value, gradient = mixed_meta_gradient(
      ...     outer, [inner], sgd, jnp.array(8.0), sgd.init(8.0), jnp.array(0.5))
      >>> float(value), float(gradient)  # params (1 - meta), -params
      (4.0, -8.0)
    """
    differentiable = differentiable_gradients(inner_losses, params, meta)
    return sweep(outer_loss, differentiable, optimizer, params, opt_state, meta)


def low_memory_meta_gradient(
    outer_loss: Loss,
    inner_losses: Iterable[Loss],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    meta: PyTree,
    *,
    stored: int = 3,
) -> tuple[Array, PyTree]:
    """The meta-gradient by an adjoint sweep that takes each step anew when its turn comes.

    Only ``stored`` of the states on the way are kept; from the nearest of them a step's own is
    reached again. One step's linearisation exists at a time, so that the memory has one bound for
    any number of steps. Derivative rules written by hand are treated as in `mixed_meta_gradient`.

    The price is time: of T steps about ``T² / (2 stored)`` are taken again. ``stored`` near ``√T``
    keeps both low. Where the outer loss is NaN, so is the whole gradient, although that of the
    other modes may be finite.

    Args:
      outer_loss: ``(params, meta) -> scalar``, taken at the end of the unroll.
      inner_losses: ``(params, meta) -> scalar``, one a step, in order.
      optimizer: an optax transformation, as of `unroll`.
      params: the inner parameters the unroll starts from, a pytree of real arrays.
      opt_state: the optimiser's state it starts from.
      meta: the meta-parameters φ, a pytree of real arrays.
      stored: how many states to keep, the first included; evenly spaced.

    Returns:
      The outer loss, a scalar, and its gradient with respect to ``meta``.

    Raises:
      ValueError: ``stored`` is below 1.

    Example:
      >>> sgd = optax.sgd(0.5)
      >>> inner = lambda params, meta: meta * jnp.square(params)
      >>> outer = lambda params, meta: params
      >>> value, gradient = low_memory_meta_gradient(
      ...     outer, [inner], sgd, jnp.array(8.0), sgd.init(8.0), jnp.array(0.5))
      >>> float(value), float(gradient)  # params (1 - meta), -params
      (4.0, -8.0)
    """
    if stored < 1:
        raise ValueError(f"`stored` must be at least 1 (got {stored}); give the states to keep")
    inner_losses = list(inner_losses)  # also of an iterator, which can be gone through once
    steps = len(inner_losses)
    differentiable = differentiable_gradients(inner_losses, params, meta)
    spacing = max(-(-steps // stored), 1)
    kept = []
    for begin in range(0, steps, spacing):
        kept.append((params, opt_state))
        losses = inner_losses[begin : begin + spacing]
        params, opt_state = _looped(losses, optimizer, params, opt_state, meta)
    value, cotangents = outer_cotangents(outer_loss, params, opt_state, meta)
    # What is taken anew stands in a branch, or the compiler would see that it has it already, and
    # keep it. The other one is for an outer loss that is no number: then the gradient is none.
    anew = partial(lax.cond, value == value)
    for step in reversed(range(steps)):
        begin = step - step % spacing
        state = kept[begin // spacing]
        # The other branch looks at the cotangents, so that neither begins before they are there:
        # states of all steps, taken anew at once, would wait for them.
        after = _glance(cotangents.params)
        if step > begin:
            before = partial(_looped, inner_losses[begin:step], optimizer)
            like = jax.eval_shape(before, *state, meta, after)
            state = anew(before, partial(_unmoved, like), *state, meta, after)
        # The optimiser's transpose stands outside, where it works in place. One that is linear in
        # the gradient, such as SGD, does not need it: then this branch is left out of the program.
        gradient = anew(partial(_gradient, inner_losses[step]), _no_number, state[0], meta, after)
        transposed_step = transposable_step(optimizer, gradient, state[1], state[0])[2]
        transposed_gradient = partial(
            anew,
            partial(_transposed_along, differentiable[step]),
            lambda *given: _no_number(given[:2], *given),
            state[0],
            meta,
        )
        cotangents = step_back(transposed_step, transposed_gradient, cotangents)
    return value, cotangents.meta


def _transposed_along(
    differentiable: DifferentiableGradient, params: PyTree, meta: PyTree, direction: PyTree
) -> tuple[PyTree, PyTree]:
    return differentiable(params, meta)[1](direction)


def _glance(tree: PyTree) -> Array:
    """A number that is there when all arrays are."""
    firsts = [jnp.ravel(leaf)[0] for leaf in jax.tree.leaves(tree) if jnp.size(leaf)]
    return sum(firsts, jnp.zeros(()))


def _looped(
    losses: Sequence[Loss],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    meta: PyTree,
    *after: Array,
) -> tuple[PyTree, PyTree]:
    """As `unroll`, with a loop over equal steps: XLA would keep the gradients of all of them."""
    del after
    state = params, opt_state
    for _, equal in itertools.groupby(losses, id):
        repeated = list(equal)

        def step(_: Any, state: tuple[PyTree, PyTree], loss: Loss = repeated[0]) -> Any:
            return unroll([loss], optimizer, *state, meta)

        if jax.eval_shape(partial(step, 0), state) == jax.eval_shape(lambda state: state, state):
            state = lax.fori_loop(0, len(repeated), step, state)
        else:  # an optimiser whose state changes its type
            state = unroll(repeated, optimizer, *state, meta)
    return state


def _unmoved(
    like: tuple[PyTree, PyTree], params: PyTree, opt_state: PyTree, meta: PyTree, after: Array
) -> tuple[PyTree, PyTree]:
    """Parameters and state as they are, but for the types that steps would give them."""
    del meta
    params = jax.tree.map(lambda leaf: leaf + after.astype(leaf.dtype), params)
    return jax.tree.map(
        lambda leaf, wanted: leaf if leaf.dtype == wanted.dtype else leaf.astype(wanted.dtype),
        (params, opt_state),
        like,
    )


def _gradient(loss: Loss, params: PyTree, meta: PyTree, after: Array) -> PyTree:
    del after
    return jax.grad(loss)(params, meta)


def _no_number(tree: PyTree, *others: PyTree) -> PyTree:
    """NaN in the shapes of a tree; it waits for the last of what else is given."""
    nothing = _glance([leaf for leaf in jax.tree.leaves(others) if jnp.size(leaf)][-1:]) * jnp.nan
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, nothing), tree)
