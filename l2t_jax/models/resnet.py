"""Residual networks of the CIFAR form and of the ImageNet form.

Modules carry PyTorch's parameter names (``block1.conv1``, ``layer2.0.downsample.1``), so that
weights travel between the two without a table of names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from l2t_jax._ops.pooling import max_pool
from l2t_jax._typing import Array
from l2t_jax.adapters.linen import from_linen
from l2t_jax.base import Network
from l2t_jax.models.layers import BatchNorm, Conv, torch_uniform


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; a projection (1x1 and batch norm) where asked for."""

    features: int
    stride: int = 1
    project: bool = False
    operands: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        conv = partial(Conv, operands=self.operands)
        y = conv(self.features, 3, self.stride, name="conv1")(x)
        y = nn.relu(BatchNorm(name="bn1")(y, train))
        y = conv(self.features, 3, name="conv2")(y)
        y = BatchNorm(name="bn2")(y, train)
        return nn.relu(y + _shortcut(conv, x, self.features, self.stride, self.project, train))


class Bottleneck(nn.Module):
    """1x1, 3x3 (which has the stride) and 1x1 convolutions to four times the features."""

    features: int
    stride: int = 1
    project: bool = False
    operands: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        conv = partial(Conv, operands=self.operands)
        y = conv(self.features, 1, name="conv1")(x)
        y = nn.relu(BatchNorm(name="bn1")(y, train))
        y = conv(self.features, 3, self.stride, name="conv2")(y)
        y = nn.relu(BatchNorm(name="bn2")(y, train))
        y = conv(4 * self.features, 1, name="conv3")(y)
        y = BatchNorm(name="bn3")(y, train)
        return nn.relu(y + _shortcut(conv, x, 4 * self.features, self.stride, self.project, train))


def _shortcut(
    conv: Callable[..., Conv], x: Array, features: int, stride: int, project: bool, train: bool
) -> Array:
    if not project:
        return x
    x = conv(features, 1, stride, name="downsample.0")(x)
    return BatchNorm(name="downsample.1")(x, train)


def _classify(x: Array, classes: int) -> Array:
    return nn.Dense(
        classes, kernel_init=torch_uniform, bias_init=_fc_bias(x), param_dtype=x.dtype, name="fc"
    )(jnp.mean(x, axis=(1, 2)))


def _fc_bias(x: Array) -> Callable[..., Array]:
    # PyTorch draws a linear layer's bias with the kernel's bound.
    def init(key: Array, shape: tuple[int, ...], dtype: object) -> Array:
        return torch_uniform(key, (x.shape[-1], *shape), dtype)[0]

    return init


class CifarResNet(nn.Module):
    depth: int
    classes: int
    operands: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, tuple[Array, ...]]:
        block = partial(BasicBlock, operands=self.operands)
        x = Conv(16, 3, use_bias=True, operands=self.operands, name="conv1")(x)
        x = nn.relu(BatchNorm(name="bn1")(x, train))
        maps = []
        for stage, features in enumerate((16, 32, 64)):
            first = stage > 0
            x = block(features, 1 + first, project=first, name=f"block{2 * stage + 1}")(x, train)
            maps.append(x)
            for j in range((self.depth - 2) // 6 - 1):
                x = block(features, name=f"blocks{2 * stage + 2}.{j}")(x, train)
                maps.append(x)
        return _classify(x, self.classes), tuple(maps)


class ImageNetResNet(nn.Module):
    depth: int
    classes: int
    operands: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, tuple[Array, ...]]:
        block, counts = IMAGENET_STAGES[self.depth]
        x = Conv(64, 7, 2, operands=self.operands, name="conv1")(x)
        x = nn.relu(BatchNorm(name="bn1")(x, train))
        maps = [x]
        x = max_pool(x, 3, 2, padding=1)
        for stage, count in enumerate(counts):
            for j in range(count):
                stride = 2 if stage > 0 and j == 0 else 1
                project = j == 0 and (stage > 0 or block is Bottleneck)
                features, name = 64 * 2**stage, f"layer{stage + 1}.{j}"
                x = block(features, stride, project, self.operands, name=name)(x, train)
            maps.append(x)
        return _classify(x, self.classes), tuple(maps)


IMAGENET_STAGES: dict[int, tuple[type[nn.Module], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def cifar_resnet(depth: int, classes: int, *, operands: DTypeLike | None = None) -> Network:
    """ResNet-(6n+2) of the CIFAR form; its feature maps are the outputs of all 3n blocks.

    A 3x3 stem with bias, then three stages of n basic blocks at 16, 32 and 64 channels, with
    projection shortcuts where the size changes. Kernels start from the fan-out normal.

    Args:
      depth: number of layers, 8, 14, 20, 26, 32, …
      classes: number of logits.
      operands: type, such as ``jnp.bfloat16``, that the convolutions' operands are rounded to,
        forward and in all derivatives; all else keeps the images' type. Not rounded if None.

    Returns:
      The network, for images ``[B, H, W, channels]`` of any size; 32x32 in the paper.

    Raises:
      ValueError: the depth is not of the form 6n+2, or there is no class.

    Example:
      >>> import jax
      >>> network = cifar_resnet(14, classes=10)
      >>> variables = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((2, 32, 32, 3)))
      >>> sorted(variables.params)[:3]
      ['block1', 'block3', 'block5']

    Source: He et al. (2016), section 4.2, as in the code published with Jang et al. (2019).
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(
            f"the depth of a CIFAR-form ResNet must be 6n+2: 8, 14, 20, … (got {depth})"
        )
    check_classes(classes)
    return from_linen(CifarResNet(depth, classes, operands))


def imagenet_resnet(depth: int, classes: int, *, operands: DTypeLike | None = None) -> Network:
    """ResNet of the ImageNet form; five feature maps: the stem's, then each stage's output.

    Args:
      depth: 18 or 34 (basic blocks), 50, 101 or 152 (bottlenecks).
      classes: number of logits.
      operands: type, such as ``jnp.bfloat16``, that the convolutions' operands are rounded to,
        forward and in all derivatives; all else keeps the images' type. Not rounded if None.

    Returns:
      The network, for images ``[B, H, W, channels]`` of any size; 224x224 in the paper.

    Raises:
      ValueError: an unknown depth, or no class.

    Example:
      >>> import jax
      >>> network, images = imagenet_resnet(18, classes=10), jnp.ones((2, 64, 64, 3))
      >>> variables = jax.eval_shape(network.init, jax.random.key(0), images)
      >>> sorted(variables.params)[:3]
      ['bn1', 'conv1', 'fc']

    Source: He et al. (2016), table 1, as in the code published with Jang et al. (2019).
    """
    if depth not in IMAGENET_STAGES:
        raise ValueError(
            f"the depth of an ImageNet-form ResNet must be one of {sorted(IMAGENET_STAGES)} (got "
            f"{depth})"
        )
    check_classes(classes)
    return from_linen(ImageNetResNet(depth, classes, operands))


def check_classes(classes: int) -> None:
    """Raises a ValueError unless the number of classes is positive."""
    if classes < 1:
        raise ValueError(f"classes must be at least 1 (got {classes})")
