"""Learning what and where to transfer: one iteration of the scheme as a pure function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import index
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2t_jax._typing import Array, Bool, Float, Int, PyTree
from l2t_jax.base import (
    Batch,
    Inner,
    Method,
    Network,
    Score,
    TaskLoss,
    Variables,
    check_batch,
    with_unlabelled,
)
from l2t_jax.feature_maps import pool_pairs
from l2t_jax.losses import accuracy, cross_entropy
from l2t_jax.matching import channel_errors, init_projections, matching_loss
from l2t_jax.meta_gradients import MetaGradient, mixed_meta_gradient
from l2t_jax.meta_networks import (
    MetaNetwork,
    MetaParams,
    affine_pairs,
    error_weights,
    softmax_channels,
)
from l2t_jax.networks import output_shapes
from l2t_jax.optimizers import apply_gradient, check_optimizer
from l2t_jax.pairs import Pair, require_pairs
from l2t_jax.unroll import Loss
from l2t_jax.virtual_steps import Scheme, two_stage


class State(NamedTuple):
    """What one iteration hands to the next.

    Attributes:
      inner: the target's parameters and, as ``extra``, the projections.
      model_state: the target's model state.
      opt_state: the inner optimiser's state, for ``inner``.
      meta_params: parameters of the two meta-networks.
      meta_opt_state: the meta-optimiser's state, for ``meta_params``.
      iteration: how many iterations were taken, an int32 scalar.
    """

    inner: Inner
    model_state: PyTree
    opt_state: PyTree
    meta_params: MetaParams
    meta_opt_state: PyTree
    iteration: Int[Array, ""]


class Info(NamedTuple):
    """What one iteration saw; all are taken before this iteration's updates but ``outer_loss``.

    Where the iteration had no meta-step, ``outer_loss`` and ``meta_gradient_norm`` are NaN.

    Attributes:
      loss: the real step's loss, ``task_loss + β · matching_loss``.
      task_loss: the task's loss on the batch.
      matching_loss: the matching loss, before β.
      outer_loss: the task's loss at the end of the virtual steps.
      score: the score of the batch's logits, by default the share classified right.
      pair_weights: mean λ of each pair over the batch, ``[pairs]``.
      gradient_norm: Euclidean norm of the real step's gradient.
      meta_gradient_norm: Euclidean norm of the meta-gradient.
      meta_step: whether the iteration had a meta-step.
    """

    loss: Float[Array, ""]
    task_loss: Float[Array, ""]
    matching_loss: Float[Array, ""]
    outer_loss: Float[Array, ""]
    score: Float[Array, ""]
    pair_weights: Float[Array, " pairs"]
    gradient_norm: Float[Array, ""]
    meta_gradient_norm: Float[Array, ""]
    meta_step: Bool[Array, ""]


def l2t(
    source: Network,
    target: Network,
    pairs: Sequence[Pair],
    *,
    optimizer: optax.GradientTransformation,
    meta_optimizer: optax.GradientTransformation,
    what: MetaNetwork | None = None,
    where: MetaNetwork | None = None,
    beta: float | Array = 0.5,
    unroll_steps: int = 2,
    scheme: Scheme = two_stage,
    task_loss: TaskLoss = cross_entropy,
    score: Score = accuracy,
    meta_gradient: MetaGradient = mixed_meta_gradient,
    meta_every: int = 1,
    meta_from: int = 0,
) -> Method:
    """Learning what and where to transfer.

    One ``step`` does, on one batch:

    1. one real step of the inner parameters (target and projections) on
       ``task_loss + β · matching_loss``;
    2. from there virtual steps, by default `two_stage`: T on ``β · matching_loss``, one on
       ``task_loss``;
    3. the task's loss at their end is the outer loss; its gradient through all virtual steps,
       optimiser included, moves the meta-parameters. It does not flow through the real step.

    The virtual steps are thrown away: parameters, optimiser state and model state are those of
    the real step. Nothing is compiled here; wrap ``step`` in `jax.jit`.

    Args:
      source: the frozen source network; it runs in evaluation mode, once a batch.
      target: the target network.
      pairs: pairs (source feature map, target feature map) that may be matched.
      optimizer: inner optimiser, any optax transformation that needs gradients, its state and
        parameters only; SGD with momentum in the paper. `unroll` says what its derivative is at
        zero.
      meta_optimizer: optimiser of the meta-parameters, likewise; Adam in the paper.
      what: weighs channels; `softmax_channels()` if None.
      where: weighs pairs; `affine_pairs()`, relu6 of an affine map, if None.
      beta: factor β of the matching loss.
      unroll_steps: T, the number of virtual steps before the last one on the task's loss. At 0
        nothing virtual depends on the meta-parameters and they stay as they are: plain training
        on the sum of both losses.
      scheme: which losses the virtual steps take, `two_stage`, `bilevel` or `matching_only`.
      task_loss: ``(logits, labels) -> scalar``, the labels as they are in the batch.
      score: ``(logits, labels) -> scalar``, a figure for people that takes no part in training;
        by default the share that is classified right.
      meta_gradient: how to differentiate through the virtual steps, see `MetaGradient`.
      meta_every: k, 2 and 3 are done in the first of every k iterations only; 1 in the paper.
      meta_from: number of iterations at the start without 2 and 3; 0 in the paper.

    Returns:
      A `Method`: ``init(key, source_variables, batch) -> State`` and
      ``step(state, source_variables, batch, outer_batch=None, unlabelled=None) -> (State, Info)``.
      With an ``outer_batch`` the outer loss is taken on it instead of on the batch. With
      ``unlabelled`` images ``[U, H, W, channels]`` the matching loss, real and virtual, is the mean
      over the batch's images and these; the task's loss sees the batch alone. In the real step all
      ``B + U`` images share one pass, and so a batch norm's statistics.

    Raises:
      ValueError: no pairs, a negative number of virtual steps, ``meta_every`` below 1, a negative
        ``meta_from``, or an optimiser that needs more than gradients (at once); pairs that do not
        fit the networks, feature maps that are not ``[B, H, W, C]``, batch sizes that differ, or
        unlabelled images of another size than the batch's (when ``init`` or ``step`` is called or
        traced).

    Example:
      >>> import jax.numpy as jnp
      >>> from l2t_jax.models import cifar_resnet
      >>> source, target = cifar_resnet(8, classes=5), cifar_resnet(8, classes=3)
      >>> method = l2t(source, target, [(0, 0), (2, 2)],
      ...              optimizer=optax.sgd(0.1, momentum=0.9), meta_optimizer=optax.adam(1e-3))
      >>> batch = Batch(jnp.ones((2, 8, 8, 3)), jnp.array([0, 2]))
      >>> source_variables = source.init(jax.random.key(0), batch.images)
      >>> state = method.init(jax.random.key(1), source_variables, batch)
      >>> state, info = jax.jit(method.step)(state, source_variables, batch)
      >>> info.pair_weights.shape
      (2,)

    Source: Jang et al. (2019), "Learning What and Where to Transfer", algorithm 1.
    """
    pairs = tuple((index(m), index(n)) for m, n in pairs)
    require_pairs(pairs)
    unroll_steps, meta_every, meta_from = map(index, (unroll_steps, meta_every, meta_from))
    if unroll_steps < 0:
        raise ValueError(
            f"`unroll_steps` must be at least 0 (got {unroll_steps}); at 0 the meta-parameters stay"
        )
    if meta_every < 1:
        raise ValueError(
            f"`meta_every` must be at least 1 (got {meta_every}); 1 takes every iteration"
        )
    if meta_from < 0:
        raise ValueError(f"`meta_from` must be at least 0 (got {meta_from}); 0 waits for nothing")
    some = Inner({"kernel": jax.ShapeDtypeStruct((2, 2), jnp.float32)}, ())
    check_optimizer(optimizer, "optimizer", some)
    check_optimizer(meta_optimizer, "meta_optimizer", MetaParams(*some))
    what = softmax_channels() if what is None else what
    where = affine_pairs() if where is None else where

    def init(key: Array, source_variables: Variables, batch: Batch) -> State:
        check_batch(batch)
        target_key, projection_key, what_key, where_key = jax.random.split(key, 4)
        variables = target.init(target_key, batch.images)
        source_features = output_shapes(source, source_variables, batch.images).features
        target_features = output_shapes(target, variables, batch.images).features
        projections = init_projections(projection_key, pairs, source_features, target_features)
        pooled = jax.eval_shape(lambda features: pool_pairs(features, pairs), source_features)
        meta_params = MetaParams(what.init(what_key, pooled), where.init(where_key, pooled))
        inner = Inner(variables.params, projections)
        check_optimizer(optimizer, "optimizer", inner)
        check_optimizer(meta_optimizer, "meta_optimizer", meta_params)
        return State(
            inner,
            variables.model_state,
            optimizer.init(inner),
            meta_params,
            meta_optimizer.init(meta_params),
            jnp.zeros((), jnp.int32),
        )

    def step(
        state: State,
        source_variables: Variables,
        batch: Batch,
        outer_batch: Batch | None = None,
        unlabelled: Array | None = None,
    ) -> tuple[State, Info]:
        outer_batch = batch if outer_batch is None else outer_batch
        check_batch(batch)
        check_batch(outer_batch)
        images = with_unlabelled(batch.images, unlabelled)
        # The source is frozen: whoever differentiates a step gets no gradient of its weights.
        frozen = jax.lax.stop_gradient(source_variables)
        source_features = source.apply(frozen, images, train=False).features

        def weigh(meta_params: MetaParams) -> tuple[tuple[Array, ...], Array]:
            return error_weights(what, where, meta_params, source_features, pairs)

        weights, transpose, pair_weights = jax.vjp(weigh, state.meta_params, has_aux=True)

        def losses(
            inner: Inner, weights: PyTree, model_state: PyTree
        ) -> tuple[Array, Array, Array, PyTree]:
            """Task loss, matching loss before β, logits and new model state on the images."""
            outputs = target.apply(Variables(inner.params, model_state), images, train=True)
            errors = channel_errors(inner.extra, source_features, outputs.features, pairs)
            logits = outputs.logits if unlabelled is None else outputs.logits[: len(batch.images)]
            return (
                task_loss(logits, batch.labels),
                matching_loss(errors, weights),
                logits,
                outputs.model_state,
            )

        def real_loss(inner: Inner) -> tuple[Array, tuple[Array, Array, Array, PyTree]]:
            task, matching, logits, model_state = losses(inner, weights, state.model_state)
            return task + beta * matching, (task, matching, logits, model_state)

        (loss, (task, matching, logits, model_state)), gradient = jax.value_and_grad(
            real_loss, has_aux=True
        )(state.inner)
        inner, opt_state = apply_gradient(optimizer, gradient, state.opt_state, state.inner)

        # The virtual losses drop the model state they see: what the virtual steps do to it is
        # thrown away with them.
        def virtual_matching(inner: Inner, weights: PyTree) -> Array:
            return beta * losses(inner, weights, model_state)[1]

        task_on = partial(_virtual_task, target, task_loss, model_state)

        def outer_gradient() -> tuple[Array, MetaParams]:
            outer_loss, weights_bar = meta_gradient(
                task_on(outer_batch),
                scheme(virtual_matching, task_on(batch), unroll_steps),
                optimizer,
                inner,
                opt_state,
                weights,
            )
            # Of one type with what stands for it where there is no meta-step.
            return outer_loss.astype(loss.dtype), transpose(weights_bar)[0]

        due = (state.iteration >= meta_from) & (state.iteration % meta_every == 0)
        take = partial(_meta_step, outer_gradient, meta_optimizer, state, moves=unroll_steps > 0)
        meta_params, meta_opt_state, outer_loss, norm = (
            take()
            if meta_every == 1 and meta_from == 0
            else jax.lax.cond(due, take, lambda: _no_meta_step(state, loss))
        )
        after = State(
            inner, model_state, opt_state, meta_params, meta_opt_state, state.iteration + 1
        )
        return after, Info(
            loss=loss,
            task_loss=task,
            matching_loss=matching,
            outer_loss=outer_loss,
            score=score(logits, batch.labels),
            pair_weights=jnp.mean(pair_weights, axis=0),
            gradient_norm=optax.tree.norm(gradient),
            meta_gradient_norm=norm,
            meta_step=due,
        )

    return Method(init, step)


def _virtual_task(target: Network, task_loss: TaskLoss, model_state: PyTree, batch: Batch) -> Loss:
    """The task's loss on a batch, as a virtual step or as the outer loss."""

    def virtual_task(inner: Inner, weights: PyTree) -> Array:
        del weights
        variables = Variables(inner.params, model_state)
        return task_loss(target.apply(variables, batch.images, train=True).logits, batch.labels)

    return virtual_task


MetaStep = tuple[MetaParams, PyTree, Array, Array]


def _meta_step(
    outer_gradient: Callable[[], tuple[Array, MetaParams]],
    meta_optimizer: optax.GradientTransformation,
    state: State,
    *,
    moves: bool,
) -> MetaStep:
    """The meta-parameters and their optimiser's state afterwards, the outer loss and the norm."""
    outer_loss, gradient = outer_gradient()
    norm = optax.tree.norm(gradient).astype(outer_loss.dtype)
    if not moves:
        return state.meta_params, state.meta_opt_state, outer_loss, norm
    moved = apply_gradient(meta_optimizer, gradient, state.meta_opt_state, state.meta_params)
    return *moved, outer_loss, norm


def _no_meta_step(state: State, loss: Array) -> MetaStep:
    """What `_meta_step` gives, in an iteration without it."""
    nothing = jnp.full_like(loss, jnp.nan)
    return state.meta_params, state.meta_opt_state, nothing, nothing
