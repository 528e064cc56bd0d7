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
import sys, time
begin = time.perf_counter()
import jax, flax, optax
between = time.perf_counter()
before = set(sys.modules)
import l2t_jax
after = time.perf_counter()
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(after - between, sorted(new))
"""


def test_import_takes_no_longer_than_that_of_what_it_stands_on():
    """At most 0.2 s beyond jax, flax and optax, and nothing else with it; the best of three."""
    seconds = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
        )
        took, modules = done.stdout.split(" ", 1)
        seconds.append(float(took))
        foreign = set(ast.literal_eval(modules)) - {"l2t_jax"} - sys.stdlib_module_names
        assert foreign == set()
    assert min(seconds) < 0.2
