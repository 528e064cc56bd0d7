"""What all commands share: parsing, and errors as one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import tyro


def run(main: Callable[..., int | None], *, prog: str, args: list[str] | None = None) -> int:
    """Parses the command line for ``main`` and runs it.

    Args:
      main: a function whose one argument, a dataclass, describes the options.
      prog: the command's name, as ``python -m experiments.train``.
      args: the command line; that of the process if None.

    Returns:
      The exit code: what ``main`` returns, 0 for None, or 2 after bad input, which is told in one
      line on stderr.
    """
    try:
        return tyro.cli(main, prog=f"python -m {prog}", args=args) or 0
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"{prog.rsplit('.', 1)[-1]}: error: {message}", file=sys.stderr)
        return 2


def choose(name: str, choices: dict[str, Any], what: str) -> Any:
    """``choices[name]``, or a ValueError that lists the names."""
    if name not in choices:
        raise ValueError(f"unknown {what} {name!r}; known are {', '.join(choices)}")
    return choices[name]
