"""Networks by name."""

from __future__ import annotations

import re
from functools import partial

from l2t_jax import Network
from l2t_jax.models import cifar_resnet, imagenet_resnet, vgg
from l2t_jax.models.resnet import IMAGENET_STAGES

NAMES = (
    "resnetN with N = 18, 34, 50, 101, 152 (ImageNet form) or another 6n+2 (CIFAR form), "
    "cifar-resnetN, vggN or vggN_bn with N = 9, 11, 13, 16, 19"
)


def network(name: str, classes: int) -> Network:
    """The bundled network of that name.

    Args:
      name: as in `NAMES`. ``resnet18`` and its kin of the same depths are of the ImageNet form,
        as in the published code; ``cifar-resnet50`` asks for the CIFAR form.
      classes: number of logits.

    Returns:
      The network.

    Raises:
      ValueError: an unknown name or depth, or no class.
    """
    match = re.fullmatch(r"(cifar-resnet|resnet|vgg)(\d{1,4})(_bn)?", name)
    if match is None or (match[3] and match[1] != "vgg"):
        raise ValueError(f"unknown network {name!r}; known are {NAMES}")
    depth = int(match[2])
    if match[1] == "vgg":
        return vgg(depth, classes, batch_norm=match[3] is not None)
    imagenet = match[1] == "resnet" and depth in IMAGENET_STAGES
    return partial(imagenet_resnet if imagenet else cifar_resnet, depth)(classes)
