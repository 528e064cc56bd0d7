"""Feature matching: how far a target's feature maps are from a source's.

In the shape descriptions `B` is the batch dimension, `H`, `W` and `C` belong to one feature map,
and a *pair* ``(m, n)`` names the source's m-th and the target's n-th feature map.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2t_jax._ops.channel_sums import repeat
from l2t_jax._ops.convolution import convolve
from l2t_jax._precision import at_least_float32, widen
from l2t_jax._typing import Array, ArrayOrShape, Float
from l2t_jax.affine import Affine, uniform_affine
from l2t_jax.feature_maps import resize
from l2t_jax.pairs import Pair, check_pairs

# A projection, which matches channels of two networks, is an affine map at every position.
Projection = Affine


def init_projections(
    key: Array,
    pairs: Sequence[Pair],
    source_features: Sequence[ArrayOrShape],
    target_features: Sequence[ArrayOrShape],
) -> tuple[Affine, ...]:
    """One 1x1 projection a pair, uniform in ``±1/sqrt(C_target)`` (PyTorch's default).

    Args:
      key: a PRNG key.
      pairs: the pairs to match.
      source_features: arrays or shapes ``[B, H, W, C]``; only the channels are used.
      target_features: likewise. The projections take its dtype, but never less than float32.

    Returns:
      A tuple with one `Affine` a pair.

    Raises:
      ValueError: the pairs do not fit the feature lists (see `check_pairs`).

    Example:
      >>> source, target = [jnp.ones((2, 4, 4, 3))], [jnp.ones((2, 8, 8, 5))]
      >>> (projection,) = init_projections(jax.random.key(0), [(0, 0)], source, target)
      >>> projection.kernel.shape, projection.bias.shape
      ((5, 3), (3,))
    """
    check_pairs(pairs, source_features, target_features)
    projections = []
    for pair_key, (m, n) in zip(jax.random.split(key, len(pairs)), pairs, strict=True):
        inputs, outputs = target_features[n].shape[-1], source_features[m].shape[-1]
        dtype = at_least_float32(target_features[n].dtype)
        projections.append(uniform_affine(pair_key, inputs, outputs, dtype))
    return tuple(projections)


def project(
    projection: Affine, features: Float[Array, "b h w target_channels"]
) -> Float[Array, "b h w source_channels"]:
    """Maps target channels to source channels at every position: ``r(T) = T K + b``.

    Args:
      projection: kernel ``[C_target, C_source]`` and bias ``[C_source]``.
      features: the target's feature map, ``[B, H, W, C_target]``.

    Returns:
      ``[B, H, W, C_source]``, of the widest of all dtypes.

    Raises:
      ValueError: kernel, bias and features do not fit together.

    Example:
      >>> projection = Affine(jnp.ones((5, 3)), jnp.ones(3))
      >>> project(projection, jnp.ones((2, 8, 8, 5)))[0, 0, 0].tolist()
      [6.0, 6.0, 6.0]
    """
    kernel, bias, maps = (jnp.shape(array) for array in (*projection, features))
    if not (len(kernel) == 2 and kernel[1:] == bias and len(maps) == 4 and maps[3:] == kernel[:1]):
        raise ValueError(
            "features must be [batch, height, width, C], the kernel [C, D] and the bias [D] (got "
            f"{maps}, {kernel} and {bias})"
        )
    dtype = jnp.promote_types(features.dtype, projection.kernel.dtype)
    projected = convolve(features.astype(dtype), projection.kernel[None, None].astype(dtype))
    return projected + repeat(projection.bias, projected.shape)


def channel_errors(
    projections: Sequence[Affine],
    source_features: Sequence[Array],
    target_features: Sequence[Array],
    pairs: Sequence[Pair],
) -> tuple[Float[Array, "b _c"], ...]:
    """Squared matching error of every pair, per sample and source channel.

    For pair ``(m, n)``: ``e[b, c] = mean over positions of (r(T^n(x_b)) - S^m(x_b))[., c]^2``,
    with the source map resized to the target map's size. Everything is computed in float32 at
    least, also where the feature maps are bfloat16 or float16.

    Args:
      projections: one a pair, as from `init_projections`.
      source_features: the source's feature maps, each ``[B, H, W, C]``.
      target_features: the target's, of any other sizes but the same ``B``.
      pairs: the pairs to match.

    Returns:
      A tuple with one ``[B, C_source]`` array a pair.

    Raises:
      ValueError: the pairs do not fit the features (see `check_pairs`), or the projections do not
        fit the pairs in number or shape.

    Example:
      >>> source, target = [jnp.ones((2, 4, 4, 3))], [jnp.zeros((2, 8, 8, 5))]
      >>> projections = [Affine(jnp.ones((5, 3)), jnp.zeros(3))]
      >>> [e.tolist() for e in channel_errors(projections, source, target, [(0, 0)])]
      [[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]]

    Source: Jang et al. (2019), "Learning What and Where to Transfer", section 2 (the terms of
    ``L_wfm^{m,n}``).
    """
    check_pairs(pairs, source_features, target_features)
    if len(projections) != len(pairs):
        raise ValueError(
            f"there must be one projection a pair, {len(pairs)} (got {len(projections)})"
        )
    for i, (m, n) in enumerate(pairs):
        wanted = (target_features[n].shape[-1], source_features[m].shape[-1])
        shapes = tuple(jnp.shape(part) for part in projections[i])
        if shapes != (wanted, wanted[1:]):
            raise ValueError(
                f"the projection of pair ({m}, {n}) must have a kernel {wanted} and a bias "
                f"{wanted[1:]}, from target to source channels (got {shapes})"
            )
    errors: dict[int, Array] = {}
    for layer in sorted({n for _, n in pairs}):
        # All pairs of one target layer share one pass over its map: one projection, one
        # difference. Only the small errors are taken apart again.
        members = [i for i, (_, n) in enumerate(pairs) if n == layer]
        target = widen(target_features[layer])
        _, height, width, _ = target.shape
        sources = [resize(widen(source_features[pairs[i][0]]), (height, width)) for i in members]
        fused = Affine(
            *(
                widen(jnp.concatenate(p, axis=-1))
                for p in zip(*(projections[i] for i in members), strict=True)
            )
        )
        difference = project(fused, target) - jnp.concatenate(sources, axis=-1)
        squares = jnp.mean(jnp.square(difference), axis=(1, 2))
        ends = itertools.accumulate(source.shape[-1] for source in sources)
        parts = jnp.split(squares, list(ends)[:-1], axis=-1)
        errors.update(zip(members, parts, strict=True))
    return tuple(errors[i] for i in range(len(pairs)))


def combine_weights(
    channel_weights: Sequence[Float[Array, "b _c"]], pair_weights: Float[Array, "b pairs"]
) -> tuple[Float[Array, "b _c"], ...]:
    """Weights of all errors: ``λ^{m,n}[b] · w^{m,n}[b, c]``.

    Args:
      channel_weights: "what", one ``[B, C]`` array a pair.
      pair_weights: "where", ``[B, pairs]``.

    Returns:
      One ``[B, C]`` array a pair.

    Raises:
      ValueError: the two differ in their number of pairs or of samples, or have another rank.

    Example:
      >>> combine_weights((jnp.array([[0.25, 0.75]]),), jnp.array([[2.0]]))[0].tolist()
      [[0.5, 1.5]]
    """
    if pair_weights.shape[1:] != (len(channel_weights),):
        raise ValueError(
            f"pair weights must be [batch, {len(channel_weights)}], one a pair as the channel "
            f"weights (got {list(pair_weights.shape)})"
        )
    for weights in channel_weights:
        if jnp.ndim(weights) != 2 or weights.shape[:1] != pair_weights.shape[:1]:
            raise ValueError(
                f"channel weights must be [{pair_weights.shape[0]}, channels], as many samples as "
                f"the pair weights have (got {list(jnp.shape(weights))})"
            )
    return tuple(pair_weights[:, i, None] * weights for i, weights in enumerate(channel_weights))


def pair_losses(
    errors: Sequence[Float[Array, "b _c"]], weights: Sequence[Float[Array, "b _c"]]
) -> Float[Array, " pairs"]:
    """Each pair's share of the matching loss: ``mean over b of Σ_c weights · errors``.

    Args:
      errors: as from `channel_errors`, one ``[B, C]`` array a pair.
      weights: as from `combine_weights`, of the same shapes.

    Returns:
      ``[pairs]``.

    Raises:
      ValueError: there are none, the two differ in number or shape, or have another rank.

    Example:
      >>> pair_losses((jnp.array([[1.0, 3.0]]),), (jnp.array([[0.5, 1.5]]),)).tolist()
      [5.0]
    """
    if not errors:
        raise ValueError("errors must be those of at least one pair (got none)")
    if wrong := [e.shape for e in errors if e.ndim != 2]:
        raise ValueError(f"errors must be [batch, channels] (got shape {wrong[0]})")
    if [e.shape for e in errors] != [w.shape for w in weights]:
        raise ValueError(
            "errors and weights must have the same shapes (got "
            f"{[e.shape for e in errors]} and {[w.shape for w in weights]})"
        )
    return jnp.stack(
        [
            jnp.mean(jnp.sum(widen(w) * widen(e), axis=1))
            for e, w in zip(errors, weights, strict=True)
        ]
    )


def matching_loss(
    errors: Sequence[Float[Array, "b _c"]], weights: Sequence[Float[Array, "b _c"]]
) -> Float[Array, ""]:
    """The matching loss, ``1/B Σ_b Σ_{(m,n)} λ^{m,n} Σ_c w^{m,n}_c e^{m,n}_c``.

    It is linear in the weights, which the meta-gradient exploits: the cotangent of the weights
    is the tangent of the errors.

    Args:
      errors: as from `channel_errors`, one ``[B, C]`` array a pair.
      weights: as from `combine_weights`, of the same shapes.

    Returns:
      A scalar, before the factor β.

    Raises:
      ValueError: as of `pair_losses`.

    Example:
      >>> errors = (jnp.array([[1.0, 3.0]]),)
      >>> weights = combine_weights((jnp.array([[0.25, 0.75]]),), jnp.array([[2.0]]))
      >>> float(matching_loss(errors, weights))
      5.0

    Source: Jang et al. (2019), "Learning What and Where to Transfer", section 2 (``L_wfm``).
    """
    return pair_losses(errors, weights).sum()
