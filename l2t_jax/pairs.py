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
        raise ValueError("no pairs of layers came; wanted at least one (source, target) pair")


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
      ValueError: zero pairs, a pair outside the lists, a feature map that is not of
        rank 4, or batch sizes that differ.

    Example:
      >>> check_pairs([(0, 1)], [jnp.ones((2, 4, 4, 3))], [jnp.ones((2, 8, 8, 5))])
      Traceback (most recent call last):
      ValueError: pair (0, 1) is outside the feature lists; wanted a source layer from 0 to 0 and a
      target layer from 0 to 0
    """
    require_pairs(pairs)
    for m, n in pairs:
        if not (0 <= m < len(source_features) and 0 <= n < len(target_features)):
            raise ValueError(
                f"pair ({m}, {n}) is outside the feature lists; wanted a source layer from 0 to "
                f"{len(source_features) - 1} and a target layer from 0 to "
                f"{len(target_features) - 1}"
            )
        for side, features, layer in [
            ("source", source_features, m),
            ("target", target_features, n),
        ]:
            if features[layer].ndim != 4:
                raise ValueError(
                    f"{side} feature map {layer} has shape {features[layer].shape}; "
                    "wanted rank 4, [batch, height, width, channels]"
                )
        if source_features[m].shape[0] != target_features[n].shape[0]:
            raise ValueError(
                f"the feature maps of pair ({m}, {n}) have shapes {source_features[m].shape} and "
                f"{target_features[n].shape}; wanted the same batch size"
            )
