"""Bundled networks; their parameters have PyTorch's names and layouts (`l2t_jax.pytorch`)."""

from l2t_jax.models.resnet import cifar_resnet, imagenet_resnet
from l2t_jax.models.vgg import vgg
from l2t_jax.models.vit import vit

__all__ = ["cifar_resnet", "imagenet_resnet", "vgg", "vit"]
