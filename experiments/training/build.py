"""Methods by name."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import optax

from l2t_jax import (
    MetaNetwork,
    Method,
    Network,
    affine_pairs,
    baselines,
    bilevel,
    constant_pairs,
    l2t,
    low_memory_meta_gradient,
    mixed_meta_gradient,
    reverse_meta_gradient,
    softmax_channels,
    two_stage,
    uniform_pairs,
)
from l2t_jax.matching import Pair

from ..options.run_options import RunOptions
from ..options.train_options import Config

# The published code's heads of "where".
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
}
SCHEMES = {"two-stage": two_stage, "bilevel": bilevel}


def sgd(options: RunOptions) -> optax.GradientTransformation:
    """SGD with momentum and coupled decay; its learning rate is part of its state."""

    def make(learning_rate: float) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(options.weight_decay),
            optax.sgd(learning_rate, options.momentum),
        )

    return optax.inject_hyperparams(make)(learning_rate=options.lr)


def penalties(
    config: Config, pairs: Sequence[Pair], source_classes: Sequence[int] | None
) -> dict[str, tuple[float, baselines.Penalty]]:
    """Weights and penalties of a method that is a sum of some, such as ``lwf+at``."""
    make_penalty = {
        "fm": lambda: (config.beta, baselines.feature_matching(pairs)),
        "at": lambda: (config.at_weight, baselines.attention_transfer(pairs)),
        "lwf": lambda: (
            config.lwf_weight,
            baselines.distillation(config.temperature, source_classes),
        ),
    }
    return {name: make_penalty[name]() for name in config.method.split("+")}


def meta_networks(config: Config) -> tuple[MetaNetwork, MetaNetwork]:
    """What and where, for the methods that learn them."""
    if config.method == "l2t-w":
        return softmax_channels(), uniform_pairs()
    if config.where == "constant":
        return softmax_channels(), constant_pairs()
    return softmax_channels(), affine_pairs(
        ACTIVATIONS[config.where],
        bias_init=config.where_bias,
        kernel_scale=config.where_kernel,
        divide_by_channels=config.where == "relu-avg",
    )


def make(
    config: Config,
    source: Network | None,
    target: Network,
    pairs: Sequence[Pair],
    source_classes: Sequence[int] | None = None,
) -> Method:
    """The method that a run asks for.

    Args:
      config: the run's options.
      source: the source network; None for scratch alone.
      target: the target network.
      pairs: pairs of layers, for the methods that match any.
      source_classes: number of logits of each source where there are several.

    Returns:
      The method.
    """
    if config.method == "scratch":
        return baselines.scratch(target, optimizer=sgd(config))
    assert source is not None
    if config.method == "finetune":
        return baselines.finetune(source, target, optimizer=sgd(config))
    if not config.method.startswith("l2t"):
        added = penalties(config, pairs, source_classes)
        return baselines.with_penalties(source, target, added, optimizer=sgd(config))
    what, where = meta_networks(config)
    return l2t(
        source,
        target,
        pairs,
        optimizer=sgd(config),
        meta_optimizer=optax.chain(
            optax.add_decayed_weights(config.meta_weight_decay), optax.adam(config.meta_lr)
        ),
        what=what,
        where=where,
        beta=config.beta,
        unroll_steps=config.unroll_steps,
        scheme=SCHEMES[config.scheme],
        meta_gradient=META_GRADIENTS[config.meta_gradient],
        meta_every=config.meta_every,
    )
