"""Networks made of networks, and what they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2t_jax._precision import widen
from l2t_jax._typing import Array, ArrayOrShape
from l2t_jax.base import Network, Outputs, Variables
from l2t_jax.feature_maps import tokens_to_map

# A deviation of less than this share of the mean is rounding.
_CONSTANT = 1e-5


def concatenate(networks: Sequence[Network]) -> Network:
    """Several networks presented as one: a transfer from several sources needs nothing else.

    Args:
      networks: at least one; all see the same images.

    Returns:
      A network whose feature maps are those of the first, then those of the second, and so on,
      and whose logits stand side by side, ``[B, classes_1 + classes_2 + …]``. Its variables hold
      each network's own in a tuple.

    Raises:
      ValueError: no network.

    Example:
      >>> from l2t_jax.models import cifar_resnet
      >>> both = concatenate([cifar_resnet(14, classes=5), cifar_resnet(8, classes=3)])
      >>> images = jax.ShapeDtypeStruct((2, 8, 8, 3), "float32")
      >>> variables = jax.eval_shape(both.init, jax.random.key(0), images)
      >>> outputs = output_shapes(both, variables, images)
      >>> outputs.logits.shape, len(outputs.features)
      ((2, 8), 9)

    Source: Jang et al. (2019), "Learning What and Where to Transfer", section 3 (multiple source
    networks).
    """
    networks = tuple(networks)
    if not networks:
        raise ValueError("networks must be at least one (got none)")

    def init(key: Array, images: Array) -> Variables:
        keys = jax.random.split(key, len(networks))
        each = [n.init(k, images) for n, k in zip(networks, keys, strict=True)]
        return join_variables(each)

    def apply(variables: Variables, images: Array, *, train: bool) -> Outputs:
        each = [
            network.apply(Variables(params, state), images, train=train)
            for network, params, state in zip(networks, *variables, strict=True)
        ]
        return Outputs(
            jnp.concatenate([outputs.logits for outputs in each], axis=-1),
            tuple(feature for outputs in each for feature in outputs.features),
            tuple(outputs.model_state for outputs in each),
        )

    return Network(init, apply)


def join_variables(each: Sequence[Variables]) -> Variables:
    """Variables of ``concatenate(networks)`` from those of each network.

    Args:
      each: the variables of each network, in the order of the networks.

    Returns:
      Variables whose two parts are tuples with those of each.

    Example:
      >>> join_variables([Variables({"a": 1}, {}), Variables({"b": 2}, {})]).params
      ({'a': 1}, {'b': 2})
    """
    return Variables(
        tuple(variables.params for variables in each),
        tuple(variables.model_state for variables in each),
    )


def output_shapes(network: Network, variables: Variables, images: ArrayOrShape) -> Outputs:
    """Shapes and dtypes of a network's outputs, without computing them.

    Args:
      network: the network.
      variables: its variables, arrays or `jax.ShapeDtypeStruct` leaves.
      images: a batch (array or shape), ``[B, H, W, channels]``.

    Returns:
      `Outputs` whose leaves are `jax.ShapeDtypeStruct`.

    Raises:
      ValueError: a feature map is not of rank 4, or a batch size differs from that of the images.

    Example:
      >>> from l2t_jax.models import cifar_resnet
      >>> network, images = cifar_resnet(8, classes=10), jnp.ones((2, 8, 8, 3))
      >>> variables = jax.eval_shape(network.init, jax.random.key(0), images)
      >>> [feature.shape for feature in output_shapes(network, variables, images).features]
      [(2, 8, 8, 16), (2, 4, 4, 32), (2, 2, 2, 64)]
    """
    outputs = jax.eval_shape(
        lambda variables, images: network.apply(variables, images, train=False), variables, images
    )
    for index, feature in enumerate(outputs.features):
        if feature.ndim != 4:
            raise ValueError(
                f"feature map {index} must be of rank 4, [batch, height, width, channels] (got "
                f"{feature.shape}); `with_token_maps` makes maps of tokens"
            )
    for what, array in [("logits", outputs.logits)] + [
        (f"feature map {i}", f) for i, f in enumerate(outputs.features)
    ]:
        if array.shape[:1] != images.shape[:1]:
            raise ValueError(
                f"{what} must have the batch size of the images (got {array.shape} from images "
                f"{images.shape})"
            )
    return outputs


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


def with_standard_features(
    network: Network, means: Sequence[ArrayLike], deviations: Sequence[ArrayLike]
) -> Network:
    """A network whose feature maps have mean 0 and deviation 1 in every channel.

    ``f_c -> (f_c - mean_c) / deviation_c``, over the images that were measured. Without it a large
    part of a matching loss is spent on what is the same for every image. Logits and variables stay
    as they are.

    Args:
      network: the network, such as a source.
      means: of each feature map, the mean of every channel over images and positions, ``[C]``.
      deviations: likewise the standard deviations. A channel that is constant, but for rounding,
        becomes 0.

    Returns:
      The network.

    Raises:
      ValueError: not one mean and one deviation for each feature map, or for each of its channels
        (when it is applied).

    Example:
      >>> def apply(variables, images, *, train):
      ...     return Outputs(images.mean((1, 2)), (images,), variables.model_state)
      >>> network = Network(lambda key, images: Variables({}, {}), apply)
      >>> standard = with_standard_features(network, [jnp.array([2.0])], [jnp.array([4.0])])
      >>> outputs = standard.apply(Variables({}, {}), jnp.full((1, 1, 1, 1), 10.0), train=False)
      >>> outputs.features[0].item()
      2.0
    """
    means, deviations = tuple(means), tuple(deviations)

    def apply(variables: Variables, images: Any, *, train: bool) -> Outputs:
        outputs = network.apply(variables, images, train=train)
        if not len(outputs.features) == len(means) == len(deviations):
            raise ValueError(
                "means and deviations must be one for each feature map, "
                f"{len(outputs.features)} (got {len(means)} and {len(deviations)}); measure them "
                "on this network"
            )
        scaled = []
        for feature, mean, deviation in zip(outputs.features, means, deviations, strict=True):
            wide = widen(feature)
            centre, scale = (jnp.asarray(each, wide.dtype) for each in (mean, deviation))
            if not centre.shape == scale.shape == feature.shape[-1:]:
                raise ValueError(
                    f"means and deviations must have shape {feature.shape[-1:]}, one a channel "
                    f"(got {centre.shape} and {scale.shape})"
                )
            varies = scale > _CONSTANT * jnp.abs(centre)
            standard = (wide - centre) / jnp.where(varies, scale, 1) * varies
            scaled.append(standard.astype(feature.dtype))
        return outputs._replace(features=tuple(scaled))

    return Network(network.init, apply)
