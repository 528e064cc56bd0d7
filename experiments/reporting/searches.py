"""How a table names the searches whose weights its runs have."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..options import method_text, search_text
from ..options.checks import flag
from . import run_identity


def names(configs: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """A short name of each run's search: its method, and the options in which the searches differ.

    Args:
      configs: of one table's runs, as recorded.

    Returns:
      Such as ``l2t-ww`` or ``l2t-ww:beta=8``; None for a run without a search, or with one that it
      does not know.
    """
    searches = [search_text.read(config.get("weights_of") or "", config) for config in configs]
    known = [options for _, options in filter(None, searches)]
    differing = {
        name
        for options in known
        for name, value in options.items()
        if any(other.get(name, value) != value for other in known)
    }
    return [None if found is None else _name(*found, differing) for found in searches]


def _name(method: str, options: Mapping[str, str], differing: set[str]) -> str:
    shown = {flag(name)[2:]: _short(options[name]) for name in options if name in differing}
    return method_text.join(method, shown)


def _short(value: str) -> str:
    with contextlib.suppress(ValueError):
        return run_identity.text(float(value))
    return value
