"""Which losses the virtual steps take."""

from __future__ import annotations

from collections.abc import Callable

from l2t_jax._typing import Array, PyTree
from l2t_jax.unroll import Loss

Scheme = Callable[[Loss, Loss, int], list[Loss]]


def two_stage(matching: Loss, task: Loss, steps: int) -> list[Loss]:
    """The paper's virtual steps: ``steps`` on the matching loss alone, then one on the task's.

    The matching steps alone must then do the target good: the task's loss cannot repair a bad
    match on the way.

    Args:
      matching: β times the matching loss, ``(inner, weights) -> scalar``.
      task: the task's loss, likewise.
      steps: T, number of virtual steps on the matching loss.

    Returns:
      The losses of the ``steps + 1`` virtual steps, in order.

    Example:
      >>> losses = two_stage(lambda inner, weights: 2.0, lambda inner, weights: 3.0, 2)
      >>> [loss((), ()) for loss in losses]
      [2.0, 2.0, 3.0]

    Source: Jang et al. (2019), "Learning What and Where to Transfer", algorithm 1.
    """
    return [matching] * steps + [task]


def bilevel(matching: Loss, task: Loss, steps: int) -> list[Loss]:
    """The plain bilevel scheme the paper compares itself to: ``steps`` on the sum of both losses.

    Args:
      matching: β times the matching loss, ``(inner, weights) -> scalar``.
      task: the task's loss, likewise.
      steps: number of virtual steps.

    Returns:
      The losses of the virtual steps, in order.

    Example:
      >>> import jax.numpy as jnp
      >>> losses = bilevel(lambda inner, weights: inner, lambda inner, weights: 3 * inner, 2)
      >>> [float(loss(jnp.array(1.0), ())) for loss in losses]
      [4.0, 4.0]

    Source: Jang et al. (2019), "Learning What and Where to Transfer", section 2.
    """

    def total(inner: PyTree, weights: PyTree) -> Array:
        return task(inner, weights) + matching(inner, weights)

    return [total] * steps


def matching_only(matching: Loss, task: Loss, steps: int) -> list[Loss]:
    """Virtual steps on the matching loss alone, without the last one on the task's.

    With one step this is the cheapest meta-gradient there is: the outer loss asks whether a step
    of matching lowers the task's loss by itself.

    Args:
      matching: β times the matching loss, ``(inner, weights) -> scalar``.
      task: the task's loss, likewise; no virtual step takes it.
      steps: number of virtual steps.

    Returns:
      The losses of the virtual steps, in order.

    Example:
      >>> losses = matching_only(lambda inner, weights: 2.0, lambda inner, weights: 3.0, 1)
      >>> [loss((), ()) for loss in losses]
      [2.0]
    """
    del task
    return [matching] * steps
