"""The notebooks: they install what is missing, and run beside no other file."""

import importlib.util
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from pages import DOCS


def code_cells(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell["source"] for cell in notebook.cells if cell.cell_type == "code"]


def printed_by(name: str, folder: Path) -> tuple[int, str]:
    """How many cells of code a notebook has, and what they print, run beside no other file."""
    notebook = nbformat.read(DOCS / name, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [o["text"] for o in outputs if o.output_type == "stream" and o.name == "stdout"]
    return len(code_cells(notebook)), "".join(texts)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    count, printed = printed_by("digits.ipynb", tmp_path)
    assert count == 7
    accuracies = dict(re.findall(r"(?m)^(\S+) +(\d+\.\d) ± \d", printed))
    assert accuracies.keys() == {"scratch", "fm", "l2t-ww"}
    assert all(float(accuracy) > 60 for accuracy in accuracies.values())  # of five classes


@pytest.mark.slow
def test_the_notebook_of_lambda_runs(tmp_path):
    count, printed = printed_by("lambda.ipynb", tmp_path)
    assert count == 9
    accuracies = re.findall(r"(?m)^seed \d: (\d+\.\d) % of the other", printed)
    assert len(accuracies) == 3
    assert all(float(accuracy) > 60 for accuracy in accuracies)  # of ten classes
    assert len(re.findall(r"(?m)^seeds \d and \d: pairs -?[01]\.", printed)) == 3


@pytest.mark.parametrize("name", ["digits.ipynb", "lambda.ipynb"])
def test_a_notebook_installs_what_is_missing_and_nothing_else(name, tmp_path, monkeypatch):
    first = code_cells(nbformat.read(DOCS / name, as_version=4))[0]
    installed: list[list[str]] = []
    find = importlib.util.find_spec

    def given(*missing: str) -> list[list[str]]:
        """What is installed where these modules are missing."""
        installed.clear()
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "run", lambda words, check: installed.append(words[4:]))
            patch.setattr(
                importlib.util, "find_spec", lambda name: None if name in missing else find(name)
            )
            exec(first, {})
        return [[word for word in words if word != "--quiet"] for words in installed]

    monkeypatch.chdir(DOCS)
    assert given() == []
    assert given("sklearn") == [["scikit-learn"]]
    assert given("l2t_jax", "matplotlib") == [["..", "matplotlib"]]
    monkeypatch.chdir(tmp_path)
    assert given("matplotlib") == [["matplotlib"]]
    with pytest.raises(SystemExit, match="LIBRARY must be"):
        given("l2t_jax")
