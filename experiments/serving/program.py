"""A trained network as one program that JAX alone can run."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, export

from l2t_jax import Network, Variables

from ..data.preprocess import normalise
from ..system import extra

# One file serves on all of them.
PLATFORMS = ("cpu", "cuda", "tpu")
INSTALL = 'pip install "l2t_jax[export]"'


def check_can_be_written() -> None:
    """Raises a ValueError if flatbuffers, which JAX writes programs with, is not installed."""
    if not extra.is_installed("flatbuffers"):
        raise ValueError(
            f"flatbuffers must be installed to export (got none); install it: {INSTALL}"
        )


def write(network: Network, variables: Variables, image_shape: tuple[int, int, int]) -> bytes:
    """The program ``uint8 images [B, H, W, 3] -> float32 probabilities [B, classes]``.

    It holds the weights, normalises the images, and takes a batch of any size. Products have the
    precision of the context.

    Args:
      network: the trained network.
      variables: its variables.
      image_shape: height, width and channels.

    Returns:
      What `jax.export.deserialize` reads.
    """

    def classify(images: Array) -> Array:
        return jax.nn.softmax(network.apply(variables, normalise(images), train=False).logits)

    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)
    return bytes(export.export(jax.jit(classify), platforms=PLATFORMS)(images).serialize())
