"""The public surface: every exported name is explained, and importing it costs next to nothing."""

import ast
import inspect
import re
import subprocess
import sys
import textwrap

import pytest
from exported import NAMES


def sections(documented: object) -> dict[str, str]:
    """A docstring's parts by their headings; the first is called summary."""
    text = inspect.getdoc(documented) or ""
    parts = re.split(r"(?m)^(Args|Attributes|Returns|Raises|Example|Source):", text)
    return {"summary": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(section: str) -> list[str]:
    """The names that a section explains."""
    return re.findall(r"(?m)^(\w+): \S", textwrap.dedent(section.strip("\n")))


@pytest.mark.parametrize("name", list(NAMES))
def test_every_argument_field_and_result_is_explained(name):
    thing = NAMES[name]
    parts = sections(thing)
    assert parts["summary"].split("\n\n")[0].rstrip().endswith("."), "wanted one line first"
    if hasattr(thing, "_fields"):
        assert entries(parts["Attributes"]) == list(thing._fields)
        return
    if inspect.isclass(thing):  # a protocol
        thing = thing.__call__
        parts = sections(thing)
    else:
        assert ">>> " in parts["Example"]
    arguments = [name for name in inspect.signature(thing).parameters if name != "self"]
    assert entries(parts.get("Args", "")) == arguments
    if inspect.signature(thing).return_annotation != "None":
        assert parts["Returns"].strip()
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    if any(isinstance(node, ast.Raise) for node in ast.walk(tree)):
        assert entries(parts["Raises"])


IMPORTS = """
import sys
import jax, flax, optax
before = set(sys.modules)
import l2t_jax
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_the_import_brings_nothing_but_what_the_library_stands_on():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
    )
    foreign = set(ast.literal_eval(done.stdout)) - {"l2t_jax"} - sys.stdlib_module_names
    assert foreign == set()
