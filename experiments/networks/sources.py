"""The frozen source networks of a run, presented as one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from l2t_jax import Network, Outputs, Variables, concatenate, join_variables, output_shapes

from . import zoo


class Sources(NamedTuple):
    """One or several trained networks.

    Attributes:
      names: the networks' names.
      network: all as one network; with one source, that source.
      variables: variables of `network`.
      outputs: shapes of each source's outputs.
    """

    names: tuple[str, ...]
    network: Network
    variables: Variables
    outputs: tuple[Outputs, ...]

    @property
    def classes(self) -> tuple[int, ...]:
        """Number of logits of each source."""
        return tuple(outputs.logits.shape[-1] for outputs in self.outputs)

    @property
    def layers(self) -> list[str]:
        """A name for every feature map: ``resnet32 4``, with several sources ``resnet20 1:4``."""
        several = len(self.names) > 1
        return [
            f"{name} {number}:{layer}" if several else f"{name} {layer}"
            for number, (name, outputs) in enumerate(zip(self.names, self.outputs, strict=True))
            for layer in range(len(outputs.features))
        ]


def digest(file: Path) -> str:
    """SHA-256 of a file. It identifies weights wherever they are stored."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def load(
    names: Sequence[str],
    weights: Sequence[Path],
    images: jax.ShapeDtypeStruct,
    precision: str = "float32",
) -> Sources:
    """Bundled networks with trained weights.

    Args:
      names: as in `zoo.NAMES`; at least one.
      weights: the file of each.
      images: shape of an input batch, ``[B, H, W, channels]``.
      precision: as in `zoo.network`.

    Returns:
      The sources.

    Raises:
      ValueError: a name is unknown, or a file does not fit its network.
      OSError: a file cannot be read.
    """
    loaded = [
        zoo.load(name, file, images.shape[1:], precision)
        for name, file in zip(names, weights, strict=True)
    ]
    outputs = tuple(output_shapes(*pair, images) for pair in loaded)
    if len(loaded) == 1:
        ((network, variables),) = loaded
    else:
        network = concatenate([network for network, _ in loaded])
        variables = join_variables([variables for _, variables in loaded])
    return Sources(tuple(names), network, variables, outputs)
