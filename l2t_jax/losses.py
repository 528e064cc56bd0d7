"""The default loss and score of a task: classes."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from l2t_jax._known import known
from l2t_jax._precision import at_least_float32, widen
from l2t_jax._typing import Array, Float, PyTree


def cross_entropy(
    logits: Float[Array, "*batch classes"],
    labels: PyTree,
    *,
    ignore_label: int | None = None,
    label_smoothing: float | Array = 0.0,
    class_weights: ArrayLike | Sequence[float] | None = None,
) -> Float[Array, ""]:
    """Mean cross-entropy, ``-1/N Σ_b log softmax(logits_b)[label_b]`` over the N labels that count.

    With label smoothing s, ``log p[label]`` is ``(1 - s) log p[label] + s mean_c log p[c]``. With
    class weights w, the mean is weighted, ``Σ_b w[label_b] loss_b / Σ_b w[label_b]``.

    A label outside of 0 … ``classes - 1`` is no class. The loss and its gradient are then NaN:
    inside of `jax.jit` nothing can be raised, and nothing is counted as another class.

    Args:
      logits: ``[B, classes]``, or ``[B, ..., classes]`` where every position has a class. Those of
        bfloat16 or float16 are computed with in float32.
      labels: integers ``[B]`` or ``[B, ...]``, from 0 to ``classes - 1``.
      ignore_label: a label that does not count, such as 255 or -1 in dense tasks; None if all do.
      label_smoothing: s, from 0 to below 1.
      class_weights: w, ``[classes]``, 0 or more; all alike if None.

    Returns:
      A scalar in nats; 0 where no label counts.

    Raises:
      ValueError: labels that are not integers, one for each row of logits; a smoothing outside of
        its range; not one weight for each class, or one below 0 (seen where it is not traced).

    Example:
      >>> round(float(cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3]))), 4)
      1.3863
      >>> logits = jnp.array([[0.0, 0.0], [9.0, 0.0]])
      >>> round(float(cross_entropy(logits, jnp.array([0, 255]), ignore_label=255)), 4)
      0.6931
    """
    logits, labels = widen(logits), _whole_numbers(logits, labels, "task_loss")
    is_class, counts = _labels_that(logits, labels, ignore_label)
    smoothing = known(label_smoothing)
    if smoothing is not None and not 0 <= smoothing < 1:
        raise ValueError(f"label_smoothing must be 0 to below 1 (got {label_smoothing})")
    classes = jnp.where(is_class, labels, 0)
    if ignore_label is not None:
        # Before the loss: a derivative of 0 times one that is no number would be none.
        logits = jnp.where(counts[..., None], logits, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, classes)
    if smoothing is None or smoothing:
        uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    # A factor, not a choice: the gradient has to be NaN too.
    losses = losses * jnp.where(is_class | ~counts, 1.0, jnp.nan)
    if class_weights is None:
        return _mean_of(losses, counts, ignore_label)
    weights = jnp.asarray(class_weights, losses.dtype)
    if weights.shape != logits.shape[-1:]:
        raise ValueError(
            f"class_weights must have shape {logits.shape[-1:]}, one a class (got {weights.shape})"
        )
    numbers = known(weights)
    if numbers is not None and not np.all(numbers >= 0):
        raise ValueError(f"class_weights must be 0 or more (got {np.min(numbers)})")
    shares = jnp.where(counts, weights[classes], 0)
    total = jnp.sum(shares)
    return jnp.sum(jnp.where(counts, shares * losses, 0)) / jnp.where(total > 0, total, 1)


def accuracy(logits: Array, labels: PyTree, *, ignore_label: int | None = None) -> Float[Array, ""]:
    """Share of labels at which the largest logit is, ``1/N Σ_b [argmax(logits_b) = label_b]``.

    Labels are counted as by `cross_entropy`: of N that count, one that is no class makes the share
    NaN. Logits that are NaN have no largest one: there no label is right.

    Args:
      logits: ``[B, classes]``, or ``[B, ..., classes]`` where every position has a class.
      labels: integers ``[B]`` or ``[B, ...]``, from 0 to ``classes - 1``.
      ignore_label: a label that does not count; None if all do.

    Returns:
      A scalar from 0 to 1; 0 where no label counts.

    Raises:
      ValueError: labels that are not integers, one for each row of logits.

    Example:
      >>> float(accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])))
      0.5
    """
    labels = _whole_numbers(logits, labels, "score")
    is_class, counts = _labels_that(logits, labels, ignore_label)
    right = (jnp.argmax(logits, axis=-1) == labels) & ~jnp.isnan(jnp.max(logits, axis=-1))
    right = right.astype(at_least_float32(logits.dtype))
    return _mean_of(jnp.where(is_class | ~counts, right, jnp.nan), counts, ignore_label)


def _whole_numbers(logits: Array, labels: PyTree, argument: str) -> Array:
    """Labels in a type that any number of classes fits into; 300 of them do not fit a uint8.

    Args:
      logits: those that they are the labels of.
      labels: one array of integers.
      argument: where another function can be passed for labels of another kind.
    """
    given = [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(labels)]
    if [shape for shape, _ in given] != [logits.shape[:-1]] or not all(
        jnp.issubdtype(dtype, jnp.integer) for _, dtype in given
    ):
        described = " and ".join(f"{dtype}{list(shape)}" for shape, dtype in given) or "none"
        raise ValueError(
            f"labels must be integers of shape {list(logits.shape[:-1])} for logits of shape "
            f"{list(logits.shape)} (got {described}). For labels of another kind pass another "
            f"`{argument}`: a loss and a score have the same labels"
        )
    (labels,) = map(jnp.asarray, jax.tree.leaves(labels))
    return labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels


def _labels_that(logits: Array, labels: Array, ignore_label: int | None) -> tuple[Array, Array]:
    """Which labels are classes, and which are not to be ignored."""
    is_class = (labels >= 0) & (labels < logits.shape[-1])
    kind = jnp.iinfo(labels.dtype)
    # What the labels' type cannot hold is not among them; JAX refuses to compare the two.
    if ignore_label is None or not kind.min <= ignore_label <= kind.max:
        return is_class, jnp.ones_like(is_class)
    return is_class, labels != ignore_label


def _mean_of(values: Array, counts: Array, ignore_label: int | None) -> Array:
    if ignore_label is None and values.size:
        return values.mean()
    number = jnp.maximum(jnp.sum(counts, dtype=values.dtype), 1)
    return jnp.sum(jnp.where(counts, values, 0)) / number
