"""Means and deviations of a network's channels over images."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from l2t_jax import Network, Variables

from ..data.dataset import Images
from ..data.preprocess import normalise
from ..system.devices import Devices
from .evaluation import batches


class Statistics(NamedTuple):
    """Means and standard deviations over images and positions, ``[C]`` for each feature map."""

    means: list[np.ndarray]
    deviations: list[np.ndarray]


def measure(network: Network, variables: Variables, images: Images, devices: Devices) -> Statistics:
    """One pass over the images, in evaluation mode, without augmentation.

    Raises:
      ValueError: an image cannot be read.
    """

    def moments(variables: Variables, images: Array, count: Array) -> Any:
        """Mean and mean squared deviation of the first ``count`` images. The rest is padding."""
        features = network.apply(variables, normalise(images), train=False).features
        counted = (jnp.arange(len(images)) < count)[:, None, None, None]

        def average(values: Array) -> Array:
            return jnp.sum(values * counted, (0, 1, 2)) / (
                count * values.shape[1] * values.shape[2]
            )

        means = [average(feature) for feature in features]
        squares = [
            average(jnp.square(feature - mean))
            for feature, mean in zip(features, means, strict=True)
        ]
        return means, squares

    whole, split = devices.replicated, devices.split
    compiled = jax.jit(moments, in_shardings=(whole, split, None), out_shardings=whole)
    variables = devices.replicate(variables)
    parts, counts = [], []
    for batch, count in batches(devices, images):
        found = jax.device_get(compiled(variables, batch, np.float32(count)))
        parts.append(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found))
        counts.append(count)

    def joined(means: list[np.ndarray], squares: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        mean = np.average(means, axis=0, weights=counts)
        square = np.average(squares + np.square(np.stack(means) - mean), axis=0, weights=counts)
        return mean, np.sqrt(square)

    layers = [
        joined([means[layer] for means, _ in parts], [squares[layer] for _, squares in parts])
        for layer in range(len(parts[0][0]))
    ]
    return Statistics([mean for mean, _ in layers], [deviation for _, deviation in layers])
