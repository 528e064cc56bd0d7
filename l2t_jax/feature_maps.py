"""Feature maps ``[B, H, W, C]``: of another size, averaged over positions, made of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2t_jax._precision import widen
from l2t_jax._typing import Array, Float
from l2t_jax.pairs import Pair, require_map, require_pairs


def resize(
    features: Float[Array, "b h w c"], size: tuple[int, int]
) -> Float[Array, "b new_h new_w c"]:
    """Resizes feature maps: bilinear, half-pixel centres, no antialiasing even when shrinking.

    Args:
      features: ``[B, H, W, C]``.
      size: the wanted height and width in positions.

    Returns:
      ``[B, height, width, C]``.

    Raises:
      ValueError: the feature maps are not of rank 4.

    Example:
      >>> resize(jnp.arange(4.0).reshape(1, 1, 4, 1), (1, 2)).ravel().tolist()
      [0.5, 2.5]
    """
    require_map("a feature map", features)
    batch, height, width, channels = features.shape
    if (height, width) == tuple(size):
        return features
    return jax.image.resize(features, (batch, *size, channels), "bilinear", antialias=False)


def pool(source_features: Sequence[Float[Array, "b _h _w _c"]]) -> tuple[Array, ...]:
    """Means over positions, ``[B, H, W, C] -> [B, C]`` for each feature map.

    Args:
      source_features: feature maps, each ``[B, H, W, C]``.

    Returns:
      One ``[B, C]`` array a feature map, in float32 at least.

    Raises:
      ValueError: a feature map is not of rank 4.

    Example:
      >>> pool([jnp.arange(4.0).reshape(1, 2, 2, 1)])[0].tolist()
      [[1.5]]
    """
    for features in source_features:
        require_map("a feature map", features)
    return tuple(jnp.mean(widen(features), axis=(1, 2)) for features in source_features)


def pool_pairs(source_features: Sequence[Array], pairs: Sequence[Pair]) -> tuple[Array, ...]:
    """The meta-networks' inputs: each pair's source map, averaged over positions.

    Args:
      source_features: feature maps ``[B, H, W, C]``.
      pairs: pairs (source layer, target layer).

    Returns:
      One ``[B, C]`` array a pair.

    Raises:
      ValueError: no pairs, or a source layer outside the list.
    """
    require_pairs(pairs)
    for m, n in pairs:
        if not 0 <= m < len(source_features):
            raise ValueError(
                f"the source layer of a pair must be 0 to {len(source_features) - 1} (got pair "
                f"({m}, {n}))"
            )
    pooled = pool(source_features)
    return tuple(pooled[m] for m, _ in pairs)


def tokens_to_map(
    tokens: Array, *, prefix: int = 0, grid: tuple[int, int] | None = None
) -> Float[Array, "b h w d"]:
    """Tokens laid out as the map they were cut from, ``map[b,i,j] = tokens[b, prefix + i·w + j]``.

    Args:
      tokens: ``[B, prefix + h·w, D]``, the patches' row by row.
      prefix: number of tokens before those of the patches, such as 1 for a class token; they are
        left out, having no place in the image.
      grid: number of patches ``(h, w)`` down and across; as many in both if None.

    Returns:
      ``[B, h, w, D]``.

    Raises:
      ValueError: tokens of another rank, a negative prefix, or a number of tokens that does not
        fit.

    Example:
      >>> tokens_to_map(jnp.arange(5.0).reshape(1, 5, 1), prefix=1)[0, :, :, 0].tolist()
      [[1.0, 2.0], [3.0, 4.0]]
    """
    if tokens.ndim != 3:
        raise ValueError(
            f"tokens must be of rank 3, [batch, tokens, width] (got shape {tokens.shape})"
        )
    if prefix < 0:
        raise ValueError(f"prefix must be 0 or more tokens (got {prefix})")
    batch, count, width = tokens.shape
    patches = count - prefix
    if grid is None:
        side = math.isqrt(max(patches, 0))
        if side == 0 or side * side != patches:
            raise ValueError(
                f"tokens after the prefix must fill a square (got {patches}: {count} tokens with a "
                f"prefix of {prefix}); give another `prefix`, or the `grid` (down, across)"
            )
        grid = (side, side)
    if math.prod(grid) != patches or min(grid) < 1:
        raise ValueError(
            f"tokens must be {prefix + math.prod(grid)} for a grid of {grid} with a prefix of "
            f"{prefix} (got {count})"
        )
    return tokens[:, prefix:].reshape(batch, *grid, width)
