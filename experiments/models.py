"""List the networks: their sizes, and the layers that can be matched."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from tyro.conf import Positional, arg

from l2t_jax import output_shapes

from .networks import zoo
from .options import cli
from .options.checks import at_least, check_ranges


@dataclass(frozen=True)
class Options:
    """List the networks: their sizes, and the layers that can be matched.

    Each network has a line, with its parameters in millions and its layers:
    - Layers are numbered from 0, as --pairs of l2t train counts them.
    - Each has the height, width and channels of its map.

    Example:
      l2t models resnet32 vgg9_bn --image-size 32
    """

    names: Positional[
        Annotated[
            tuple[str, ...],
            arg(
                metavar="NETWORK ...",
                help=f"Networks: {zoo.NAMES}.",
                help_behavior_hint="(default: the usual ones)",
            ),
        ]
    ] = ()
    #: Side of the images in pixels.
    image_size: Annotated[int, arg(metavar="PIXELS")] = 32
    #: Number of classes.
    classes: int = 10


def main(options: Options) -> int:
    """Prints the table."""
    check_ranges(options, *at_least(1, options, ("image_size", "classes")))
    for name in options.names:
        zoo.find(name)  # all names, before the first line
    lines = [["network", "parameters", "layers"]]
    for name in options.names or zoo.USUAL:
        try:
            lines.append([name, *describe(name, options.image_size, options.classes)])
        except ValueError as error:
            if options.names:
                raise ValueError(
                    f"{name} with --image-size {options.image_size}: {error}"
                ) from None
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    for name, size, layers in lines:
        print(f"{name:{widths[0]}}  {size:>{widths[1]}}  {layers}")
    return 0


def describe(name: str, image_size: int, classes: int) -> tuple[str, str]:
    """A network's number of parameters, and its layers.

    Raises:
      ValueError: the network does not take images of this size.
    """
    network = zoo.network(name, classes)
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables.params))
    shapes = [each.shape[1:] for each in output_shapes(network, variables, images).features]
    return f"{count / 1e6:.2f} M", " ".join(stages(shapes))


def stages(shapes: Sequence[tuple[int, ...]]) -> Iterable[str]:
    """Layers of the same shape together, such as ``0-4:32x32x16``."""
    first = 0
    for layer, shape in enumerate(shapes):
        if layer + 1 == len(shapes) or shapes[layer + 1] != shape:
            numbers = f"{first}" if first == layer else f"{first}-{layer}"
            yield f"{numbers}:{'x'.join(map(str, shape))}"
            first = layer + 1


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t models", args=words)


if __name__ == "__main__":
    sys.exit(command())
