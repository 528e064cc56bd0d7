"""From Linen modules to `l2t_jax.Network`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from flax import errors
from flax.core import unfreeze

from l2t_jax._typing import Array, ArrayOrShape
from l2t_jax.base import Network, Outputs, Variables
from l2t_jax.models import paths
from l2t_jax.models.paths import Mode

_KEYS = "rng_keys"
_SEEN = "intermediates"
# What modules fill to be looked at from outside. None of it is state: it is of one pass.
_OUTSIDE = (_SEEN, "perturbations")
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
        or logits alone, where ``features`` are given. Collections other than ``params`` become
        the model state, and are updated in training passes.
      rngs: names of the random streams that training passes draw from, such as ``("dropout",)``.
      features: paths of the feature maps inside of a module that was not written for this, such
        as ``("stem", "stage1/block2")``: outputs of submodules, or what was sown; see
        `linen_paths`. Where a submodule is called several times, ``path[i]`` is its i-th output.
      mode: keyword arguments of a call from whether it is one of training, such as
        ``lambda train: {"deterministic": not train}``.
      evaluation_rngs: names of the streams that evaluation passes draw from; the others have no
        key there. All evaluations of one state see one draw.

    Returns:
      The network. When it is applied, it raises a ValueError for a path that is not there or is
      no array, for a stream without a key, and for variables that the module needs and that are
      not among those given.

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
    streams = tuple(dict.fromkeys((*rngs, *evaluation_rngs)))

    def init(key: Array, images: Array) -> Variables:
        params_key, *keys = jax.random.split(key, 1 + len(streams))
        collections = _made(module, params_key, images, mode)
        params = collections.pop("params", {})
        if streams:
            collections[_KEYS] = dict(zip(streams, keys, strict=True))
        return Variables(params, collections)

    def run(
        collections: Mapping[str, Any], images: Array, train: bool, keys: Mapping[str, Array]
    ) -> tuple[Array, tuple[Array, ...], dict[str, Any]]:
        """Logits, feature maps and the collections that moved."""
        mutable = [name for name in collections if train and name != "params"]
        options = {**mode(train), "rngs": dict(keys)}
        if wanted is None:
            with _explained(train):
                (logits, maps), moved = module.apply(
                    collections, images, mutable=mutable, **options
                )
            return logits, tuple(maps), dict(unfreeze(moved))
        with _explained(train):
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

    def apply(variables: Variables, images: Array, *, train: bool) -> Outputs:
        state = dict(variables.model_state)
        keys = state.pop(_KEYS, {})
        collections = {"params": variables.params, **state}
        if not train:
            now = {name: jax.random.fold_in(keys[name], _EVALUATION) for name in evaluation_rngs}
            logits, maps, _ = run(collections, images, False, now)
            return Outputs(logits, maps, variables.model_state)
        pairs = {name: jax.random.split(key) for name, key in keys.items()}
        now = {name: pair[0] for name, pair in pairs.items() if name in rngs}
        logits, maps, moved = run(collections, images, True, now)
        new_state = _without_sown(state, moved)
        if keys:
            new_state[_KEYS] = {name: pair[1] for name, pair in pairs.items()}
        return Outputs(logits, maps, new_state)

    return Network(init, apply)


def _made(module: nn.Module, key: Array, images: Array, mode: Mode) -> dict[str, Any]:
    """All that a module makes in either mode, but for what is sown."""

    def init(train: bool, key: Array, images: Array) -> dict[str, Any]:
        collections = dict(unfreeze(module.init(key, images, **mode(train))))
        return {name: tree for name, tree in collections.items() if name not in _OUTSIDE}

    made = init(False, key, images)
    # Shapes alone tell whether training makes more; most modules then run once.
    if _names(jax.eval_shape(partial(init, True), key, images)) - _names(made):
        made = _merged(made, init(True, key, images))
    # What is sown comes as a tuple that every pass makes longer; other tuples are state.
    if not any(isinstance(value, tuple) for value in _variables(made).values()):
        return made

    def moved(train: bool, key: Array, made: dict[str, Any]) -> dict[str, Any]:
        mutable = [name for name in made if name != "params"]
        rngs = {"params": key}  # which stands for all streams
        _, moved = module.apply(made, images, mutable=mutable, rngs=rngs, **mode(train))
        return dict(unfreeze(moved))

    grown = {
        path
        for train in (False, True)
        for path, value in _variables(jax.eval_shape(partial(moved, train), key, made)).items()
        if _is_longer(value, _variables(made).get(path))
    }
    return _without(made, grown)


def _without_sown(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The state after a pass, in the structure that it had before."""
    old, new = _variables(before), _variables(after)
    unknown = ["/".join(path) for path in new.keys() - old.keys() if not _is_longer(new[path], ())]
    if unknown:
        raise ValueError(
            f"the module made {', '.join(sorted(unknown))} in a training pass; the variables must "
            "hold it before (got variables without it). `init` of this network makes what either "
            "mode needs"
        )
    longer = {path for path, value in new.items() if _is_longer(value, old.get(path, ()))}
    return _merged(_without(after, longer), before)


