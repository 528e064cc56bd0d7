"""Feature matching with fixed weights."""

from __future__ import annotations

from collections.abc import Sequence

from l2t_jax._typing import Array, PyTree
from l2t_jax.base import Outputs
from l2t_jax.baselines.penalties import Penalty
from l2t_jax.matching import channel_errors, init_projections, matching_loss
from l2t_jax.meta_networks import MetaParams, error_weights, uniform_channels, uniform_pairs
from l2t_jax.pairs import Pair


def feature_matching(pairs: Sequence[Pair]) -> Penalty:
    """Feature matching with fixed equal weights: λ = 1 for each pair, 1/C for each channel.

    Args:
      pairs: the pairs (source feature map, target feature map) to match.

    Returns:
      A `Penalty` with one 1x1 projection a pair as its parameters.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> maps = Outputs((), (jnp.ones((2, 4, 4, 3)),), ())
      >>> penalty = feature_matching([(0, 0)])
      >>> projections = penalty.init(jax.random.key(0), maps, maps)
      >>> penalty.apply(projections, maps, maps).shape
      ()

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
