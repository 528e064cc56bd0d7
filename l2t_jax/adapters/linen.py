"""From Linen modules to `l2t_jax.Network`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from flax.core import unfreeze

from l2t_jax._typing import Array, ArrayOrShape
from l2t_jax.adapters import paths
from l2t_jax.adapters.linen_errors import explained
from l2t_jax.adapters.linen_state import collections_of, without_sown
from l2t_jax.adapters.paths import Mode
from l2t_jax.base import Network, Outputs, Variables

_KEYS = "rng_keys"
_SEEN = "intermediates"
# Of an evaluation's keys. A training pass splits its key in two: 0 and 1 are taken.
_EVALUATION = 2


def _train(train: bool) -> dict[str, Any]:
    return {"train": train}


def from_linen(
    module: nn.Module,
    rngs: Sequence[str] = (),
    *,
    features: Sequence[str] | None = None,
    mode: Mode = _train,
    evaluation_rngs: Sequence[str] = (),
) -> Network:
    """A Linen module as a `l2t_jax.Network`.

    Randomness stays functional: for each name in ``rngs`` the model state holds a key, which a
    training pass uses and replaces. The virtual steps of one iteration, which never move the
    model state, therefore all see one draw.

    ``init`` runs the module in evaluation mode. Where training makes parts of its own, such as an
    auxiliary head, it runs in training mode too, and takes these parts from there. Values that
    are sown, into any collection, are no part of the state.

    Args:
      module: called as ``module(images, **mode(train))``, it returns ``(logits, feature maps)``;
        or logits alone, where ``features`` are given or nothing is matched. Collections other than
        ``params`` become the model state, and are updated in training passes.
      rngs: names of the random streams that training passes draw from, such as ``("dropout",)``.
      features: paths of the feature maps inside of a module that was not written for this, such
        as ``("stem", "stage1/block2")``: outputs of submodules, or what was sown; see
        `linen_paths`. Where a submodule is called several times, ``path[i]`` is its i-th output.
      mode: keyword arguments of a call from whether it is one of training, such as
        ``lambda train: {"deterministic": not train}``.
      evaluation_rngs: names of the streams that evaluation passes draw from; the others have no
        key there. All evaluations of one state see one draw.

    Returns:
      The network.

    Raises:
      ValueError: when it is applied: a path is not there or is no array, a stream has no key, or
        variables that the module needs are not among those given.

    Example:
      >>> import jax.numpy as jnp
      >>> class Foreign(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, images, train):
      ...         maps = nn.relu(nn.Conv(4, (3, 3), name="conv")(images))
      ...         return nn.Dense(2)(maps.mean((1, 2)))
      >>> network = from_linen(Foreign(), features=["conv"])
      >>> variables = network.init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
      >>> [f.shape for f in network.apply(variables, jnp.ones((1, 8, 8, 3)), train=True).features]
      [(1, 8, 8, 4)]
    """
    wanted = None if features is None else paths.parse(features)
    for name, given in (("rngs", rngs), ("evaluation_rngs", evaluation_rngs)):
        if isinstance(given, str):
            raise ValueError(f"{name} must be a sequence of streams' names (got {given!r})")
    streams = tuple(dict.fromkeys((*rngs, *evaluation_rngs)))

    def init(key: Array, images: Any) -> Variables:
        params_key, *keys = jax.random.split(key, 1 + len(streams))
        collections = collections_of(module, params_key, paths.jax_arrays(images), mode)
        params = collections.pop("params", {})
        if streams:
            collections[_KEYS] = dict(zip(streams, keys, strict=True))
        return Variables(params, collections)

    def run(
        collections: Mapping[str, Any], images: Any, train: bool, keys: Mapping[str, Array]
    ) -> tuple[Array, tuple[Array, ...], dict[str, Any]]:
        """Logits, feature maps and the collections that moved."""
        mutable = [name for name in collections if train and name != "params"]
        options = {**mode(train), "rngs": dict(keys)}
        if wanted is None:
            with explained(train):
                outputs, moved = module.apply(collections, images, mutable=mutable, **options)
            return *paths.logits_and_maps(outputs), dict(unfreeze(moved))
        with explained(train):
            logits, moved = module.apply(
                collections,
                images,
                mutable=[*mutable, _SEEN],
                capture_intermediates=lambda module, method: (
                    paths.name_of(module.path, method) in {path.name for path in wanted}
                ),
                **options,
            )
        moved = dict(unfreeze(moved))
        seen = paths.flatten(moved.pop(_SEEN, {}))
        maps = paths.select(seen, wanted, lambda: linen_paths(module, images, mode=mode))
        return paths.logits_alone(logits), maps, moved

    def apply(variables: Variables, images: Any, *, train: bool) -> Outputs:
        images = paths.jax_arrays(images)
        state = dict(variables.model_state)
        keys = state.pop(_KEYS, {})
        collections = {"params": variables.params, **state}
        needed = rngs if train else evaluation_rngs
        if missing := [name for name in needed if name not in keys]:
            raise ValueError(
                f"model_state must hold keys for the streams {', '.join(needed)} in {_KEYS!r} (got "
                f"none for {', '.join(missing)}); take it from `init` of this network"
            )
        if not train:
            now = {name: jax.random.fold_in(keys[name], _EVALUATION) for name in evaluation_rngs}
            logits, maps, _ = run(collections, images, False, now)
            return Outputs(logits, maps, variables.model_state)
        pairs = {name: jax.random.split(key) for name, key in keys.items()}
        now = {name: pair[0] for name, pair in pairs.items() if name in rngs}
        logits, maps, moved = run(collections, images, True, now)
        new_state = without_sown(state, moved)
        if keys:
            new_state[_KEYS] = {name: pair[1] for name, pair in pairs.items()}
        return Outputs(logits, maps, new_state)

    return Network(init, apply)


def linen_paths(
    module: nn.Module, images: ArrayOrShape, *, mode: Mode = _train
) -> dict[str, jax.ShapeDtypeStruct]:
    """What a Linen module computes on its way, by the paths that `from_linen` takes as features.

    Args:
      module: the module.
      images: what it is called with (an array or its shape), ``[B, H, W, channels]``.
      mode: as of `from_linen`.

    Returns:
      Shapes and types of all arrays that submodules give or that are sown; nothing is computed.

    Example:
      >>> import jax.numpy as jnp
      >>> module = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, nn.Conv(2, (3, 3))])
      >>> found = linen_paths(module, jnp.ones((1, 8, 8, 3)), mode=lambda train: {})
      >>> {path: leaf.shape for path, leaf in found.items()}
      {'layers_0': (1, 8, 8, 4), 'layers_2': (1, 8, 8, 2)}
    """

    order: list[str] = []  # of the module's calls, where a pytree of shapes is sorted by name

    def run(images: Any) -> dict[str, Array]:
        _, collections = module.init_with_output(
            jax.random.key(0), images, mutable=True, capture_intermediates=True, **mode(False)
        )
        found = paths.choices(paths.flatten(collections.get(_SEEN, {})))
        order.extend(found)
        return found

    shapes = jax.eval_shape(run, images)
    return {path: shapes[path] for path in order}
