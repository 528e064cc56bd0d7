"""Bundled networks (Flax Linen), and PyTorch weights for them."""

from l2t_jax.models.linen import from_linen
from l2t_jax.models.resnet import cifar_resnet, imagenet_resnet
from l2t_jax.models.torch_weights import from_torch, to_torch, torch_names
from l2t_jax.models.vgg import vgg

__all__ = [
    "cifar_resnet",
    "from_linen",
    "from_torch",
    "imagenet_resnet",
    "to_torch",
    "torch_names",
    "vgg",
]
