"""Which feature map of the source is matched with which of the target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from l2t_jax._typing import ArrayOrShape

Pair = tuple[int, int]


def all_pairs(sources: Iterable[int], targets: Iterable[int]) -> tuple[Pair, ...]:
    """Every source layer with every target layer, source-major.

    Args:
      sources: numbers of the source's feature maps, from 0.
      targets: numbers of the target's.

    Returns:
      The pairs ``(m, n)``.

    Example:
      >>> all_pairs([4, 9], range(2))
      ((4, 0), (4, 1), (9, 0), (9, 1))
    """
    targets = tuple(targets)
    return tuple((m, n) for m in sources for n in targets)


def require_pairs(pairs: Sequence[Pair]) -> None:
    """Raises a ValueError where there is no pair at all."""
    if not pairs:
        raise ValueError("pairs must be at least one (source layer, target layer) pair (got none)")


def check_pairs(
    pairs: Sequence[Pair],
    source_features: Sequence[ArrayOrShape],
    target_features: Sequence[ArrayOrShape],
) -> None:
    """Raises a ValueError unless the pairs fit the two lists of feature maps.

    Args:
      pairs: the pairs to match; at least one, each within both lists.
      source_features: arrays or shapes ``[B, H, W, C]``.
      target_features: likewise, with the same ``B``.

    Raises:
      ValueError: zero pairs, an empty list, a pair outside the lists, a feature map that is not of
        rank 4, or batch sizes that differ.

    Example:
      >>> import jax.numpy as jnp
      >>> check_pairs([(0, 1)], [jnp.ones((2, 4, 4, 3))], [jnp.ones((2, 8, 8, 5))])
      Traceback (most recent call last):
      ValueError: a pair must be of source layer 0 to 0 and target layer 0 to 0 (got (0, 1))
    """
    require_pairs(pairs)
    for side, features in [("source", source_features), ("target", target_features)]:
        if not features:
            raise ValueError(
                f"the {side} network must give feature maps to match (got none); name its layers "
                "in `features`"
            )
    for m, n in pairs:
        if not (0 <= m < len(source_features) and 0 <= n < len(target_features)):
            raise ValueError(
                f"a pair must be of source layer 0 to {len(source_features) - 1} and target layer "
                f"0 to {len(target_features) - 1} (got ({m}, {n}))"
            )
        for side, features, layer in [
            ("source", source_features, m),
            ("target", target_features, n),
        ]:
            require_map(f"{side} feature map {layer}", features[layer])
        if source_features[m].shape[0] != target_features[n].shape[0]:
            raise ValueError(
                f"the feature maps of pair ({m}, {n}) must have the same batch size (got shapes "
                f"{source_features[m].shape} and {target_features[n].shape})"
            )


def require_map(name: str, features: ArrayOrShape) -> None:
    """Raises a ValueError unless features are a map, ``[B, H, W, C]``.

    Args:
      name: what they are called in the message.
      features: an array or its shape.
    """
    if len(features.shape) != 4:
        raise ValueError(
            f"{name} must be of rank 4, [batch, height, width, channels] (got shape "
            f"{features.shape}); for tokens see `with_token_maps`"
        )
