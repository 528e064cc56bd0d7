"""What all training methods share: batches, the inner parameters, the task's loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import optax

from l2t_jax._typing import Array, Float, Int, PyTree
from l2t_jax.networks import Variables

TaskLoss = Callable[[Array, PyTree], Array]


class Batch(NamedTuple):
    """Samples that one step trains on.

    Attributes:
      images: ``[B, H, W, channels]``, real.
      labels: the samples' classes, ``[B]`` integers.
    """

    images: Array
    labels: Int[Array, " b"]


class Inner(NamedTuple):
    """Everything the inner optimiser moves.

    Attributes:
      params: the target network's parameters.
      extra: what the method trains along with them, such as the projections; () for nothing.
    """

    params: PyTree
    extra: PyTree


@runtime_checkable
class InnerState(Protocol):
    """What every method's state has at least."""

    @property
    def inner(self) -> Inner: ...

    @property
    def model_state(self) -> PyTree: ...


class Method(NamedTuple):
    """A training method as a pair of pure functions.

    Attributes:
      init: ``(key, source_variables, batch) -> state``; the batch gives shapes only.
      step: ``(state, source_variables, batch) -> (state, info)``, one iteration. The info is a
        NamedTuple of figures that the step saw.
    """

    init: Callable
    step: Callable


def target_variables(state: InnerState) -> Variables:
    """The target network's variables in a method's state, to evaluate it or to save it."""
    return Variables(state.inner.params, state.model_state)


def cross_entropy(logits: Float[Array, "b classes"], labels: Int[Array, " b"]) -> Float[Array, ""]:
    """Mean cross-entropy over the batch, ``-1/B Σ_b log softmax(logits_b)[label_b]``.

    Args:
      logits: ``[B, classes]``.
      labels: ``[B]``, from 0 to ``classes - 1``.

    Returns:
      A scalar in nats.

    Example:
      >>> float(cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])).round(4))
      1.3863
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def accuracy(logits: Float[Array, "b classes"], labels: Int[Array, " b"]) -> Float[Array, ""]:
    """Share of samples whose largest logit is at the label, from 0 to 1."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels, dtype=logits.dtype)


def check_batch(batch: Batch) -> None:
    """Raises a ValueError unless images and labels have the same number of samples, at least one.

    Args:
      batch: the batch, arrays or shapes.

    Raises:
      ValueError: no samples, or batch sizes that differ.
    """
    images, labels = jnp.shape(batch.images), jnp.shape(batch.labels)
    if not images or images[:1] != labels[:1] or images[0] == 0:
        raise ValueError(
            f"images of shape {images} and labels of shape {labels} came; "
            "wanted the same number of samples, at least one"
        )
