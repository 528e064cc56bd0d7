"""The studies behind the pages' figures: each starts as its page says."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT
from pages import DOCS

STUDIES = sorted(
    path.name
    for path in (DOCS / "studies").glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_starts_as_its_page_says(name):
    needs = "from experiments" in (DOCS / "studies" / name).read_text(encoding="utf-8")
    line = f"{'PYTHONPATH=. ' * needs}python docs/studies/{name}"
    texts = [page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")]
    assert any(line in text for text in texts)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PYTHONPATH": "."} if needs else {}
    command = [sys.executable, f"docs/studies/{name}", "--help"]
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "usage: " in shown.stdout
