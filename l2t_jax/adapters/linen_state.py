"""What a Linen module makes and changes, as the state of a pure function."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from flax.core import unfreeze

from l2t_jax._typing import Array
from l2t_jax.adapters.paths import Mode

# What modules fill to be looked at from outside. None of it is state: it is of one pass.
_OUTSIDE = ("intermediates", "perturbations")


def collections_of(module: nn.Module, key: Array, images: Array, mode: Mode) -> dict[str, Any]:
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


def without_sown(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
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
