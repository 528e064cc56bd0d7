"""Classifies images with a network in evaluation mode, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from l2t_jax import Network, Variables

from ..data.dataset import Images
from ..data.preprocess import normalise
from ..system.devices import Devices

# The most images in a forward pass, up to so many pixels each.
LARGEST, SMALL = 500, 128**2


def best_class(logits: Array) -> Array:
    """The class of the largest logit, ``[B, classes] -> [B]``."""
    return jnp.argmax(logits, axis=-1)


def compile_evaluation(
    network: Network, devices: Devices, read: Callable[[Array], Any] = best_class
) -> Callable[[Variables, Any], Any]:
    """The jitted forward pass in evaluation mode.

    Args:
      network: the network.
      devices: where it runs.
      read: what to compute from the logits: arrays with one row an image.

    Returns:
      ``(variables, uint8 images) -> read(logits)``.
    """

    def classify(variables: Variables, images: Array) -> Any:
        return read(network.apply(variables, normalise(images), train=False).logits)

    whole, split = devices.replicated, devices.split
    return jax.jit(classify, in_shardings=(whole, split), out_shardings=whole)


def forward_batch(images: Images) -> int:
    """Images in a forward pass, if nobody says how many: 500, and fewer above 128x128 pixels."""
    pixels = math.prod(images.image_shape[:2])
    return max(1, min(LARGEST, LARGEST * SMALL // pixels))


def batches(
    devices: Devices, images: Images, batch_size: int | None = None
) -> Iterator[tuple[Array, int]]:
    """All images in order, in batches of the same shape.

    Args:
      devices: where the batches go.
      images: the images.
      batch_size: images a batch, rounded up to a multiple of the devices; None for
        `forward_batch`.

    Yields:
      A uint8 batch, and its number of images. The rest of the last batch is padding.
    """
    total = len(images.labels)
    batch_size = forward_batch(images) if batch_size is None else batch_size
    batch_size = devices.round_up(min(batch_size, total))
    rows = devices.rows(batch_size)
    for begin in range(0, total, batch_size):
        part = images.load(begin + rows[begin + rows < total])
        padding = np.zeros((len(rows) - len(part), *images.image_shape), np.uint8)
        batch = devices.batch(np.concatenate([part, padding]), batch_size)
        yield batch, min(batch_size, total - begin)


def predict(
    evaluate: Callable[[Variables, Any], Any],
    devices: Devices,
    variables: Variables,
    images: Images,
    batch_size: int | None = None,
    on_batch: Callable[[int], object] = lambda images: None,
) -> Any:
    """A network's outputs for every image.

    Args:
      evaluate: from `compile_evaluation`, for the same devices.
      devices: where it runs.
      variables: the network's variables.
      images: what to classify. At most three batches are in memory at once.
      batch_size: images a forward pass, as of `batches`.
      on_batch: called after each batch with its number of images.

    Returns:
      What ``evaluate`` returns, in arrays with one row an image. With `best_class` these are class
      numbers, ``[N]``.
    """
    predictions: list[Any] = []
    for batch, count in batches(devices, images, batch_size):
        predictions.append(evaluate(variables, batch))
        # The next batch is read while the device works on this one.
        jax.block_until_ready(predictions[-2:-1])
        on_batch(count)
    total = len(images.labels)
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *jax.device_get(predictions))


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """How many images of each class are taken for each.

    Args:
      labels: the images' classes, ``[N]``.
      predictions: what they are taken for, ``[N]``.
      classes: number of classes.

    Returns:
      Counts, ``[classes, classes]``: a row for each true class, a column for each prediction.
    """
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix


def share_right(matrix: np.ndarray) -> float:
    """Share of the images that a confusion matrix has on its diagonal, from 0 to 1."""
    return float(np.trace(matrix) / matrix.sum())


def accuracy(
    evaluate: Callable[[Variables, Any], Any],
    devices: Devices,
    variables: Variables,
    images: Images,
) -> float:
    """Share of the images classified correctly, from 0 to 1."""
    predictions = predict(evaluate, devices, variables, images)
    return float(np.mean(predictions == images.labels))
