"""What all commands share: parsing, its inverse, and errors in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import re
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import tyro

from ..system import precision
from ..system.errors import InterruptedRunError, RunFailedError
from . import config_file, habits
from .checks import flag

Options = TypeVar("Options")

# This package's name, which differs between a checkout and an installation.
PACKAGE = __package__.partition(".")[0]

# Every command has this option, at any place.
DEBUG = "--debug"
CONFIG = "--config"
HELP = f"Add {DEBUG} to see where in the program an error was raised."


def run(
    main: Callable[[Options], int],
    options: type[Options],
    *,
    prog: str,
    args: list[str] | None = None,
    hint: str = "",
) -> int:
    """Parses the command line and runs a command.

    Args:
      main: the command; takes the options and returns the exit code.
      options: a dataclass that describes the options.
      prog: the command's name, such as ``l2t train``.
      args: the command line; that of the process if None.
      hint: what to add to the message if the command line does not parse.

    Returns:
      The exit code: that of ``main``, 2 after bad input, 1 after a failure, or 128 plus the
      signal's number after an interruption. Each of these prints one line on stderr.
    """
    words = sys.argv[1:] if args is None else args
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may have bytes that are no text. They are printed as they are.
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        parsed = parse(options, prog, [word for word in words if word != DEBUG], hint)
        with precision.products(getattr(parsed, "precision", "float32")):
            return main(parsed)
    except (ValueError, OSError, RuntimeError, MemoryError, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():
            raise  # no error of the command's: `experiments.__main__` ends it
        if DEBUG in words:
            traceback.print_exc()
        kind, code = kind_and_code(error)
        message = " ".join(text(error).split())
        line = ": ".join(filter(None, (prog.rsplit(" ", 1)[-1], kind, message)))
        print(line, file=sys.stderr)
        return code


def nobody_reads() -> bool:
    """Whether the output is a pipe whose other end is closed."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # it is no file
        return False
    poll = select.poll()
    poll.register(output, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def text(error: BaseException) -> str:
    """An error's text; a system error's is without its number, one of a device its first line."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, RunFailedError | InterruptedRunError):
        return str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            f"the memory must hold what is computed (got: {first_line(error)}); give a smaller "
            "--batch-size, or to l2t train --meta-gradient low-memory"
        )
    if isinstance(error, RuntimeError):
        return f"{first_line(error)} ({DEBUG} shows where)"
    return str(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's text; a device's may have hundreds."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def kind_and_code(error: BaseException) -> tuple[str, int]:
    """The kind of an error, for its line, and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 128 + signal.SIGINT
    if isinstance(error, InterruptedRunError):
        return "interrupted", 128 + error.signal
    return "error", 2 if isinstance(error, ValueError | OSError) else 1


def parse(options: type[Options], prog: str, args: list[str] | None, hint: str = "") -> Options:
    """Parses the command line with tyro, whose errors become a ValueError in one line."""
    errors = io.StringIO()
    if args is not None and "config" in getattr(options, "__dataclass_fields__", ()):
        args = [*from_files(options, args), *args]
    try:
        with contextlib.redirect_stderr(errors):
            read = partial(
                tyro.cli,
                options,
                prog=prog,
                description=f"{inspect.getdoc(options)}\n\n{HELP}",
                args=args,
                config=(tyro.conf.FlagConversionOff,),
            )
            parsed = read()
            # Presets replace the defaults, so the command line is read once more.
            presets = getattr(parsed, "with_presets", None)
            if presets is None:
                return parsed
            # Some defaults follow from options that a preset sets, such as the source.
            parsed = read(default=(default := presets()))
            settled = parsed.with_presets()
            return parsed if settled == default else read(default=settled)
    except SystemExit as stop:
        if not stop.code:
            raise
        message = first_message(errors.getvalue())
        known = [field.name for field in dataclasses.fields(options)]  # type: ignore[arg-type]
        near = habits.of_message(message, known)
        more = "; ".join(filter(None, (near, hint, f"{prog} --help lists all options")))
        raise ValueError(f"{message} ({more})") from None


def from_files(options: type[Any], args: Sequence[str]) -> list[str]:
    """The words of the files that ``--config`` names."""
    found: list[str] = []
    for word, following in pairwise([*args, ""]):
        name, equals, value = word.partition("=")
        if name == CONFIG and (value or following):
            found += config_file.words(Path(value if equals else following), options)
    return found


def arguments(options: Any) -> list[str]:
    """The command line that `parse` reads as these options; defaults are left out."""
    presets = getattr(options, "with_presets", None)
    defaults = options if presets is None else presets()
    words: list[str] = []
    for field in dataclasses.fields(options):
        value, option = getattr(options, field.name), flag(field.name)
        # This includes what a preset sets. Only an overridden preset would need it.
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
