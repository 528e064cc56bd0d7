"""Networks by name, and their weights in files."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import safetensors.numpy

from l2t_jax import Network, Variables, output_shapes, pytorch
from l2t_jax.models import cifar_resnet, imagenet_resnet, vgg, vit
from l2t_jax.models.resnet import IMAGENET_STAGES
from l2t_jax.models.vgg import STAGES as VGG_STAGES
from l2t_jax.models.vit import SIZES
from l2t_jax.pytorch import from_torch, to_torch

from ..system.files import replacing
from ..system.precision import operands

NAMES = (
    "resnetN with N = 18, 34, 50, 101, 152 (ImageNet form) or another 6n+2 (CIFAR form), "
    "cifar-resnetN, vggN or vggN_bn with N = 9, 11, 13, 16, 19 (a narrow one: vggN_bn_wW with W "
    "instead of 64 channels in the first layer), "
    f"vit_SIZE_patchN with SIZE = {', '.join(SIZES)} and N pixels"
)

# What `l2t models` lists if no names are given.
USUAL = (
    *("resnet8", "resnet14", "resnet20", "resnet32", "resnet56", "resnet110"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("vgg9_bn_w16", "vgg9_bn", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *(f"vit_{size}_patch{patch}" for size, patch in zip(SIZES, (4, 16, 16, 16), strict=True)),
)

# Names of the bundled networks' last layers. The last one that is found is the classifier.
HEADS = ("fc", "head", "classifier", "classifier.6")


def network(name: str, classes: int, precision: str = "float32") -> Network:
    """The bundled network of that name.

    Args:
      name: as in `NAMES`. A depth that both forms of ResNet have means the ImageNet form, as in the
        published code. ``cifar-resnet50`` means the CIFAR form.
      classes: number of logits.
      precision: as in `experiments.system.precision`.

    Returns:
      The network.

    Raises:
      ValueError: the name or depth is unknown, there are no classes, or the network does not have
        this precision.
    """
    return find(name, precision)(classes)


def find(name: str, precision: str = "float32") -> Callable[[int], Network]:
    """A function that builds the network of that name for a number of classes.

    A name is checked without building a network.

    Raises:
      ValueError: the name or depth is unknown, or the network does not have this precision.
    """
    match = re.fullmatch(r"(vit)_([a-z]+)_patch(\d{1,4})", name)
    if match is not None and match[2] in SIZES and int(match[3]) > 0:
        if operands(precision) is not None:
            raise ValueError(
                f"--precision must be float32 or tensorfloat32 for {name} (got {precision})"
            )
        return partial(vit, match[2], patch=int(match[3]))
    match = re.fullmatch(r"(vgg)(\d{1,4})(_bn)?(?:_w(\d{1,4}))?", name) or re.fullmatch(
        r"(cifar-resnet|resnet)(\d{1,4})(_bn)?()", name
    )
    if match is not None:
        form, depth, batch_norm = match[1], int(match[2]), match[3] is not None
        rounded = operands(precision)
        width = int(match[4] or 64)
        if form == "vgg" and depth in VGG_STAGES and width > 0:
            return partial(vgg, depth, batch_norm=batch_norm, width=width, operands=rounded)
        if form == "resnet" and depth in IMAGENET_STAGES and not batch_norm:
            return partial(imagenet_resnet, depth, operands=rounded)
        if form != "vgg" and depth >= 8 and depth % 6 == 2 and not batch_norm:
            return partial(cifar_resnet, depth, operands=rounded)
    raise ValueError(f"a network must be {NAMES} (got {name})")


def load(
    name: str, path: Path, image_shape: tuple[int, ...], precision: str = "float32"
) -> tuple[Network, Variables]:
    """A bundled network with trained weights.

    Args:
      name: as in `NAMES`.
      path: a ``.pth``, ``.pth.tar`` or ``.safetensors`` file. It determines the number of classes.
      image_shape: height, width and channels of the input images.
      precision: as in `network`.

    Returns:
      The network and its variables.

    Raises:
      ValueError: the name is unknown, or the file does not fit the network.
      OSError: the file cannot be read.
    """
    make = find(name, precision)  # an unknown name is reported before the file is read
    try:
        state_dict = pytorch.find_state_dict(pytorch.read(path.read_bytes()))
        heads = [head for head in HEADS if f"{head}.weight" in state_dict]
        if not heads:
            raise ValueError(
                f"the weights must have a classifier: {', '.join(HEADS)} (got none of these)"
            )
        shape = state_dict[f"{heads[-1]}.weight"].shape
        if len(shape) != 2 or 0 in shape:
            raise ValueError(
                f"the classifier must have the shape [classes, features] (got {list(shape)})"
            )
        found = make(shape[0])
        images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        like = jax.eval_shape(found.init, jax.random.key(0), images)
        variables = from_torch(state_dict, like)
    except ValueError as error:
        raise ValueError(f"{path} for {name}: {error}") from None
    # PyTorch has no name for a dropout key. Evaluation does not use one, so any will do.
    return found, jax.tree.map(
        lambda leaf: jax.random.key(0) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf,
        variables,
    )


def classes_of(network: Network, variables: Variables, image_shape: tuple[int, ...]) -> int:
    """Number of a network's logits."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return output_shapes(network, variables, images).logits.shape[-1]


def save(path: Path, variables: Variables, metadata: dict[str, str] | None = None) -> None:
    """Writes a network's weights as safetensors with PyTorch's names, completely or not at all."""
    # The file that safetensors writes by itself can be read only by its owner.
    content = safetensors.numpy.save(to_torch(variables), metadata)
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)
