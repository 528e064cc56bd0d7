"""The rival methods: training on the task's loss plus a fixed penalty, as (init, step) pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2t_jax._typing import Array, Float, PyTree
from l2t_jax.base import Batch, Inner, Method, TaskLoss, accuracy, check_batch, cross_entropy
from l2t_jax.matching import Pair, channel_errors, init_projections, matching_loss
from l2t_jax.meta_networks import MetaParams, error_weights, uniform_channels, uniform_pairs
from l2t_jax.networks import Network, Outputs, Variables, output_shapes
from l2t_jax.unroll import apply_gradient


class State(NamedTuple):
    """What one iteration hands to the next.

    Attributes:
      inner: the target's parameters and, as ``extra``, those of the penalty.
      model_state: the target's model state.
      opt_state: the optimiser's state, for ``inner``.
    """

    inner: Inner
    model_state: PyTree
    opt_state: PyTree


class Info(NamedTuple):
    """What one iteration saw, before its update.

    Attributes:
      loss: the loss that was minimised, ``task_loss + weight · penalty``.
      task_loss: the task's loss on the batch.
      penalty: the penalty, before its weight.
      accuracy: share of the batch classified right, from 0 to 1.
    """

    loss: Float[Array, ""]
    task_loss: Float[Array, ""]
    penalty: Float[Array, ""]
    accuracy: Float[Array, ""]


class Penalty(NamedTuple):
    """A loss between what the source and what the target make of the same batch.

    Attributes:
      init: ``(key, source_outputs, target_outputs) -> params``; the outputs are shapes.
      apply: ``(params, source_outputs, target_outputs) -> scalar``; no gradient flows into the
        source's outputs.
    """

    init: Callable[[Array, Outputs, Outputs], PyTree]
    apply: Callable[[PyTree, Outputs, Outputs], Array]


def feature_matching(pairs: Sequence[Pair]) -> Penalty:
    """Feature matching with fixed equal weights: λ = 1 for each pair, 1/C for each channel.

    Args:
      pairs: the pairs (source feature map, target feature map) to match.

    Returns:
      A `Penalty` with one 1x1 projection a pair as its parameters.

    Source: Romero et al. (2015), "FitNets"; the paper's FM baselines.
    """
    pairs = tuple((int(m), int(n)) for m, n in pairs)

    def init(key: Array, source: Outputs, target: Outputs) -> PyTree:
        return init_projections(key, pairs, source.features, target.features)

    def apply(projections: PyTree, source: Outputs, target: Outputs) -> Array:
        errors = channel_errors(projections, source.features, target.features, pairs)
        weights, _ = error_weights(
            uniform_channels(), uniform_pairs(), MetaParams((), ()), source.features, pairs
        )
        return matching_loss(errors, weights)

    return Penalty(init, apply)


def scratch(
    target: Network,
    *,
    optimizer: optax.GradientTransformation,
    task_loss: TaskLoss = cross_entropy,
) -> Method:
    """Training on the task's loss alone; there is no source, and ``source_variables`` is ignored.

    Args:
      target: the network to train.
      optimizer: any optax transformation.
      task_loss: ``(logits, labels) -> scalar``, with class numbers as labels.

    Returns:
      A `Method` with `State` and `Info` of this module; the penalty is zero.
    """
    nothing = Network(
        lambda key, images: Variables((), ()),
        lambda variables, images, *, train: Outputs(images, (), ()),
    )
    none = Penalty(
        lambda key, source, target: (),
        lambda params, source, target: jnp.zeros((), target.logits.dtype),
    )
    method = with_penalty(nothing, target, none, optimizer=optimizer, task_loss=task_loss)
    empty = Variables((), ())
    return Method(
        lambda key, source_variables, batch: method.init(key, empty, batch),
        lambda state, source_variables, batch: method.step(state, empty, batch),
    )


def with_penalty(
    source: Network,
    target: Network,
    penalty: Penalty,
    *,
    optimizer: optax.GradientTransformation,
    weight: float = 0.5,
    task_loss: TaskLoss = cross_entropy,
) -> Method:
    """Training on ``task_loss + weight · penalty(source outputs, target outputs)``.

    Args:
      source: the frozen source network; it runs in evaluation mode.
      target: the network to train.
      penalty: what ties the two, for example `feature_matching(pairs)`.
      optimizer: any optax transformation.
      weight: factor of the penalty (β of feature matching).
      task_loss: ``(logits, labels) -> scalar``, with class numbers as labels.

    Returns:
      A `Method`: ``init(key, source_variables, batch) -> State`` and
      ``step(state, source_variables, batch) -> (State, Info)``.

    Raises:
      ValueError: the penalty does not fit the networks, or batch sizes differ (when `init` or
        `step` is called or traced).
    """

    def init(key: Array, source_variables: Variables, batch: Batch) -> State:
        check_batch(batch)
        target_key, penalty_key = jax.random.split(key)
        variables = target.init(target_key, batch.images)
        extra = penalty.init(
            penalty_key,
            output_shapes(source, source_variables, batch.images),
            output_shapes(target, variables, batch.images),
        )
        inner = Inner(variables.params, extra)
        return State(inner, variables.model_state, optimizer.init(inner))

    def step(state: State, source_variables: Variables, batch: Batch) -> tuple[State, Info]:
        check_batch(batch)
        source_outputs = jax.lax.stop_gradient(
            source.apply(source_variables, batch.images, train=False)
        )

        def loss(inner: Inner) -> tuple[Array, tuple[Info, PyTree]]:
            variables = Variables(inner.params, state.model_state)
            outputs = target.apply(variables, batch.images, train=True)
            task = task_loss(outputs.logits, batch.labels)
            extra = penalty.apply(inner.extra, source_outputs, outputs)
            total = task + weight * extra
            info = Info(total, task, extra, accuracy(outputs.logits, batch.labels))
            return total, (info, outputs.model_state)

        gradient, (info, model_state) = jax.grad(loss, has_aux=True)(state.inner)
        inner, opt_state = apply_gradient(optimizer, gradient, state.opt_state, state.inner)
        return State(inner, model_state, opt_state), info

    return Method(init, step)
