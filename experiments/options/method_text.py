"""A method with options as one word: ``METHOD:OPTION=VALUE,OPTION=VALUE``."""

from __future__ import annotations

import re
from collections.abc import Mapping

# A comma between options, but not one in a list of pairs.
COMMA = re.compile(r",(?=[a-z][a-z_-]*=)")


def split(text: str) -> tuple[str, list[str]]:
    """The method, and each ``OPTION=VALUE`` as it stands there."""
    method, colon, rest = text.partition(":")
    return method, COMMA.split(rest) if colon else []


def join(method: str, options: Mapping[str, object]) -> str:
    """The word for a method and the values of its options."""
    words = ",".join(f"{name}={value}" for name, value in options.items())
    return f"{method}:{words}" if words else method
