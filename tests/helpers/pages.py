"""What the pages hold: blocks of code by their language, and commands, each checked by its kind."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from experiments import __main__ as l2t
from experiments import compare
from experiments.comparison import grid
from experiments.options import cli
from experiments.options.run_options import RunOptions

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Words that stand for something else: RUN, DATA, NAME, FOLDER, …
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|\bN\b|…")


class Block(NamedTuple):
    """A block of code, with the language that stands at its fence."""

    language: str
    code: str


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    return [Block(*found) for found in FENCED.findall(page.read_text("utf-8"))]


def python(page: Path) -> list[str]:
    """The Python code of a page, block by block."""
    return [block.code for block in blocks(page) if block.language == "python"]


def commands(page: Path) -> list[list[str]]:
    """The command lines of a page as words: those of its blocks, and each `l2t …` in its text."""
    text = page.read_text("utf-8")
    shell = [block.code for block in blocks(page) if block.language == "console"]
    lines = [line for code in shell for line in code.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(l2t [^`]+)`", FENCED.sub("", text))
    lines += [line for line in inline if not PLACEHOLDER.search(line)]
    return [
        words
        for line in lines
        for part in line.split(" && ")
        if (words := shlex.split(part, comments=True))
    ]


def headings(page: Path) -> list[str]:
    """The anchors of a page's headings, as the site and code hosts name them."""
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text("utf-8")), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def parsed(words: Sequence[str]) -> Any:
    """The options of ``l2t COMMAND …``, parsed and checked, without running it.

    It goes through `l2t` itself, up to where the command would begin to work.

    Raises:
      ValueError: they do not parse, or are out of range.
    """
    seen: list[Any] = []

    def only_parse(
        main: Callable[[Any], int],
        options: type[Any],
        *,
        prog: str,
        args: list[str],
        hint: str = "",
    ) -> int:
        assert prog == f"l2t {words[1]}"
        seen.append(cli.parse(options, prog, args, hint))
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "run", only_parse)
        if words[1] == "benchmark":  # whose parser is Python's own, and looks for PyTorch
            patch.setattr(importlib.util, "find_spec", lambda name: name)
            seen.append(importlib.import_module("experiments.benchmark").parse(words[2:]))
        else:
            assert l2t.main(words[1:]) == 0
    (options,) = seen
    if isinstance(options, RunOptions):
        options.check()
    if isinstance(options, compare.Options):
        of_runs = (options.methods, options.tasks, options.seeds, options.per_class)
        assert grid.expand(*of_runs, options.common, options.out)
    return options


def check(words: Sequence[str]) -> None:
    """Fails unless a command line of a page can be run as far as its words go.

    Options of `l2t` are parsed; targets, scripts, extras and tests have to be there. A command of a
    kind that is not known here fails.
    """
    while "=" in words[0]:  # a variable of the environment
        words = words[1:]
    match list(words):
        case ["l2t", "--help"]:
            assert l2t.main(words[1:]) == 0
        case ["l2t", command] | ["l2t", command, "--help"] | ["l2t", command, "--"]:
            assert command in l2t.COMMANDS
        case ["l2t", *_]:
            parsed(words)
        case ["make", *wanted]:
            there = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
            assert {word for word in wanted if "=" not in word} <= set(there)
        case ["python", "-m", "pytest", path]:
            assert (ROOT / path).exists()
        case ["python", "-c", code]:
            ast.parse(code)
        case ["python", script, *options]:
            text = (ROOT / script).read_text("utf-8")
            assert all(f'"{word}"' in text for word in options if word.startswith("--"))
        case ["pip", "install", what]:
            extra = re.search(r"\[(\w+)\]", what)
            text = (ROOT / "pyproject.toml").read_text("utf-8")
            assert extra is None or re.search(rf"^{extra[1]} = \[", text, re.MULTILINE)
        case [".", ".venv/bin/activate"]:
            pass
        case ["export", assignment]:
            assert re.fullmatch(r"XLA_FLAGS=--\S+( --\S+)*|JAX_[A-Z_]+=\S+", assignment)
        case _:
            raise AssertionError(f"a command of a known kind is needed (got {shlex.join(words)})")
