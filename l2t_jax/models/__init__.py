"""Bundled networks (Flax Linen), and PyTorch weights for them."""

from l2t_jax.models.linen import from_linen, linen_paths
from l2t_jax.models.nnx import from_nnx, nnx_variables
from l2t_jax.models.resnet import cifar_resnet, imagenet_resnet
from l2t_jax.models.torch_weights import from_torch, to_torch, torch_names
from l2t_jax.models.vgg import vgg
from l2t_jax.models.vit import vit

__all__ = [
    "cifar_resnet",
    "from_linen",
    "from_nnx",
    "from_torch",
    "imagenet_resnet",
    "linen_paths",
    "nnx_variables",
    "to_torch",
    "torch_names",
    "vgg",
    "vit",
]
