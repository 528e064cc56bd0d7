"""Without the extra's packages: one line, from the checkout and as installed."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

import experiments
from experiments.__main__ import COMMANDS
from experiments.system import extra

# What the benchmark needs is the library's.
ALONE = ("benchmark",)

HIDE = """
import sys


class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Hidden())
"""


def start(tmp_path: Path, names: tuple[str, ...], *words: str) -> subprocess.CompletedProcess[str]:
    """A Python program that cannot find modules of these names."""
    (tmp_path / "sitecustomize.py").write_text(HIDE.format(names=names))
    # The name that the wheel has.
    installed = tmp_path / "l2t_jax_experiments"
    if not installed.exists():
        installed.symlink_to(Path(experiments.__file__).parent)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
    )


@pytest.mark.parametrize("package", ["experiments", "l2t_jax_experiments"])
@pytest.mark.parametrize("between", [".", " "])  # as a module, and as `l2t COMMAND`
@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ALONE])
def test_a_command_without_the_extra_ends_in_one_line(command, between, package, tmp_path):
    words = f"{package}{between}{command}".split()
    ended = start(tmp_path, tuple(extra.PACKAGES.values()), "-m", *words, "--help")
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith('pip install "l2t_jax[experiments]"')
    assert all(name in line for name in extra.PACKAGES)


@pytest.mark.parametrize("name", extra.PACKAGES)
def test_the_missing_package_is_named(name, tmp_path):
    words = ["-c", "import runpy; runpy.run_module('experiments.train', run_name='__main__')"]
    ended = start(tmp_path, (extra.PACKAGES[name],), *words)
    assert f"not installed ({name});" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_what_needs_nothing_of_the_extra_runs_without_it(tmp_path):
    hidden = tuple(
        set(extra.PACKAGES.values()) - {"scipy", "absl", "yaml"}
    )  # jax and flax need these
    for words in (["experiments.benchmark", "--help"], ["experiments"]):
        ended = start(tmp_path, hidden, "-m", *words)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith("usage: ")


def test_the_packages_are_those_of_the_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [
        re.match(r"[\w-]+", line)[0] for line in project["optional-dependencies"]["experiments"]
    ]
    # TensorFlow Datasets, and what it needs, is asked for where a set of it is read.
    assert sorted(listed) == sorted([*extra.PACKAGES, "importlib_resources", "tensorflow-datasets"])


def test_every_other_command_looks_for_them_before_all_else():
    for name in COMMANDS:
        text = (Path(experiments.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        imports = re.findall(r"(?m)^(?:from|import) .*", text)
        first = imports[1].split("  #")[0]  # after that of annotations
        assert (first == "from .system import extra") == (name not in ALONE)
