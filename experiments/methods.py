"""Methods and pairs of layers by name."""

from __future__ import annotations

import re

import jax
import optax

from experiments.config import Config
from l2t_jax import (
    Method,
    Network,
    Outputs,
    affine_pairs,
    all_pairs,
    baselines,
    bilevel,
    constant_pairs,
    l2t,
    two_stage,
    uniform_pairs,
)
from l2t_jax.matching import Pair, check_pairs

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
SCHEMES = {"two-stage": two_stage, "bilevel": bilevel}


def sgd(config: Config) -> optax.GradientTransformation:
    """SGD with momentum and coupled decay; its learning rate is part of its state."""

    def make(learning_rate: float) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(config.weight_decay),
            optax.sgd(learning_rate, config.momentum),
        )

    return optax.inject_hyperparams(make)(learning_rate=config.lr)


def make(config: Config, source: Network | None, target: Network, pairs: list[Pair]) -> Method:
    """The method that a run asks for."""
    if config.method == "scratch":
        return baselines.scratch(target, optimizer=sgd(config))
    assert source is not None
    if config.method == "fm":
        return baselines.with_penalty(
            source,
            target,
            baselines.feature_matching(pairs),
            optimizer=sgd(config),
            weight=config.beta,
        )
    if config.method == "l2t-w":
        where = uniform_pairs()
    elif config.where == "constant":
        where = constant_pairs()
    else:
        where = affine_pairs(
            ACTIVATIONS[config.where],
            bias_init=config.where_bias,
            divide_by_channels=config.where == "relu-avg",
        )
    return l2t(
        source,
        target,
        pairs,
        optimizer=sgd(config),
        meta_optimizer=optax.chain(
            optax.add_decayed_weights(config.meta_weight_decay), optax.adam(config.meta_lr)
        ),
        where=where,
        beta=config.beta,
        unroll_steps=config.unroll_steps,
        scheme=SCHEMES[config.scheme],
    )


def choose_pairs(text: str, source: Outputs, target: Outputs) -> list[Pair]:
    """The pairs of layers that ``--pairs`` asks for.

    Args:
      text: ``stages``, ``all``, ``one-to-one``, ``single``, or a list such as ``4-0,9-1``.
      source: shapes of the source's outputs.
      target: shapes of the target's.

    Returns:
      The pairs.

    Raises:
      ValueError: another text, pairs outside the networks, or no pair at all.
    """
    sources, targets = stages(source), stages(target)
    matched = [
        (m, n)
        for m in sources
        for n in targets
        if source.features[m].shape[1:3] == target.features[n].shape[1:3]
    ]
    if text == "stages":
        pairs = list(all_pairs(sources, targets))
    elif text == "all":
        pairs = list(all_pairs(range(len(source.features)), range(len(target.features))))
    elif text in ("one-to-one", "single"):
        pairs = matched if text == "one-to-one" else matched[-1:]
    elif re.fullmatch(r"\d+-\d+(,\d+-\d+)*", text):
        pairs = [(int(m), int(n)) for m, n in (pair.split("-") for pair in text.split(","))]
    else:
        raise ValueError(
            f"--pairs {text} came; wanted stages, all, one-to-one, single or a list like 4-0,9-1"
        )
    check_pairs(pairs, source.features, target.features)
    return pairs


def stages(outputs: Outputs) -> list[int]:
    """The last feature map of each size: the ends of a network's stages."""
    sizes = [feature.shape[1:3] for feature in outputs.features]
    return [i for i, size in enumerate(sizes) if i + 1 == len(sizes) or sizes[i + 1] != size]
