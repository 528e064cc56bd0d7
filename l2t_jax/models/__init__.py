"""Bundled networks, and beside them what makes networks of Flax's modules and PyTorch's weights.

The latter are those of `l2t_jax.adapters` and `l2t_jax.pytorch`; ``torch_formats`` reads files.
"""

from l2t_jax.adapters import from_linen, from_nnx, linen_paths, nnx_variables
from l2t_jax.models.resnet import cifar_resnet, imagenet_resnet
from l2t_jax.models.vgg import vgg
from l2t_jax.models.vit import vit
from l2t_jax.pytorch import files as torch_formats
from l2t_jax.pytorch import from_torch, to_torch, torch_names

__all__ = [
    "cifar_resnet",
    "from_linen",
    "from_nnx",
    "from_torch",
    "imagenet_resnet",
    "linen_paths",
    "nnx_variables",
    "to_torch",
    "torch_formats",
    "torch_names",
    "vgg",
    "vit",
]
