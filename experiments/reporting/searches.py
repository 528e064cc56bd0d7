"""How a table names the searches whose weights its runs have."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..options import method_text
from ..options.checks import flag
from ..options.methods import LOOP, METHODS, uses
from ..options.train_options import Config
from . import run_identity

Search = tuple[str, dict[str, str]]


def names(configs: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """A short name of each run's search: its method, and the options in which the searches differ.

    Args:
      configs: of one table's runs, as recorded.

    Returns:
      Such as ``l2t-ww`` or ``l2t-ww:beta=8``; None for a run without a search, or with one that it
      does not know.
    """
    searches = [search(config) for config in configs]
    known = [options for _, options in filter(None, searches)]
    differing = {
        name
        for options in known
        for name, value in options.items()
        if any(other.get(name, value) != value for other in known)
    }
    return [None if found is None else _name(*found, differing) for found in searches]


def search(config: Mapping[str, Any]) -> Search | None:
    """Method and options of the run that found another one's weights; None if it does not say.

    Args:
      config: the other run's, as recorded. It says what its search has else, see
        `experiments.runs.found_weights.recorded`.
    """
    method, words = method_text.split(config.get("weights_of") or "")
    if method not in METHODS:
        return None
    told = dict(word.split("=", 1) for word in words)
    default = dataclasses.asdict(Config())
    own = {
        name: config.get(name, default[name]) if uses(config["method"], name) else default[name]
        for name in (*LOOP, *METHODS[method].options)
    }
    return method, {name: told.get(name, str(value)) for name, value in own.items()}


def _name(method: str, options: Mapping[str, str], differing: set[str]) -> str:
    shown = {flag(name)[2:]: _short(options[name]) for name in options if name in differing}
    return method_text.join(method, shown)


def _short(value: str) -> str:
    with contextlib.suppress(ValueError):
        return run_identity.text(float(value))
    return value
