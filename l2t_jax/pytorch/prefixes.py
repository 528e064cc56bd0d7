"""What training tools put around a network: names before its names, dictionaries around its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

# Where files keep a network's state dict, the first that there is before the others: averaged
# weights come last.
CONTAINERS = (
    *("state_dict", "model_state_dict", "model", "target_model", "module", "net", "network"),
    *("weights", "params", "state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema"),
)
# Attributes that wrap a network: DataParallel, Lightning, AveragedModel, and what people call it.
PREFIXES = frozenset((*CONTAINERS, "base_model", "backbone", "averaged_model"))
# Wrappers of any part of it: torch.compile, FSDP, activation checkpointing.
_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
# What AveragedModel counts beside the network that it wraps.
_COUNTERS = frozenset(("n_averaged",))
MAX_DEPTH = 8


def without_prefixes(state_dict: Mapping[str, T]) -> dict[str, T]:
    """A state dict without the usual names before its names, in any order and nesting.

    ``_orig_mod.`` and its like come off wherever they stand; ``module.``, ``model.`` and others
    where all names begin with the same one. What counts averaged models is left out then.

    Args:
      state_dict: names to anything.

    Returns:
      The same values; the names as they were where two would become one.

    Example:
      >>> list(without_prefixes({"model._orig_mod.module.fc.bias": 1, "model.n_averaged": 3}))
      ['fc.bias']
    """
    names = {name: _WRAPPERS.sub("", name) for name in state_dict}
    while True:
        inner = [name for name in names.values() if name not in _COUNTERS]
        first = {name.partition(".")[0] for name in inner if "." in name}
        if len(first) != 1 or not first <= PREFIXES or not all("." in name for name in inner):
            break
        (prefix,) = first
        names = {
            old: name.removeprefix(f"{prefix}.")
            for old, name in names.items()
            if name not in _COUNTERS
        }
    if len(set(names.values())) < len(names):
        return dict(state_dict)
    return {name: state_dict[old] for old, name in names.items()}


def find_container(tree: Mapping[Any, Any], holds: Callable[[Any], bool]) -> Mapping[Any, Any]:
    """The dictionary of arrays in what a file holds.

    Args:
      tree: such a dictionary, or one around it, under a usual name or as the only one.
      holds: whether a value is an array.

    Returns:
      The innermost such dictionary on that way; the tree itself where there is none.
    """
    for _ in range(MAX_DEPTH):
        inner = {key: value for key, value in tree.items() if isinstance(value, Mapping)}
        usual = [name for name in CONTAINERS if name in inner]
        full = [key for key, value in inner.items() if any(map(holds, value.values()))]
        if usual:
            tree = inner[usual[0]]
        elif len(full) == 1 and not any(map(holds, tree.values())):
            tree = inner[full[0]]
        else:
            break
    return tree


def shown(names: Iterable[str], limit: int) -> str:
    """As many names as a person reads, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
