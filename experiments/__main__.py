"""The command `l2t`, which runs all others by their names."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

COMMANDS = (
    *("demo", "train", "compare", "report", "evaluate", "predict"),
    *("export", "pretrain", "models", "parity", "benchmark", "compile"),
)


def main(words: Sequence[str] | None = None) -> int:
    """Runs ``l2t COMMAND …``; without a command, prints a line for each.

    Args:
      words: the command line; that of the process if None.

    Returns:
      The exit code.
    """
    try:
        code = run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads the output, such as head, has enough. Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def run(words: Sequence[str] | None) -> int:
    command, *rest = [*(sys.argv[1:] if words is None else words)] or ["--help"]
    if command in ("-h", "--help"):
        print(overview())
        return 0
    if command == "--version":
        print(f"l2t_jax {importlib.import_module('l2t_jax').__version__}")
        return 0
    if command not in COMMANDS:
        print(
            f"l2t: error: COMMAND must be one of {', '.join(COMMANDS)} (got {command}); l2t --help "
            "says what each does",
            file=sys.stderr,
        )
        return 2
    return importlib.import_module(f"{__package__}.{command}").command(rest)


def overview() -> str:
    """A line for each command, read without importing it."""
    lines = [
        "usage: l2t COMMAND [OPTION ...]",
        "       l2t COMMAND --help",
        "       l2t --version",
        "",
        "Learn what and where to transfer between networks. Begin with: l2t demo",
        "",
    ]
    for name in COMMANDS:
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        first = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
        lines.append(f"{name:10} {first}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
