"""What all commands share: parsing and its inverse, and errors as one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import tyro

from experiments.errors import RunFailedError

Options = TypeVar("Options")


def run(
    main: Callable[[Options], int],
    options: type[Options],
    *,
    prog: str,
    args: list[str] | None = None,
) -> int:
    """Parses the command line and runs a command.

    Args:
      main: the command; takes the options and returns the exit code.
      options: a dataclass that describes the options.
      prog: the command's module, such as ``experiments.train``.
      args: the command line; that of the process if None.

    Returns:
      The exit code: that of ``main``, 2 after bad input, or 1 after a failed run; either is told
      in one line on stderr.
    """
    try:
        return main(parse(options, prog, args))
    except (ValueError, OSError, RunFailedError) as error:
        message = " ".join(str(error).split())
        print(f"{prog.rsplit('.', 1)[-1]}: error: {message}", file=sys.stderr)
        return 1 if isinstance(error, RunFailedError) else 2


def parse(options: type[Options], prog: str, args: list[str] | None) -> Options:
    """Parses the command line with tyro; what does not parse becomes a one-line ValueError."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            read = partial(
                tyro.cli,
                options,
                prog=f"python -m {prog}",
                args=args,
                config=(tyro.conf.FlagConversionOff,),
            )
            parsed = read()
            # Presets are defaults: the command line is read once more over them.
            presets = getattr(parsed, "with_presets", None)
            return parsed if presets is None else read(default=presets())
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(
            f"{first_message(errors.getvalue())} (python -m {prog} --help lists all options)"
        ) from None


def arguments(options: Any) -> list[str]:
    """The command line that `parse` reads these options from; what is a default is left out."""
    presets = getattr(options, "with_presets", None)
    defaults = options if presets is None else presets()
    words: list[str] = []
    for field in dataclasses.fields(options):
        value, option = getattr(options, field.name), f"--{field.name.replace('_', '-')}"
        # What a preset sets comes too: only one that is overridden would have to.
        if value == field.default == getattr(defaults, field.name):
            continue
        if isinstance(value, tuple):
            words += [option, *map(str, value)]
        else:
            words.append(f"{option}={value}")
    return words


def first_message(box: str) -> str:
    """The text of tyro's error box up to its first ruler, without colours and borders."""
    text: list[str] = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]:
        content = line.strip().strip("│|").strip()
        if not content.strip("─╰╯-+"):
            if text:
                break
        else:
            text.append(content)
    return " ".join(text)
