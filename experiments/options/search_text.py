"""What a run records about the run whose weights it has: that one's method and options, as a word.

Only the options in which the two differ are said, such as ``l2t-ww:epochs=50``. The other ones are
this run's own, or the default where this run's method has no such option. So the word and the run's
own options together say all of both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from . import method_text
from .methods import LOOP, METHODS, uses
from .train_options import Config

Search = tuple[str, dict[str, str]]


def written(search: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The word.

    Args:
      search: options of the run that found the weights, as recorded.
      config: options of the run that has them.
    """
    method = search.get("method", "")
    here = _own(config, method)
    told = {name: search[name] for name in here if search.get(name, here[name]) != here[name]}
    return method_text.join(method, told)


def read(word: str, config: Mapping[str, Any]) -> Search | None:
    """Method and all options of the run that found the weights; None if the word names no method.

    Args:
      word: from `written`.
      config: options of the run that has the weights, as recorded.
    """
    method, words = method_text.split(word)
    if method not in METHODS:
        return None
    told = dict(word.split("=", 1) for word in words)
    own = _own(config, method)
    return method, {name: told.get(name, str(value)) for name, value in own.items()}


def _own(config: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The values of a method's options where nothing else is said."""
    if method not in METHODS:
        return {}
    default = dataclasses.asdict(Config())
    return {
        name: config.get(name, default[name]) if uses(config["method"], name) else default[name]
        for name in (*LOOP, *METHODS[method].options)
    }
