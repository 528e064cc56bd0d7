"""What all training methods share: batches, the inner parameters, the task's loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from l2t_jax._typing import Array, Float, Int, PyTree
from l2t_jax.networks import Variables

TaskLoss = Callable[[Array, PyTree], Array]
Score = Callable[[Array, PyTree], Array]


class Batch(NamedTuple):
    """Samples that one step trains on.

    Attributes:
      images: ``[B, H, W, channels]``, real.
      labels: what the task's loss compares the logits with; class numbers ``[B]`` for the default
        `cross_entropy`, else any pytree of arrays ``[B, ...]``.
    """

    images: Array
    labels: PyTree


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
    """The target network's variables in a method's state, to evaluate it or to save it.

    Args:
      state: the state of any `Method`.

    Returns:
      Parameters and model state, for the target network's ``apply``.

    Example:
      >>> from l2t_jax import baselines, models
      >>> target = models.cifar_resnet(8, classes=3)
      >>> method = baselines.scratch(target, optimizer=optax.sgd(0.1))
      >>> batch = Batch(jnp.ones((2, 8, 8, 3)), jnp.array([0, 2]))
      >>> state = jax.eval_shape(method.init, jax.random.key(0), None, batch)
      >>> target_variables(state).params["fc"]["kernel"].shape
      (64, 3)
    """
    return Variables(state.inner.params, state.model_state)


def cross_entropy(
    logits: Float[Array, "*batch classes"], labels: Int[Array, " *batch"]
) -> Float[Array, ""]:
    """Mean cross-entropy over the batch, ``-1/B Σ_b log softmax(logits_b)[label_b]``.

    Args:
      logits: ``[B, classes]``, or ``[B, ..., classes]`` where every position has a class.
      labels: ``[B]`` or ``[B, ...]``, from 0 to ``classes - 1``.

    Returns:
      A scalar in nats.

    Example:
      >>> round(float(cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3]))), 4)
      1.3863
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def accuracy(logits: Array, labels: PyTree) -> Float[Array, ""]:
    """Share of labels at which the largest logit is, ``1/B Σ_b [argmax(logits_b) = label_b]``.

    Args:
      logits: ``[B, classes]``, or ``[B, ..., classes]`` where every position has a class.
      labels: ``[B]`` or ``[B, ...]``, from 0 to ``classes - 1``.

    Returns:
      A scalar from 0 to 1.

    Raises:
      ValueError: labels that are no class numbers, one for each row of logits.

    Example:
      >>> float(accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])))
      0.5
    """
    given = [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(labels)]
    if [shape for shape, _ in given] != [logits.shape[:-1]] or not all(
        jnp.issubdtype(dtype, jnp.integer) for _, dtype in given
    ):
        labels_came = " and ".join(f"{dtype}{list(shape)}" for shape, dtype in given) or "none"
        raise ValueError(
            f"labels {labels_came} came for logits {list(logits.shape)}; wanted class numbers "
            f"{list(logits.shape[:-1])}, or another `score` with another `task_loss`"
        )
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels, dtype=logits.dtype)


def check_batch(batch: Batch) -> None:
    """Raises a ValueError unless images and labels have the same number of samples, at least one.

    Args:
      batch: the batch, arrays or shapes.

    Raises:
      ValueError: no samples, or batch sizes that differ.
    """
    images = jnp.shape(batch.images)
    labels = [jnp.shape(leaf) for leaf in jax.tree.leaves(batch.labels)]
    if not images or images[0] == 0 or any(shape[:1] != images[:1] for shape in labels):
        raise ValueError(
            f"images of shape {images} and labels of shape {' and '.join(map(str, labels))} came; "
            "wanted the same number of samples, at least one"
        )
