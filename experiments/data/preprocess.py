"""Turns uint8 images into a network's input, inside jit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

# Mean and standard deviation of each RGB channel, as in the training of the published networks.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalise(images: Array) -> Array:
    """``(x / 255 - mean) / std`` by channel: uint8 ``[B, H, W, 3]`` to float32."""
    mean, std = (jnp.array(values, jnp.float32) for values in (MEAN, STD))
    return (images.astype(jnp.float32) / 255 - mean) / std


def pad_crop_flip(key: Array, images: Array, padding: int = 4) -> Array:
    """Pads with black, crops back at random, and mirrors half of the images at random.

    Args:
      key: a PRNG key.
      images: uint8, ``[B, H, W, 3]``.
      padding: width of the padding on each side, in pixels.

    Returns:
      Images of the same shape and type. Each is moved by its own random offset.
    """
    batch, height, width, channels = images.shape
    edge = (padding, padding)
    padded = jnp.pad(images, ((0, 0), edge, edge, (0, 0)))
    offset_key, flip_key = jax.random.split(key)
    offsets = jax.random.randint(offset_key, (batch, 2), 0, 2 * padding + 1)

    def crop(image: Array, offset: Array) -> Array:
        return jax.lax.dynamic_slice(image, (*offset, 0), (height, width, channels))

    cropped = jax.vmap(crop)(padded, offsets)
    flips = jax.random.bernoulli(flip_key, 0.5, (batch, 1, 1, 1))
    return jnp.where(flips, cropped[:, :, ::-1], cropped)
