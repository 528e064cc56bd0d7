"""Token features, such as those of vision transformers, as feature maps."""

from __future__ import annotations

import math

from l2t_jax._typing import Array, Float
from l2t_jax.networks import Network, Outputs, Variables


def tokens_to_map(
    tokens: Float[Array, "b n d"], *, prefix: int = 0, grid: tuple[int, int] | None = None
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
      >>> import jax.numpy as jnp
      >>> tokens_to_map(jnp.arange(5.0).reshape(1, 5, 1), prefix=1)[0, :, :, 0].tolist()
      [[1.0, 2.0], [3.0, 4.0]]
    """
    if tokens.ndim != 3:
        raise ValueError(
            f"tokens of shape {tokens.shape} came; wanted rank 3, [batch, tokens, width]"
        )
    if prefix < 0:
        raise ValueError(f"a prefix of {prefix} tokens came; wanted 0 or more")
    batch, count, width = tokens.shape
    patches = count - prefix
    if grid is None:
        side = math.isqrt(max(patches, 0))
        if side == 0 or side * side != patches:
            raise ValueError(
                f"{count} tokens came with a prefix of {prefix}; {patches} patches are no square: "
                "wanted another `prefix`, or the `grid` (down, across)"
            )
        grid = (side, side)
    if math.prod(grid) != patches or min(grid) < 1:
        raise ValueError(
            f"{count} tokens came with a prefix of {prefix} for a grid of {grid}; wanted "
            f"{prefix + math.prod(grid)}"
        )
    return tokens[:, prefix:].reshape(batch, *grid, width)


def with_token_maps(
    network: Network, *, prefix: int = 0, grid: tuple[int, int] | None = None
) -> Network:
    """A network whose token features ``[B, N, D]`` have become feature maps ``[B, h, w, D]``.

    Maps of rank 4, such as those of a convolutional stem, stay as they are. Nothing else of the
    transfer knows of tokens.

    Args:
      network: any network, such as a vision transformer whose layers were chosen by their paths.
      prefix: number of tokens before those of the patches; see `tokens_to_map`.
      grid: number of patches down and across; see there.

    Returns:
      The network. Features of ranks other than 3 and 4, or a number of tokens that does not fit,
      raise a ValueError when it is applied.

    Example:
      >>> import jax.numpy as jnp
      >>> def apply(variables, images, *, train):
      ...     tokens = images.reshape(images.shape[0], -1, images.shape[-1])
      ...     return Outputs(tokens.mean(1), (tokens,), {})
      >>> network = with_token_maps(Network(lambda key, images: Variables({}, {}), apply))
      >>> network.apply(Variables({}, {}), jnp.ones((2, 4, 4, 3)), train=True).features[0].shape
      (2, 4, 4, 3)
    """

    def apply(variables: Variables, images: Array, *, train: bool) -> Outputs:
        outputs = network.apply(variables, images, train=train)
        features = tuple(
            feature if feature.ndim == 4 else tokens_to_map(feature, prefix=prefix, grid=grid)
            for feature in outputs.features
        )
        return outputs._replace(features=features)

    return Network(network.init, apply)
