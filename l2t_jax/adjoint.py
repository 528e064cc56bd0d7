"""Meta-gradients by an adjoint sweep over the unrolled steps, forward over reverse.

With ``a`` and ``b`` the adjoints of parameters and optimiser state after a step, the step's adjoint
is ``(u, b, a') = update^T(a, b)``, the transposed optimiser, which gives the cotangent ``u`` of the
gradient, and then, by the symmetry of the Hessian,

    a ← a' + H u,    dφ ← dφ + d/dε ∇_φ L(θ + ε u, φ).

Both are one tangent of the step's own gradient along ``u``. Transposing that gradient instead, as
`jax.grad` of an unroll does, leaves the forms to the second transpose: with the bundled networks,
whose convolutions have the same fast forms in every derivative, it takes as long; with XLA's own
convolutions on a CPU twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from l2t_jax._typing import Array, PyTree
from l2t_jax.unroll import Loss, apply_gradient, unroll


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


Tangent = Callable[[PyTree], tuple[PyTree, PyTree]]
Transposed = Callable[[PyTree, list[Array]], tuple[PyTree, list[Array], PyTree]]


def mixed_meta_gradient(
    outer_loss: Loss,
    inner_losses: Sequence[Loss],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    meta: PyTree,
) -> tuple[Array, PyTree]:
    """The meta-gradient by an adjoint sweep that computes nothing twice.

    Each step is linearised when it is taken. What the linearisations keep grows with the number
    of steps, about as in plain reverse mode: this saves time, not memory.

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
      >>> sgd = optax.sgd(0.5)
      >>> inner = lambda params, meta: meta * jnp.square(params)
      >>> outer = lambda params, meta: params
      >>> value, gradient = mixed_meta_gradient(
      ...     outer, [inner], sgd, jnp.array(8.0), sgd.init(8.0), jnp.array(0.5))
      >>> float(value), float(gradient)  # params (1 - meta), -params
      (4.0, -8.0)
    """
    taken = []
    for loss in inner_losses:
        gradient, tangent = _linearized_gradient(loss, params, meta)
        params, opt_state, transposed = _transposable_step(optimizer, gradient, opt_state, params)
        taken.append((transposed, tangent))
    value, cotangents = _outer(outer_loss, params, opt_state, meta)
    for transposed, tangent in reversed(taken):
        cotangents = _step_back(transposed, tangent, cotangents)
    return value, cotangents.meta


def low_memory_meta_gradient(
    outer_loss: Loss,
    inner_losses: Sequence[Loss],
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
    any number of steps.

    Args:
      outer_loss: ``(params, meta) -> scalar``, taken at the end of the unroll.
      inner_losses: ``(params, meta) -> scalar``, one a step, in order.
      optimizer: any optax transformation that can be differentiated.
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
        raise ValueError(f"{stored} stored states came; wanted 1 or more")
    steps = len(inner_losses)
    spacing = max(-(-steps // stored), 1)
    kept = []
    for begin in range(0, steps, spacing):
        kept.append((params, opt_state))
        losses = inner_losses[begin : begin + spacing]
        params, opt_state = unroll(losses, optimizer, params, opt_state, meta)
    value, cotangents = _outer(outer_loss, params, opt_state, meta)
    # What is taken anew stands in a branch, or the compiler would see that it has it already, and
    # keep it. The other one is for an outer loss that is no number: then neither is its gradient.
    anew = partial(lax.cond, value == value)
    for step in reversed(range(steps)):
        begin, loss = step - step % spacing, inner_losses[step]
        state = kept[begin // spacing]
        if step > begin:
            before = partial(unroll, inner_losses[begin:step], optimizer)
            state = anew(before, lambda *operands: operands[:2], *state, meta)
        # The optimiser's transpose stands outside, where it works in place. One that is linear in
        # the gradient, such as SGD, does not need it: then this branch is left out of the program.
        gradient = anew(jax.grad(loss), _no_number, state[0], meta)
        transposed = _transposable_step(optimizer, gradient, state[1], state[0])[2]
        along = partial(_tangent, loss)
        tangent = partial(anew, along, lambda *given: _no_number(given[:2]), state[0], meta)
        cotangents = _step_back(transposed, tangent, cotangents)
    return value, cotangents.meta


def _no_number(tree: PyTree, *others: PyTree) -> PyTree:
    del others
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), tree)


def _outer(
    outer_loss: Loss, params: PyTree, opt_state: PyTree, meta: PyTree
) -> tuple[Array, Cotangents]:
    """The outer loss, and its gradients after the last step."""
    value, (params_bar, meta_bar) = jax.value_and_grad(outer_loss, argnums=(0, 1))(params, meta)
    return value, Cotangents(
        params_bar, jax.tree.map(jnp.zeros_like, _split(opt_state)[0]), meta_bar
    )


def _linearized_gradient(loss: Loss, params: PyTree, meta: PyTree) -> tuple[PyTree, Tangent]:
    """A step's gradient, and how it and the one by the meta-parameters change along a direction."""

    def gradients(params: PyTree) -> tuple[PyTree, PyTree]:
        return jax.grad(loss, argnums=(0, 1))(params, meta)

    (gradient, _), tangent = jax.linearize(gradients, params)
    return gradient, tangent


def _tangent(loss: Loss, params: PyTree, meta: PyTree, direction: PyTree) -> tuple[PyTree, PyTree]:
    """How a step's gradients change along a direction of the parameters."""
    return _linearized_gradient(loss, params, meta)[1](direction)


def _step_back(transposed: Transposed, tangent: Tangent, after: Cotangents) -> Cotangents:
    """A step's adjoint: from the cotangents after it to those before it."""
    gradient_bar, state_bar, params_bar = transposed(after.params, after.state)
    hessian_product, cross = tangent(gradient_bar)
    return Cotangents(
        jax.tree.map(jnp.add, params_bar, hessian_product),
        state_bar,
        jax.tree.map(jnp.add, after.meta, cross),
    )


def _transposable_step(
    optimizer: optax.GradientTransformation, gradient: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree, Transposed]:
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
