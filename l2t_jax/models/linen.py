"""From Linen modules to `Network`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import flax.linen as nn
import jax
from flax.core import unfreeze

from l2t_jax._typing import Array
from l2t_jax.networks import Network, Outputs, Variables

_KEYS = "rng_keys"


def from_linen(module: nn.Module, rngs: Sequence[str] = ()) -> Network:
    """A Linen module as a `Network`.

    Randomness stays functional: for each name in ``rngs`` the model state holds a key, which a
    training pass uses and replaces. The virtual steps of one iteration, which never move the
    model state, therefore all see one draw.

    Args:
      module: its ``__call__(images, train: bool)`` returns ``(logits, feature maps)``. Collections
        other than ``params`` become the model state, and are updated in training passes.
      rngs: names of the random streams that training passes draw from, such as ``("dropout",)``.

    Returns:
      The network.

    Example:
      >>> import jax.numpy as jnp
      >>> class Tiny(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, images, train):
      ...         maps = nn.relu(nn.Conv(4, (3, 3))(images))
      ...         return nn.Dense(2)(maps.mean((1, 2))), (maps,)
      >>> network = from_linen(Tiny())
      >>> variables = network.init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
      >>> [f.shape for f in network.apply(variables, jnp.ones((1, 8, 8, 3)), train=True).features]
      [(1, 8, 8, 4)]
    """

    def init(key: Array, images: Array) -> Variables:
        params_key, *keys = jax.random.split(key, 1 + len(rngs))
        collections = dict(unfreeze(module.init(params_key, images, train=False)))
        params = collections.pop("params", {})
        if rngs:
            collections[_KEYS] = dict(zip(rngs, keys, strict=True))
        return Variables(params, collections)

    def apply(variables: Variables, images: Array, *, train: bool) -> Outputs:
        state = dict(variables.model_state)
        keys = state.pop(_KEYS, {})
        collections = {"params": variables.params, **state}
        if not train:
            logits, features = cast(Any, module.apply(collections, images, train=False))
            return Outputs(logits, tuple(features), variables.model_state)
        now = {name: jax.random.split(key) for name, key in keys.items()}
        (logits, features), new_state = module.apply(
            collections,
            images,
            train=True,
            mutable=list(state),
            rngs={name: pair[0] for name, pair in now.items()},
        )
        new_state = dict(unfreeze(new_state))
        if keys:
            new_state[_KEYS] = {name: pair[1] for name, pair in now.items()}
        return Outputs(logits, tuple(features), new_state)

    return Network(init, apply)
