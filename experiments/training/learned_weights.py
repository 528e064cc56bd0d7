"""The weights that trained meta-networks give to channels and pairs, averaged over images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from l2t_jax import MetaNetwork, MetaParams, Network, Variables
from l2t_jax.feature_maps import pool_pairs
from l2t_jax.pairs import Pair

from ..data.dataset import Images
from ..data.preprocess import normalise
from ..system import npz
from ..system.devices import Devices
from .evaluation import batches


class Transferred(NamedTuple):
    """Mean weights of every pair.

    Attributes:
      pairs: the pairs (source layer, target layer).
      channels: mean channel weights of each pair, ``[C]``, with the sum 1.
      pair_weights: mean λ of each pair, ``[pairs]``.
    """

    pairs: list[Pair]
    channels: list[np.ndarray]
    pair_weights: np.ndarray


def mean_weights(
    source: Network,
    source_variables: Variables,
    what: MetaNetwork,
    where: MetaNetwork,
    meta_params: MetaParams,
    pairs: Sequence[Pair],
    images: Images,
    devices: Devices,
) -> Transferred:
    """The weights of both meta-networks, averaged over images.

    Args:
      source: the source network.
      source_variables: the source's variables.
      what: the network of the channel weights.
      where: the network of the pair weights.
      meta_params: parameters of both networks.
      pairs: the pairs on which they were trained.
      images: the images to average over. They are not augmented.
      devices: where to run.

    Returns:
      The means.

    Raises:
      ValueError: an image cannot be read.
    """

    def sums(variables: Variables, params: MetaParams, images: Array, count: int) -> Any:
        """Sums over the first ``count`` images. The rest is padding."""
        features = source.apply(variables, normalise(images), train=False).features
        pooled = pool_pairs(features, pairs)
        counted = (jnp.arange(len(images)) < count)[:, None]
        weights = (what.apply(params.what, pooled), where.apply(params.where, pooled))
        return jax.tree.map(lambda each: jnp.sum(each * counted, axis=0), weights)

    whole, split = devices.replicated, devices.split
    compiled = jax.jit(sums, in_shardings=(whole, whole, split, None), out_shardings=whole)
    source_variables = devices.replicate(source_variables)
    totals = [
        jax.device_get(compiled(source_variables, meta_params, batch, count))
        for batch, count in batches(devices, images)
    ]
    channels, pair_weights = jax.tree.map(
        lambda *parts: np.sum(parts, axis=0, dtype=np.float64) / len(images.labels), *totals
    )
    return Transferred(list(pairs), list(channels), pair_weights)


def write(path: Path, means: Transferred) -> None:
    """Writes an npz file with ``pairs``, ``pair_weights``, and an array ``M-N`` for each pair."""
    arrays = {"pairs": np.array(means.pairs), "pair_weights": means.pair_weights}
    for (m, n), weights in zip(means.pairs, means.channels, strict=True):
        arrays[f"{m}-{n}"] = weights
    np.savez(path, allow_pickle=False, **arrays)


def read(path: Path) -> Transferred:
    """Reads a file that `write` has written.

    Raises:
      ValueError: the file has another form.
      OSError: the file cannot be read.
    """
    arrays = npz.read(path)
    try:
        listed, pair_weights = arrays["pairs"], arrays["pair_weights"]
        if listed.dtype.kind not in "iu" or listed.shape[1:] != (2,):
            raise ValueError(
                f"{path}: pairs must be integers [pairs, 2] (got shape {listed.shape} and type "
                f"{listed.dtype})"
            )
        pairs = [(int(m), int(n)) for m, n in listed]
        channels = [arrays[f"{m}-{n}"] for m, n in pairs]
    except KeyError as error:
        raise ValueError(
            f"{path} must have the array {error} (got {', '.join(arrays):.200})"
        ) from None
    for weights in (pair_weights, *channels):
        if weights.dtype.kind != "f" or weights.ndim != 1 or not weights.size:
            raise ValueError(
                f"{path}: weights must be a list of floats (got shape {weights.shape} and type "
                f"{weights.dtype})"
            )
    if len(pair_weights) != len(pairs):
        raise ValueError(
            f"{path}: pair_weights must be {len(pairs)}, one a pair (got {len(pair_weights)})"
        )
    return Transferred(pairs, channels, pair_weights)
