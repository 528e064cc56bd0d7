"""Training on the task's loss plus fixed penalties, as (init, step) pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2t_jax._typing import Array, Float, PyTree
from l2t_jax.base import (
    Batch,
    Inner,
    Method,
    Network,
    Outputs,
    Score,
    TaskLoss,
    Variables,
    check_batch,
    with_unlabelled,
)
from l2t_jax.losses import accuracy, cross_entropy
from l2t_jax.networks import output_shapes
from l2t_jax.optimizers import apply_gradient, check_optimizer


class State(NamedTuple):
    """What one iteration hands to the next.

    Attributes:
      inner: the target's parameters and, as ``extra``, those of each penalty by its name.
      model_state: the target's model state.
      opt_state: the optimiser's state, for ``inner``.
    """

    inner: Inner
    model_state: PyTree
    opt_state: PyTree


class Info(NamedTuple):
    """What one iteration saw, before its update.

    Attributes:
      loss: the loss that was minimised, ``task_loss + Σ weight · penalty``.
      task_loss: the task's loss on the batch.
      penalties: each penalty by its name, before its weight.
      score: the score of the batch's logits, by default the share classified right.
      gradient_norm: Euclidean norm of the loss's gradient.
    """

    loss: Float[Array, ""]
    task_loss: Float[Array, ""]
    penalties: dict[str, Array]
    score: Float[Array, ""]
    gradient_norm: Float[Array, ""]


class Penalty(NamedTuple):
    """A loss between what the source and what the target make of the same batch.

    Both see all outputs, logits and feature maps, of both networks. Parameters of the penalty's
    own, such as projections or a second head, are trained along with the target.

    Attributes:
      init: ``(key, source_outputs, target_outputs) -> params``; the outputs are shapes.
      apply: ``(params, source_outputs, target_outputs) -> scalar``; no gradient flows into the
        source's weights.
    """

    init: Callable[[Array, Outputs, Outputs], PyTree]
    apply: Callable[[PyTree, Outputs, Outputs], Array]


def scratch(
    target: Network,
    *,
    optimizer: optax.GradientTransformation,
    task_loss: TaskLoss = cross_entropy,
    score: Score = accuracy,
) -> Method:
    """Training on the task's loss alone; there is no source, and ``source_variables`` is ignored.

    Args:
      target: the network to train.
      optimizer: any optax transformation that needs gradients, its state and parameters only.
      task_loss: ``(logits, labels) -> scalar``, the labels as they are in the batch.
      score: ``(logits, labels) -> scalar``, a figure for people that takes no part in training;
        by default the share that is classified right.

    Returns:
      A `l2t_jax.Method` with `State` and `Info` of `with_penalties`; there are no penalties.
      Images without labels are not used.

    Example:
      >>> from l2t_jax.models import cifar_resnet
      >>> method = scratch(cifar_resnet(8, classes=3), optimizer=optax.sgd(0.1))
      >>> batch = Batch(jnp.ones((2, 8, 8, 3)), jnp.array([0, 2]))
      >>> state = method.init(jax.random.key(0), None, batch)
      >>> state, info = jax.jit(method.step)(state, None, batch)
      >>> info.penalties
      {}
    """
    nothing = Network(
        lambda key, images: Variables((), ()),
        lambda variables, images, *, train: Outputs(images, (), ()),
    )
    method = with_penalties(
        nothing, target, {}, optimizer=optimizer, task_loss=task_loss, score=score
    )
    empty = Variables((), ())
    return Method(
        lambda key, source_variables, batch: method.init(key, empty, batch),
        lambda state, source_variables, batch, unlabelled=None: method.step(state, empty, batch),
    )


def with_penalties(
    source: Network,
    target: Network,
    penalties: Mapping[str, tuple[float | Array, Penalty]],
    *,
    optimizer: optax.GradientTransformation,
    task_loss: TaskLoss = cross_entropy,
    score: Score = accuracy,
) -> Method:
    """Training on ``task_loss + Σ weight · penalty(source outputs, target outputs)``.

    Args:
      source: the frozen source network; it runs in evaluation mode, once a batch.
      target: the network to train.
      penalties: what ties the two: by name, weights and penalties.
      optimizer: any optax transformation that needs gradients, its state and parameters only.
      task_loss: ``(logits, labels) -> scalar``, the labels as they are in the batch.
      score: ``(logits, labels) -> scalar``, a figure for people that takes no part in training;
        by default the share that is classified right.

    Returns:
      A `l2t_jax.Method`: ``init(key, source_variables, batch) -> State`` and
      ``step(state, source_variables, batch, unlabelled=None) -> (State, Info)``. With
      ``unlabelled`` images ``[U, H, W, channels]`` the penalties see the outputs for the batch's
      images and for these; the task's loss sees the batch alone. All ``B + U`` images share one
      pass, and so a batch norm's statistics.

    Raises:
      ValueError: the optimiser needs more than gradients (at once); a penalty does not fit the
        networks, batch sizes differ, or unlabelled images have another size than the batch's (when
        ``init`` or ``step`` is called or traced).

    Example:
      >>> from l2t_jax.baselines import attention_transfer, distillation
      >>> from l2t_jax.models import cifar_resnet
      >>> source, target = cifar_resnet(14, classes=5), cifar_resnet(8, classes=3)
      >>> penalties = {"lwf": (1.0, distillation()), "at": (1e3, attention_transfer([(5, 2)]))}
      >>> method = with_penalties(source, target, penalties, optimizer=optax.sgd(0.1))
      >>> batch = Batch(jnp.ones((2, 8, 8, 3)), jnp.array([0, 2]))
      >>> variables = jax.eval_shape(source.init, jax.random.key(0), batch.images)
      >>> state = jax.eval_shape(method.init, jax.random.key(1), variables, batch)
      >>> state.inner.extra["lwf"].kernel.shape  # the second head
      (64, 5)
    """

    check_optimizer(
        optimizer, "optimizer", Inner({"kernel": jax.ShapeDtypeStruct((2, 2), jnp.float32)}, {})
    )

    def init(key: Array, source_variables: Variables, batch: Batch) -> State:
        check_batch(batch)
        target_key, *keys = jax.random.split(key, 1 + len(penalties))
        variables = target.init(target_key, batch.images)
        source_outputs = output_shapes(source, source_variables, batch.images)
        target_outputs = output_shapes(target, variables, batch.images)
        extra = {
            name: penalty.init(penalty_key, source_outputs, target_outputs)
            for penalty_key, (name, (_, penalty)) in zip(keys, penalties.items(), strict=True)
        }
        inner = Inner(variables.params, extra)
        check_optimizer(optimizer, "optimizer", inner)
        return State(inner, variables.model_state, optimizer.init(inner))

    def step(
        state: State,
        source_variables: Variables,
        batch: Batch,
        unlabelled: Array | None = None,
    ) -> tuple[State, Info]:
        check_batch(batch)
        images = with_unlabelled(batch.images, unlabelled)
        # The source is frozen: whoever differentiates a step gets no gradient of its weights.
        frozen = jax.lax.stop_gradient(source_variables)
        source_outputs = source.apply(frozen, images, train=False)

        def loss(inner: Inner) -> tuple[Array, tuple[Array, dict[str, Array], Array, PyTree]]:
            variables = Variables(inner.params, state.model_state)
            outputs = target.apply(variables, images, train=True)
            logits = outputs.logits if unlabelled is None else outputs.logits[: len(batch.images)]
            task = task_loss(logits, batch.labels)
            values = {
                name: penalty.apply(inner.extra[name], source_outputs, outputs)
                for name, (_, penalty) in penalties.items()
            }
            total = task + sum(weight * values[name] for name, (weight, _) in penalties.items())
            return total, (task, values, logits, outputs.model_state)

        (total, (task, values, logits, model_state)), gradient = jax.value_and_grad(
            loss, has_aux=True
        )(state.inner)
        inner, opt_state = apply_gradient(optimizer, gradient, state.opt_state, state.inner)
        return State(inner, model_state, opt_state), Info(
            loss=total,
            task_loss=task,
            penalties=values,
            score=score(logits, batch.labels),
            gradient_norm=optax.tree.norm(gradient),
        )

    return Method(init, step)
