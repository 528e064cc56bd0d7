"""Feature matching with fixed weights."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import jax.numpy as jnp
from jax.typing import ArrayLike

from l2t_jax._typing import Array, PyTree
from l2t_jax.base import Outputs
from l2t_jax.baselines.penalties import Penalty
from l2t_jax.matching import channel_errors, init_projections, matching_loss
from l2t_jax.pairs import Pair


def feature_matching(
    pairs: Sequence[Pair],
    *,
    pair_weights: ArrayLike | Sequence[float] | None = None,
    channel_weights: Sequence[ArrayLike | Sequence[float]] | None = None,
) -> Penalty:
    """Feature matching with weights that are fixed and the same for every sample.

    ``1/B Σ_b Σ_{(m,n)} λ^{m,n} Σ_c w^{m,n}_c e^{m,n}_c``. By default all pairs and channels count
    alike. The means of weights that `l2t_jax.l2t` has learned can be used again.

    Args:
      pairs: the pairs (source feature map, target feature map) to match.
      pair_weights: λ of each pair, ``[pairs]``; 1 for each if None.
      channel_weights: w of each pair, ``[C]`` with C channels of the source's map; ``1/C`` for
        each if None. Learned ones sum to one.

    Returns:
      A `Penalty` with one 1x1 projection a pair as its parameters.

    Raises:
      ValueError: not one weight for each pair (at once), or for each channel (when the penalty's
        ``init`` or ``apply`` is called).

    Example:
      >>> import jax
      >>> maps = Outputs((), (jnp.ones((2, 4, 4, 3)),), ())
      >>> penalty = feature_matching([(0, 0)])
      >>> projections = penalty.init(jax.random.key(0), maps, maps)
      >>> twice = feature_matching([(0, 0)], pair_weights=[2.0])
      >>> ratio = twice.apply(projections, maps, maps) / penalty.apply(projections, maps, maps)
      >>> float(ratio)
      2.0

    Source: Romero et al. (2015), "FitNets"; the paper's FM baselines.
    """
    pairs = tuple((index(m), index(n)) for m, n in pairs)
    levels = jnp.ones(len(pairs)) if pair_weights is None else jnp.asarray(pair_weights)
    if levels.shape != (len(pairs),):
        raise ValueError(
            f"pair_weights must have shape ({len(pairs)},), one a pair (got {levels.shape})"
        )
    if channel_weights is not None and len(channel_weights) != len(pairs):
        raise ValueError(
            f"channel_weights must be {len(pairs)}, one a pair (got {len(channel_weights)})"
        )

    def shares(source: Outputs) -> list[Array]:
        """The channels' weights of each pair."""
        widths = [source.features[m].shape[-1] for m, _ in pairs]
        if channel_weights is None:
            return [jnp.full(width, 1 / width) for width in widths]
        given = [jnp.asarray(weights) for weights in channel_weights]
        for pair, width, weights in zip(pairs, widths, given, strict=True):
            if weights.shape != (width,):
                raise ValueError(
                    f"channel_weights of the pair {pair} must have shape ({width},), one a "
                    f"channel (got {weights.shape})"
                )
        return given

    def init(key: Array, source: Outputs, target: Outputs) -> PyTree:
        projections = init_projections(key, pairs, source.features, target.features)
        shares(source)
        return projections

    def apply(projections: PyTree, source: Outputs, target: Outputs) -> Array:
        errors = channel_errors(projections, source.features, target.features, pairs)
        weights = [
            jnp.broadcast_to((level * share).astype(error.dtype), error.shape)
            for level, share, error in zip(levels, shares(source), errors, strict=True)
        ]
        return matching_loss(errors, weights)

    return Penalty(init, apply)
