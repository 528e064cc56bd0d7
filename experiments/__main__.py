"""Which commands there are, and what each does."""

from __future__ import annotations

import ast
from pathlib import Path

COMMANDS = (
    *("demo", "train", "compare", "report", "evaluate", "predict"),
    *("pretrain", "parity", "benchmark"),
)


def main() -> None:
    """Prints a line for each command."""
    print(f"usage: python -m {__package__}.COMMAND --help\n")
    for name in COMMANDS:
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        print(f"{name:10} {(ast.get_docstring(ast.parse(source)) or '').splitlines()[0]}")


if __name__ == "__main__":
    main()
