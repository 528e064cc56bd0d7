"""Errors in one line, whatever the terminal."""

from experiments import cli

TEXT = "Unrecognized options: --metod, fm"


def box(ruler: str, side: str, colour: str = "", end: str = "") -> str:
    lines = [ruler * 60, f"{side} Unrecognized options: {side}", f"{side} --metod, fm {side}"]
    lines += [f"{side} {ruler * 50} {side}", f"{side} Perhaps you meant {side}", ruler * 60]
    return "\n".join(f"{colour}{line}{end}" for line in lines)


def test_the_first_message_of_every_kind_of_box():
    for text in (box("─", "│"), box("-", "|"), box("─", "│", "\x1b[31m", "\x1b[0m")):
        assert cli.first_message(text) == TEXT
