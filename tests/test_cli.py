"""Errors in one line, whatever the terminal."""

import importlib
from pathlib import Path

import experiments
from experiments.options import cli

TEXT = "Unrecognized options: --metod, fm"


def box(ruler: str, side: str, colour: str = "", end: str = "") -> str:
    lines = [ruler * 60, f"{side} Unrecognized options: {side}", f"{side} --metod, fm {side}"]
    lines += [f"{side} {ruler * 50} {side}", f"{side} Perhaps you meant {side}", ruler * 60]
    return "\n".join(f"{colour}{line}{end}" for line in lines)


def test_the_first_message_of_every_kind_of_box():
    for text in (box("─", "│"), box("-", "|"), box("─", "│", "\x1b[31m", "\x1b[0m")):
        assert cli.first_message(text) == TEXT


def test_the_overview_has_every_command(capsys):
    overview = importlib.import_module("experiments.__main__")
    overview.main()
    printed = capsys.readouterr().out
    commands = [
        path.stem
        for path in Path(experiments.__file__).parent.glob("*.py")
        if '__name__ == "__main__"' in path.read_text() and path.stem != "__main__"
    ]
    assert sorted(commands) == sorted(overview.COMMANDS)
    for name in commands:
        first = importlib.import_module(f"experiments.{name}").__doc__.splitlines()[0]
        assert f"{name:10} {first}" in printed
