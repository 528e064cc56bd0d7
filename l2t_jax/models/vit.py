"""Vision transformers, with the parameter names of timm's (``blocks.0.attn.qkv``)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from l2t_jax._ops.convolution import convolve
from l2t_jax._typing import Array
from l2t_jax.adapters.linen import from_linen
from l2t_jax.base import Network
from l2t_jax.feature_maps import tokens_to_map
from l2t_jax.models.layers import fan_out_normal
from l2t_jax.models.resnet import check_classes

# Width, blocks and heads. "micro" is for images of 8 to 32 pixels; the others are the usual ones.
SIZES = {"micro": (64, 6, 4), "tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}
_EPSILON = 1e-6
# As large as the patches' embeddings: the usual 0.02 leaves a bag of patches, which small data do
# not order in any short training.
_positions = nn.initializers.truncated_normal(0.2)


def _dense(x: Array, features: int, name: str) -> Array:
    # Glorot's range, as in the first ViT: at a width of 64 the other usual choice, 0.02, leaves
    # the class token nearly blind, and SGD on its plateau.
    return nn.Dense(
        features, kernel_init=nn.initializers.xavier_uniform(), param_dtype=x.dtype, name=name
    )(x)


def _norm(x: Array, name: str) -> Array:
    return nn.LayerNorm(epsilon=_EPSILON, param_dtype=x.dtype, name=name)(x)


class PatchEmbedding(nn.Module):
    """One affine map of each patch, ``[B, H, W, C] -> [B, H/patch, W/patch, width]``."""

    width: int
    patch: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        shape = (self.patch, self.patch, images.shape[-1], self.width)
        kernel = self.param("kernel", fan_out_normal, shape, images.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.width,), images.dtype)
        return convolve(images, kernel, (self.patch, self.patch)) + bias


class Attention(nn.Module):
    """Self-attention of all tokens."""

    heads: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, tokens, width = x.shape
        qkv = _dense(x, 3 * width, "qkv").reshape(batch, tokens, 3, self.heads, -1)
        seen = nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return _dense(seen.reshape(x.shape), width, "proj")


class MLP(nn.Module):
    """Two affine maps of each token, with four times the width between them."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        hidden = nn.gelu(_dense(x, 4 * x.shape[-1], "fc1"), approximate=False)
        return _dense(hidden, x.shape[-1], "fc2")


class Block(nn.Module):
    """Attention, then an MLP, each on a norm of what it is added to."""

    heads: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x + Attention(self.heads, name="attn")(_norm(x, "norm1"))
        return x + MLP(name="mlp")(_norm(x, "norm2"))


class ViT(nn.Module):
    """See `vit`."""

    classes: int
    patch: int
    width: int
    depth: int
    heads: int
    class_token: bool

    @nn.compact
    def __call__(self, images: Array, train: bool) -> tuple[Array, tuple[Array, ...]]:
        del train  # there is nothing that training does otherwise
        if any(side % self.patch or side == 0 for side in images.shape[1:3]):
            raise ValueError(
                f"images must have sides that are multiples of the patch, {self.patch} (got shape "
                f"{images.shape})"
            )
        x = PatchEmbedding(self.width, self.patch, name="patch_embed.proj")(images)
        grid = (x.shape[1], x.shape[2])
        x = x.reshape(x.shape[0], -1, self.width)
        if self.class_token:
            token = self.param("cls_token", nn.initializers.zeros, (1, 1, self.width), x.dtype)
            x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, self.width)), x], axis=1)
        x = x + self.param("pos_embed", _positions, (1, *x.shape[1:]), x.dtype)
        maps = []
        for i in range(self.depth):
            x = Block(self.heads, name=f"blocks.{i}")(x)
            maps.append(tokens_to_map(x, prefix=int(self.class_token), grid=grid))
        x = _norm(x, "norm")
        pooled = x[:, 0] if self.class_token else jnp.mean(x, axis=1)
        return _dense(pooled, self.classes, "head"), tuple(maps)


def vit(size: str, classes: int, *, patch: int, class_token: bool = True) -> Network:
    """Vision transformer; its feature maps are the patches' tokens after each block.

    Pre-norm blocks with exact GELU and learned positions, without dropout. Positions are of one
    image size, that of ``init``.

    Args:
      size: ``micro`` (width 64, 6 blocks, 4 heads; for small images), ``tiny`` (192, 12, 3),
        ``small`` (384, 12, 6) or ``base`` (768, 12, 12).
      classes: number of logits.
      patch: side of a patch in pixels.
      class_token: whether a token of its own gathers what the classifier reads; else it reads
        the mean of all tokens. It takes no part in the feature maps.

    Returns:
      The network, for images ``[B, H, W, channels]`` whose sides are multiples of the patch.

    Raises:
      ValueError: an unknown size, no class, or a patch below 1; at ``init`` and ``apply``, images
        that no patches fit.

    Example:
      >>> import jax
      >>> network = vit("micro", classes=10, patch=2)
      >>> images = jnp.ones((2, 8, 8, 1))
      >>> variables = jax.eval_shape(network.init, jax.random.key(0), images)
      >>> variables.params["pos_embed"].shape
      (1, 17, 64)

    Source: Dosovitskiy et al. (2021), "An Image is Worth 16x16 Words", section 3.1.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)} (got {size!r})")
    if patch < 1:
        raise ValueError(f"patch must be at least 1 pixel (got {patch})")
    check_classes(classes)
    return from_linen(ViT(classes, patch, *SIZES[size], class_token))
