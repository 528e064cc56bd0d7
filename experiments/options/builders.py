"""Builds each method from its options and its networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2t_jax import (
    MetaNetwork,
    Method,
    Network,
    affine_pairs,
    baselines,
    bilevel,
    constant_pairs,
    cross_entropy,
    finite_difference_meta_gradient,
    l2t,
    level_pairs,
    low_memory_meta_gradient,
    matching_only,
    mixed_meta_gradient,
    reverse_meta_gradient,
    softmax_channels,
    softmax_pairs,
    two_stage,
    uniform_pairs,
)
from l2t_jax._typing import Array, PyTree
from l2t_jax.pairs import Pair

if TYPE_CHECKING:
    from .run_options import RunOptions
    from .train_options import Config

# The published code's heads of the network that gives the pair weights.
ACTIVATIONS = {
    "relu6": jax.nn.relu6,
    "relu": jax.nn.relu,
    "relu-avg": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "elu": lambda x: jax.nn.elu(x) + 1,
    "sigmoid": lambda x: jax.nn.sigmoid(2 * x),
    "tanh": lambda x: jax.numpy.tanh(x) + 1,
}
META_GRADIENTS = {
    "mixed": mixed_meta_gradient,
    "low-memory": low_memory_meta_gradient,
    "reverse": reverse_meta_gradient,
    "finite-difference": finite_difference_meta_gradient,
}
SCHEMES = {"two-stage": two_stage, "bilevel": bilevel, "matching-only": matching_only}


class Parts(NamedTuple):
    """What a method is built from, besides its options.

    Attributes:
      source: the source network; several are joined into one; None for a method without.
      target: the target network.
      pairs: pairs of layers, for the methods that match layers.
      source_classes: number of logits of each source; None without sources.
      pair_weights: fixed weights of the pairs, ``[pairs]``; None for equal ones.
      channel_weights: fixed weights of each pair's channels, ``[C]``; None for equal ones.
      class_weights: weights of the classes in the task's loss, ``[classes]``; None for equal ones.
    """

    source: Network | None
    target: Network
    pairs: Sequence[Pair] = ()
    source_classes: Sequence[int] | None = None
    pair_weights: np.ndarray | None = None
    channel_weights: Sequence[np.ndarray] | None = None
    class_weights: np.ndarray | None = None


def decayed_sgd(
    learning_rate: float, momentum: float = 0.9, weight_decay: float = 1e-4
) -> optax.GradientTransformation:
    """SGD with momentum and coupled weight decay, the paper's inner optimiser."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum))


def decayed_adam(
    learning_rate: float = 1e-4, weight_decay: float = 1e-4
) -> optax.GradientTransformation:
    """Adam with coupled weight decay, the paper's meta-optimiser."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate))


def scheduled_sgd(
    learning_rate: float, momentum: float = 0.9, weight_decay: float = 1e-4
) -> optax.GradientTransformation:
    """`decayed_sgd` with its learning rate, and nothing else, in its state.

    What is in the state is in every checkpoint, and is traced instead of a constant of the step.
    """
    make = optax.inject_hyperparams(decayed_sgd, static_args=("momentum", "weight_decay"))
    return make(learning_rate, momentum=momentum, weight_decay=weight_decay)


def averaged(optimizer: optax.GradientTransformation, number: int) -> optax.GradientTransformation:
    """The optimiser moved once by the mean of that many gradients; itself if it is one."""
    if number == 1:
        return optimizer
    return optax.MultiSteps(optimizer, number).gradient_transformation()


def sgd(options: RunOptions) -> optax.GradientTransformation:
    """The inner optimiser of a run."""
    return scheduled_sgd(options.lr, options.momentum, options.weight_decay)


def learned_channels(config: Config) -> tuple[MetaNetwork, MetaNetwork]:
    """Networks of l2t-w: channel weights are learned, and all pairs have equal weights."""
    del config
    return softmax_channels(), uniform_pairs()


def learned_channels_and_pairs(config: Config) -> tuple[MetaNetwork, MetaNetwork]:
    """Networks of l2t-ww: channel weights and pair weights are learned."""
    if config.where == "constant":
        return softmax_channels(), constant_pairs()
    if config.where == "exponential":
        return softmax_channels(), constant_pairs(jnp.exp)
    if config.where == "level":
        return softmax_channels(), level_pairs()
    if config.where == "softmax":
        return softmax_channels(), softmax_pairs(kernel_scale=config.where_kernel)
    return softmax_channels(), affine_pairs(
        ACTIVATIONS[config.where],
        bias_init=config.where_bias,
        kernel_scale=config.where_kernel,
        divide_by_channels=config.where == "relu-avg",
    )


def task_loss(config: Config, parts: Parts) -> Callable[[Array, PyTree], Array]:
    """The task's loss of a run."""
    return partial(
        cross_entropy, label_smoothing=config.label_smoothing, class_weights=parts.class_weights
    )


def scratch(config: Config, parts: Parts) -> Method:
    return baselines.scratch(
        parts.target, optimizer=sgd(config), task_loss=task_loss(config, parts)
    )


def finetune(config: Config, parts: Parts) -> Method:
    assert parts.source is not None
    return baselines.finetune(
        parts.source, parts.target, optimizer=sgd(config), task_loss=task_loss(config, parts)
    )


def fm(config: Config, parts: Parts) -> Method:
    matching = baselines.feature_matching(
        parts.pairs, pair_weights=parts.pair_weights, channel_weights=parts.channel_weights
    )
    return _penalised(config, parts, fm=(config.beta, matching))


def at(config: Config, parts: Parts) -> Method:
    return _penalised(config, parts, at=_attention(config, parts))


def lwf(config: Config, parts: Parts) -> Method:
    return _penalised(config, parts, lwf=_distillation(config, parts))


def lwf_and_at(config: Config, parts: Parts) -> Method:
    both = {"lwf": _distillation(config, parts), "at": _attention(config, parts)}
    return _penalised(config, parts, **both)


def l2t_w(config: Config, parts: Parts) -> Method:
    return _learning(config, parts, *learned_channels(config))


def l2t_ww(config: Config, parts: Parts) -> Method:
    return _learning(config, parts, *learned_channels_and_pairs(config))


Weighted = tuple[float, baselines.Penalty]


def _attention(config: Config, parts: Parts) -> Weighted:
    return config.at_weight, baselines.attention_transfer(parts.pairs)


def _distillation(config: Config, parts: Parts) -> Weighted:
    return config.lwf_weight, baselines.distillation(config.temperature, parts.source_classes)


def _penalised(config: Config, parts: Parts, **penalties: Weighted) -> Method:
    assert parts.source is not None
    return baselines.with_penalties(
        parts.source,
        parts.target,
        penalties,
        optimizer=sgd(config),
        task_loss=task_loss(config, parts),
    )


def _learning(config: Config, parts: Parts, what: MetaNetwork, where: MetaNetwork) -> Method:
    assert parts.source is not None
    return l2t(
        parts.source,
        parts.target,
        parts.pairs,
        optimizer=sgd(config),
        meta_optimizer=averaged(
            decayed_adam(config.meta_lr, config.meta_weight_decay), config.meta_average
        ),
        what=what,
        where=where,
        beta=config.beta,
        task_loss=task_loss(config, parts),
        unroll_steps=config.unroll_steps,
        scheme=SCHEMES[config.scheme],
        meta_gradient=META_GRADIENTS[config.meta_gradient],
        meta_every=config.meta_every,
        meta_from=config.meta_from,
    )
