"""The form of a point of a training run in a checkpoint."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from l2t_jax import target_variables

from ..training.snapshot import Epoch, Point
from .checkpoints import Saved

# These parts of a point are trees of arrays. The others are its record.
TREES = ("state", "best", "infos")


def save(point: Point) -> Saved:
    """A point as a checkpoint's content: copies on the host, which later steps do not change."""
    trees = {"state": point.state, "best": point.best}
    if point.infos:
        trees["infos"] = jax.tree.map(lambda *values: np.stack(values), *point.infos)
    arrays = {
        name: np.array(leaf)
        for prefix, tree in trees.items()
        for name, leaf in named(tree, prefix).items()
    }
    record = {name: value for name, value in point._asdict().items() if name not in TREES}
    record["infos"] = len(point.infos)
    record["epochs"] = [to_json(epoch._asdict()) for epoch in point.epochs]
    return Saved(arrays, record)


def load(saved: Saved, state: Any, info: Any) -> Point:
    """A point from a checkpoint.

    Args:
      saved: from `save`.
      state: the method's state, or its shapes.
      info: the method's info, or its shapes.

    Returns:
      The point, on the host.
    """
    record = dict(saved.record)
    steps = record.pop("infos")
    epochs = [Epoch(**from_json(epoch)) for epoch in record.pop("epochs")]
    stacked = restore(saved.arrays, info, "infos", steps) if steps else None
    infos = [jax.tree.map(lambda values, i=i: values[i], stacked) for i in range(steps)]
    return Point(
        state=restore(saved.arrays, state, "state"),
        best=restore(saved.arrays, target_variables(state), "best") if epochs else None,
        infos=infos,
        epochs=epochs,
        **record,
    )


def expected(state: Any) -> dict[str, Any]:
    """Shapes that every checkpoint of a run has, by name, for the method's state."""
    return named(state, "state")


def named(tree: Any, prefix: str) -> dict[str, Any]:
    """A tree's leaves by their paths; random keys as their numbers."""
    return {
        prefix + jax.tree_util.keystr(path): key_data(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def restore(arrays: dict[str, np.ndarray], like: Any, prefix: str, steps: int | None = None) -> Any:
    """The tree whose leaves `named` gave, or a stack of so many.

    Raises:
      ValueError: an array is missing, or has another shape or type.
    """
    before = () if steps is None else (steps,)

    def leaf(path: Any, shape: Any) -> Any:
        name = prefix + jax.tree_util.keystr(path)
        numbers = jax.eval_shape(key_data, shape)
        wanted = (*before, *numbers.shape)
        # Empty arrays are not stored.
        array = arrays.get(name) if np.prod(wanted) else np.zeros(wanted, numbers.dtype)
        if array is None:
            raise ValueError(f"a checkpoint must have {name} (got none)")
        if array.shape != wanted or array.dtype != numbers.dtype:
            raise ValueError(
                f"{name} of a checkpoint must be {numbers.dtype}{list(wanted)} (got "
                f"{array.dtype}{list(array.shape)})"
            )
        return jax.random.wrap_key_data(jnp.asarray(array)) if is_key(shape) else array

    return jax.tree_util.tree_map_with_path(leaf, like)


def is_key(leaf: Any) -> bool:
    """Whether a leaf, or its shape, is a random key."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def key_data(leaf: Any) -> Any:
    """The leaf, or the numbers of a random key; a shape gives a shape."""
    if not is_key(leaf):
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.eval_shape(jax.random.key_data, leaf)
    return jax.random.key_data(leaf)


def to_json(epoch: dict[str, Any]) -> dict[str, Any]:
    """An epoch in JSON's types, with every digit and NaN."""
    return json.loads(json.dumps(epoch, default=lambda array: array.tolist()))


def from_json(epoch: dict[str, Any]) -> dict[str, Any]:
    """The epoch that `to_json` was given, with arrays again."""
    arrays = jax.tree.map(np.asarray, epoch["train"], is_leaf=lambda leaf: isinstance(leaf, list))
    return epoch | {"train": arrays}
