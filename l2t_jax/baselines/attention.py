"""Attention transfer: the target is to look where the source looks."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import jax
import jax.numpy as jnp

from l2t_jax._precision import at_least_float32, widen
from l2t_jax._typing import Array, Float, PyTree
from l2t_jax.base import Outputs
from l2t_jax.baselines.penalties import Penalty
from l2t_jax.feature_maps import resize
from l2t_jax.pairs import Pair, check_pairs


def attention_map(features: Float[Array, "b h w c"]) -> Float[Array, "b positions"]:
    """Where a feature map is active: ``q = mean over channels of F²``, over its Euclidean norm.

    Args:
      features: a feature map, ``[B, H, W, C]``.

    Returns:
      ``[B, H·W]`` in float32 at least, each row of norm 1 where the largest feature is
      between 1e-6 and 1e9 (float32); all zeros where the map is zero.

    Example:
      >>> attention_map(jnp.array([3.0, 0.0, 4.0]).reshape(1, 3, 1, 1) ** 0.5).round(4).tolist()
      [[0.6, 0.0, 0.8]]

    Source: Zagoruyko & Komodakis (2017), "Paying More Attention to Attention", section 3.1.
    """
    energy = jnp.mean(jnp.square(widen(features)), axis=-1).reshape(features.shape[0], -1)
    # The bound keeps value and gradient of a dead map at zero; PyTorch's `normalize` has the same.
    squared = jnp.maximum(jnp.sum(jnp.square(energy), axis=1, keepdims=True), 1e-24)
    return energy * jax.lax.rsqrt(squared)


def attention_loss(
    source_features: Sequence[Array], target_features: Sequence[Array], pairs: Sequence[Pair]
) -> Float[Array, ""]:
    """Squared differences of attention maps, ``Σ_{(m,n)} mean_{b,p} (q(S^m) - q(T^n))²_{b,p}``.

    A source map is resized to its target map's size before its attention is taken.

    Attention maps have norm 1 and no negative entry, so that a pair adds at most ``2/P``, where
    ``P = H·W`` is the number of the target map's positions. With the authors' weight of 1000 that
    is up to 2 at 32x32, 8 at 16x16 and 31 at 8x8, where they used it, but 125 at 4x4 and 500 at
    2x2: such small maps want a smaller weight.

    Args:
      source_features: the source's feature maps, each ``[B, H, W, C]``.
      target_features: the target's, of any other sizes but the same ``B``.
      pairs: the pairs (source feature map, target feature map) to match.

    Returns:
      A scalar.

    Raises:
      ValueError: the pairs do not fit the features (see `l2t_jax.check_pairs`).

    Example:
      >>> left, right = jnp.eye(2).reshape(2, 1, 1, 2, 1)
      >>> float(attention_loss([left], [right], [(0, 0)]))  # 2/P, the most there can be
      1.0

    Source: Zagoruyko & Komodakis (2017), "Paying More Attention to Attention", equation 2 with
    p = 2, in the form of the authors' code: mean squared differences, summed over pairs, times
    β = 1000. That mean is what their section 4.1 means by a β of 1000 over the number of positions
    and the batch size; the code has neither the ½ nor the root of equation 2.
    """
    check_pairs(pairs, source_features, target_features)
    total = jnp.zeros((), at_least_float32(target_features[pairs[0][1]].dtype))
    for m, n in pairs:
        _, height, width, _ = target_features[n].shape
        source = resize(widen(source_features[m]), (height, width))
        difference = attention_map(source) - attention_map(target_features[n])
        total += jnp.mean(jnp.square(difference))
    return total


def attention_transfer(pairs: Sequence[Pair]) -> Penalty:
    """`attention_loss` on these pairs, as a `Penalty` without parameters.

    Args:
      pairs: the pairs (source feature map, target feature map) to match.

    Returns:
      The penalty.

    Example:
      >>> left, right = jnp.eye(2).reshape(2, 1, 1, 2, 1)
      >>> penalty = attention_transfer([(0, 0)])
      >>> float(penalty.apply((), Outputs((), (left,), ()), Outputs((), (right,), ())))
      1.0
    """
    pairs = tuple((index(m), index(n)) for m, n in pairs)

    def init(key: Array, source: Outputs, target: Outputs) -> PyTree:
        del key
        check_pairs(pairs, source.features, target.features)
        return ()

    def apply(params: PyTree, source: Outputs, target: Outputs) -> Array:
        del params
        return attention_loss(source.features, target.features, pairs)

    return Penalty(init, apply)
