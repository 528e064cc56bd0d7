"""VGG networks of the CIFAR form, with PyTorch's parameter names (``features.i``)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from l2t_jax._ops.pooling import max_pool
from l2t_jax._typing import Array
from l2t_jax.adapters.linen import from_linen
from l2t_jax.base import Network
from l2t_jax.models.layers import BatchNorm, Conv
from l2t_jax.models.resnet import check_classes

# Convolutions in each of the five stages; a max-pool closes each stage.
STAGES = {
    9: (1, 1, 2, 2, 2),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
# Channels of each stage, and units of the hidden linear layers, as multiples of the width.
CHANNELS, HIDDEN = (1, 2, 4, 8, 8), 8


class VGG(nn.Module):
    depth: int
    classes: int
    batch_norm: bool
    dropout_rate: float
    width: int = 64
    operands: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, tuple[Array, ...]]:
        if min(x.shape[1:3]) < 32:
            raise ValueError(
                f"images must be 32x32 or more for VGG's five max-pools (got {x.shape})"
            )
        maps = []
        index = 0
        for count, multiple in zip(STAGES[self.depth], CHANNELS, strict=True):
            for _ in range(count):
                name, channels = f"features.{index}", multiple * self.width
                x = Conv(channels, 3, use_bias=True, operands=self.operands, name=name)(x)
                if self.batch_norm:
                    x = BatchNorm(name=f"features.{index + 1}")(x, train)
                x = nn.relu(x)
                index += 3 if self.batch_norm else 2
            maps.append(x)
            x = max_pool(x, 2, 2)
            index += 1
        x = jnp.mean(x, axis=(1, 2))
        if self.depth == 9:
            return self._dense(x, self.classes, "classifier"), tuple(maps)
        for name in ("classifier.0", "classifier.3"):
            x = nn.relu(self._dense(x, HIDDEN * self.width, name))
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return self._dense(x, self.classes, "classifier.6"), tuple(maps)

    def _dense(self, x: Array, features: int, name: str) -> Array:
        init = nn.initializers.normal(0.01)
        return nn.Dense(features, kernel_init=init, param_dtype=x.dtype, name=name)(x)


def vgg(
    depth: int,
    classes: int,
    *,
    batch_norm: bool = True,
    dropout_rate: float = 0.5,
    width: int = 64,
    operands: DTypeLike | None = None,
) -> Network:
    """VGG of the CIFAR form; five feature maps, each taken before a max-pool.

    VGG-9 ends in global average pooling and one linear layer; the deeper ones in three linear
    layers of 512 units with dropout between them, whose key lives in the model state. 3x3
    convolutions with bias start from the fan-out normal, linear kernels from N(0, 0.01²).

    Args:
      depth: 9, 11, 13, 16 or 19.
      classes: number of logits.
      batch_norm: whether batch norm follows each convolution.
      dropout_rate: share of units dropped in the classifier in training; unused by VGG-9, which
        has no dropout.
      width: channels of the first convolution; all others have 2, 4 or 8 times as many. A quarter
        of the default takes about a sixteenth of the operations.
      operands: type, such as ``jnp.bfloat16``, that the convolutions' operands are rounded to,
        forward and in all derivatives; all else keeps the images' type. Not rounded if None.

    Returns:
      The network, for images ``[B, H, W, channels]`` of at least 32x32.

    Raises:
      ValueError: an unknown depth, no class, or no channel; at ``init`` and ``apply``, smaller
        images.

    Example:
      >>> import jax
      >>> network, images = vgg(9, classes=10), jnp.ones((2, 32, 32, 3))
      >>> variables = jax.eval_shape(network.init, jax.random.key(0), images)
      >>> sorted(variables.params)[:3]
      ['classifier', 'features.0', 'features.1']

    Source: Simonyan & Zisserman (2015), as in the code published with Jang et al. (2019).
    """
    if depth not in STAGES:
        raise ValueError(f"the depth of a VGG must be one of {sorted(STAGES)} (got {depth})")
    check_classes(classes)
    if width < 1:
        raise ValueError(f"the width of a VGG must be at least 1 (got {width})")
    module = VGG(depth, classes, batch_norm, dropout_rate, width, operands)
    return from_linen(module, rngs=("dropout",) if depth > 9 and dropout_rate > 0 else ())
