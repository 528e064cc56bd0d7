"""The two meta-networks: "what" weighs channels, "where" weighs pairs of layers.

Both are fed with the source's feature maps, averaged over positions, and decide per sample. Their
parameters are float32 or wider, also where the features are bfloat16 or float16. In the shape
descriptions `B` is the batch dimension, `C` a source layer's number of channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from l2t_jax._precision import at_least_float32, widen
from l2t_jax._typing import Array, Float, PyTree
from l2t_jax.affine import Affine, uniform_affine
from l2t_jax.feature_maps import pool_pairs
from l2t_jax.matching import combine_weights
from l2t_jax.pairs import Pair


class MetaNetwork(NamedTuple):
    """A meta-network as a pair of pure functions over all pairs at once.

    Attributes:
      init: ``(key, pooled) -> params``, with pooled features (or their shapes) ``[B, C]``, one a
        pair.
      apply: ``(params, pooled) -> weights``. "What" gives a tuple with ``[B, C]`` for each pair,
        "where" gives ``[B, pairs]``.
    """

    init: Callable[[Array, Sequence[Any]], PyTree]
    apply: Callable[[PyTree, Sequence[Array]], Any]


class MetaParams(NamedTuple):
    """Parameters of both meta-networks.

    Attributes:
      what: params of the channel weights' network.
      where: params of the pair weights' network.
    """

    what: PyTree
    where: PyTree


def _no_params(key: Array, pooled: Sequence[Any]) -> PyTree:
    del key, pooled
    return ()


def softmax_channels() -> MetaNetwork:
    """ "What" of the paper: ``w^{m,n} = softmax(GAP(S^m(x)) K + b)``, zero-initialised.

    Zero parameters make the weights uniform at the start.

    Returns:
      A `MetaNetwork` whose weights are a tuple of ``[B, C]``, each row summing to one.

    Example:
      >>> what = softmax_channels()
      >>> pooled = (jnp.ones((2, 4)),)
      >>> what.apply(what.init(jax.random.key(0), pooled), pooled)[0][0].tolist()
      [0.25, 0.25, 0.25, 0.25]

    Source: Jang et al. (2019), "Learning What and Where to Transfer", section 2.
    """

    def init(key: Array, pooled: Sequence[Any]) -> tuple[Affine, ...]:
        del key
        widths = [(features.shape[-1], at_least_float32(features.dtype)) for features in pooled]
        return tuple(Affine(jnp.zeros((c, c), dtype), jnp.zeros(c, dtype)) for c, dtype in widths)

    def apply(params: tuple[Affine, ...], pooled: Sequence[Array]) -> tuple[Array, ...]:
        return tuple(
            jax.nn.softmax(features @ layer.kernel + layer.bias)
            for layer, features in zip(params, pooled, strict=True)
        )

    return MetaNetwork(init, apply)


def uniform_channels() -> MetaNetwork:
    """ "What" switched off: every channel of a layer counts ``1/C``; no parameters.

    Returns:
      A `MetaNetwork` whose weights are a tuple of ``[B, C]``.

    Example:
      >>> uniform_channels().apply((), (jnp.ones((1, 4)),))[0].tolist()
      [[0.25, 0.25, 0.25, 0.25]]
    """

    def apply(params: PyTree, pooled: Sequence[Array]) -> tuple[Array, ...]:
        del params
        return tuple(jnp.full_like(widen(features), 1 / features.shape[-1]) for features in pooled)

    return MetaNetwork(_no_params, apply)


def affine_pairs(
    activation: Callable[[Array], Array] = jax.nn.relu6,
    *,
    bias_init: float | None = 1.0,
    kernel_scale: float = 1.0,
    divide_by_channels: bool = False,
) -> MetaNetwork:
    """ "Where" of the paper: ``λ^{m,n} = activation(v·GAP(S^m(x)) + c)``.

    Args:
      activation: maps the affine value to the pair weight; `jax.nn.relu6` in the paper's runs.
      bias_init: where ``c`` starts; None draws it like ``v`` in the paper's runs, uniform in
        ``±1/sqrt(C)``.
      kernel_scale: factor of that range for ``v``; at 0 every λ starts at ``activation(c)``.
      divide_by_channels: whether the pooled features are divided by ``C`` first (the published
        code's ``relu-avg``).

    Returns:
      A `MetaNetwork` whose weights have shape ``[B, pairs]``.

    Example:
      >>> where = affine_pairs()
      >>> pooled = (jnp.zeros((2, 4)), jnp.zeros((2, 8)))
      >>> where.apply(where.init(jax.random.key(0), pooled), pooled).tolist()
      [[1.0, 1.0], [1.0, 1.0]]

    Source: Jang et al. (2019), "Learning What and Where to Transfer", section 2.
    """

    def init(key: Array, pooled: Sequence[Any]) -> tuple[Affine, ...]:
        layers = []
        for pair_key, features in zip(jax.random.split(key, len(pooled)), pooled, strict=True):
            dtype = at_least_float32(features.dtype)
            layer = uniform_affine(pair_key, features.shape[-1], 1, dtype)
            layer = layer._replace(kernel=kernel_scale * layer.kernel)
            if bias_init is not None:
                layer = layer._replace(bias=jnp.full_like(layer.bias, bias_init))
            layers.append(layer)
        return tuple(layers)

    def apply(params: tuple[Affine, ...], pooled: Sequence[Array]) -> Array:
        values = [
            (features / features.shape[-1] if divide_by_channels else features) @ layer.kernel
            + layer.bias
            for layer, features in zip(params, pooled, strict=True)
        ]
        return activation(jnp.concatenate(values, axis=1))

    return MetaNetwork(init, apply)


def softmax_pairs(*, kernel_scale: float = 0.0) -> MetaNetwork:
    """ "Where" with a fixed total: ``λ^{m,n} = pairs · softmax(v·GAP(S^m(x)) + c)`` over the pairs.

    Each sample's λ sum to the number of pairs, so that the meta-network cannot turn matching up or
    down as a whole; ``beta`` does. By default all λ start at 1, which is plain feature matching.

    Args:
      kernel_scale: as in `affine_pairs`; at 0 every λ starts at 1. Of a single pair λ is always 1.

    Returns:
      A `MetaNetwork` whose weights have shape ``[B, pairs]``.

    Example:
      >>> where = softmax_pairs()
      >>> pooled = (jnp.ones((2, 4)), jnp.ones((2, 8)))
      >>> where.apply(where.init(jax.random.key(0), pooled), pooled).tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """

    def fixed_total(values: Array) -> Array:
        return values.shape[-1] * jax.nn.softmax(values)

    return affine_pairs(fixed_total, bias_init=0.0, kernel_scale=kernel_scale)


def constant_pairs(
    activation: Callable[[Array], Array] = jax.nn.softplus, *, gain: float = 10.0
) -> MetaNetwork:
    """ "Where" without looking at the sample: ``λ^{m,n} = activation(gain a^{m,n})``, a from 0.

    By default the published code's ``const`` head, whose λ start at ``log 2``. With `jax.numpy.exp`
    they start at 1, and λ moves by factors: from 0.01 to 1 in as many steps as from 1 to 100. What
    is learned then depends little on the matching's factor ``beta``.

    Args:
      activation: maps ``gain a`` to the pair weight, elementwise.
      gain: factor of ``a``; with Adam, one meta-step moves ``gain a`` by about
        ``gain`` times the learning rate.

    Returns:
      A `MetaNetwork` whose weights have shape ``[B, pairs]``, all rows alike.

    Example:
      >>> where, pooled = constant_pairs(jnp.exp), (jnp.ones((2, 4)), jnp.ones((2, 8)))
      >>> where.apply(where.init(jax.random.key(0), pooled), pooled).tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """

    def init(key: Array, pooled: Sequence[Any]) -> Array:
        del key
        return jnp.zeros(len(pooled), at_least_float32(pooled[0].dtype))

    def apply(params: Array, pooled: Sequence[Array]) -> Array:
        return jnp.broadcast_to(activation(gain * params), (pooled[0].shape[0], len(pooled)))

    return MetaNetwork(init, apply)


def level_pairs(shape: ArrayLike | Sequence[float] | None = None) -> MetaNetwork:
    """ "Where" with a fixed shape and a free level: ``λ^{m,n} = softplus(a) s^{m,n}``, a learned.

    It learns how much to match and nothing else: the counterpart of `softmax_pairs`, to tell apart
    what the two do.

    Args:
      shape: s of each pair, ``[pairs]``; 1 for each if None.

    Returns:
      A `MetaNetwork` whose weights have shape ``[B, pairs]``, all rows alike; they start at s.

    Raises:
      ValueError: not one number for each pair (when the network is used).

    Example:
      >>> where, pooled = level_pairs([1.0, 3.0]), (jnp.ones((2, 4)), jnp.ones((2, 8)))
      >>> where.apply(where.init(jax.random.key(0), pooled), pooled)[0].round(4).tolist()
      [1.0, 3.0]
    """

    def init(key: Array, pooled: Sequence[Any]) -> Array:
        del key
        # softplus of this is 1.
        return jnp.log(jnp.expm1(jnp.ones((), at_least_float32(pooled[0].dtype))))

    def apply(params: Array, pooled: Sequence[Array]) -> Array:
        fixed = jnp.ones(len(pooled)) if shape is None else jnp.asarray(shape)
        if fixed.shape != (len(pooled),):
            raise ValueError(
                f"shape must have shape ({len(pooled)},), one number a pair (got {fixed.shape})"
            )
        levels = jax.nn.softplus(params) * fixed.astype(params.dtype)
        return jnp.broadcast_to(levels, (pooled[0].shape[0], len(pooled)))

    return MetaNetwork(init, apply)


def uniform_pairs() -> MetaNetwork:
    """ "Where" switched off: ``λ = 1`` for every pair; no parameters.

    Returns:
      A `MetaNetwork` whose weights have shape ``[B, pairs]``.

    Example:
      >>> uniform_pairs().apply((), (jnp.ones((1, 4)), jnp.ones((1, 8)))).tolist()
      [[1.0, 1.0]]
    """

    def apply(params: PyTree, pooled: Sequence[Array]) -> Array:
        del params
        return jnp.ones((pooled[0].shape[0], len(pooled)), at_least_float32(pooled[0].dtype))

    return MetaNetwork(_no_params, apply)


def error_weights(
    what: MetaNetwork,
    where: MetaNetwork,
    meta_params: MetaParams,
    source_features: Sequence[Array],
    pairs: Sequence[Pair],
) -> tuple[tuple[Array, ...], Float[Array, "b pairs"]]:
    """Both meta-networks on one batch.

    Args:
      what: the channel weights' network.
      where: the pair weights' network.
      meta_params: parameters of both.
      source_features: the source's feature maps, each ``[B, H, W, C]``.
      pairs: the pairs to match.

    Returns:
      The weights of the errors ``λ·w`` (a tuple of ``[B, C]``, for
      `matching_loss`), and ``λ`` alone, ``[B, pairs]``.

    Raises:
      ValueError: no pairs, or a source layer outside the list.

    Example:
      >>> what, where, maps = softmax_channels(), uniform_pairs(), (jnp.ones((1, 4, 4, 2)),)
      >>> from l2t_jax import pool
      >>> pooled = pool([maps[m] for m, _ in [(0, 0)]])
      >>> key = jax.random.key(0)
      >>> meta_params = MetaParams(what.init(key, pooled), where.init(key, pooled))
      >>> weights, pair_weights = error_weights(what, where, meta_params, maps, [(0, 0)])
      >>> weights[0].tolist(), pair_weights.tolist()
      ([[0.5, 0.5]], [[1.0]])
    """
    pooled = pool_pairs(source_features, pairs)
    pair_weights = where.apply(meta_params.where, pooled)
    return combine_weights(what.apply(meta_params.what, pooled), pair_weights), pair_weights