def _is_longer(value: Any, than: Any) -> bool:
    both_tuples = isinstance(value, tuple) and isinstance(than, tuple)
    return both_tuples and len(value) > len(than)


def _variables(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """All variables by their paths; a variable is what is no mapping."""
    found: dict[tuple[str, ...], Any] = {}
    for name, value in tree.items():
        path = (*above, name)
        found |= _variables(value, path) if isinstance(value, Mapping) else {path: value}
    return found


def _names(tree: Mapping[str, Any]) -> set[tuple[str, ...]]:
    return set(_variables(tree))


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The first, with what only the second has."""
    merged = dict(first)
    for name, value in second.items():
        if name not in merged:
            merged[name] = value
        elif isinstance(merged[name], Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(merged[name], value)
    return merged


def _without(
    tree: Mapping[str, Any], left_out: set[tuple[str, ...]], above: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The tree without some of its variables, and without the mappings that this leaves empty."""
    kept: dict[str, Any] = {}
    for name, value in tree.items():
        path = (*above, name)
        if not isinstance(value, Mapping):
            if path not in left_out:
                kept[name] = value
        elif (below := _without(value, left_out, path)) or not value:
            kept[name] = below
    return kept


@contextmanager
def _explained(train: bool) -> Iterator[None]:
    """Flax's errors with what they do not say: which pass it was, and what it may do."""
    a_pass = "a training pass" if train else "an evaluation pass"
    try:
        yield
    except errors.InvalidRngError as error:
        option = "rngs" if train else "evaluation_rngs"
        raise ValueError(
            f"the module draws random numbers in {a_pass}, which has keys only for the streams "
            f"named in `{option}` (got Flax's error: {_reason(error)}). Add the stream's name to "
            f"`{option}`, or do not draw there"
        ) from error
    except errors.ModifyScopeVariableError as error:
        raise ValueError(
            f"the module changes its state in {a_pass}, which may change only the collections of "
            f"the variables, and only in training (got Flax's error: {_reason(error)}). Ask "
            "`is_mutable_collection` first, or take the variables from `init` of this network"
        ) from error
    except (
        errors.ScopeParamNotFoundError,
        errors.ScopeVariableNotFoundError,
        errors.ScopeCollectionNotFound,
    ) as error:
        raise ValueError(
            f"the variables must hold all that the module reads in {a_pass} (got Flax's error: "
            f"{_reason(error)}). `init` of this network makes what either mode needs"
        ) from error


def _reason(error: Exception) -> str:
    return str(error).split(" (https://", maxsplit=1)[0]


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

    def run(images: Array) -> dict[str, Array]:
        _, collections = module.init_with_output(
            jax.random.key(0), images, mutable=True, capture_intermediates=True, **mode(False)
        )
        found = paths.choices(paths.flatten(collections.get(_SEEN, {})))
        order.extend(found)
        return found

    shapes = jax.eval_shape(run, images)
    return {path: shapes[path] for path in order}
