"""The README: short, its example runs as it stands, and its links lead somewhere."""

import re

import jax
import numpy as np
import pages
from conftest import quick_compiler


def test_the_readme_is_150_lines_at_most():
    assert len(pages.README.read_text("utf-8").splitlines()) <= 150


def test_the_readmes_example_runs_as_it_stands(capsys):
    (code,) = pages.python(pages.README)
    names: dict = {}
    with quick_compiler(), jax.enable_x64(False):
        exec(code, names)
    assert len([line for line in code.splitlines() if line]) <= 16
    info = names["info"]
    assert info.pair_weights.shape == (4,)
    assert np.isfinite(info.loss)
    assert np.all(np.asarray(info.pair_weights) > 0)
    assert str(info.loss) in capsys.readouterr().out


def test_its_links_lead_to_files_and_headings():
    links = [
        (page, link)
        for page in (pages.README, pages.ROOT / "CONTRIBUTING.md")
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8"))
        if "://" not in link
    ]
    assert len(links) > 20
    for page, link in links:
        name, _, heading = link.partition("#")
        target = page.parent / name
        assert target.exists(), link
        assert not heading or heading in pages.headings(target), link


def test_every_page_is_linked_from_the_readme():
    text = pages.README.read_text("utf-8")
    missing = [page.name for page in pages.DOCS.glob("*.md") if f"docs/{page.name}" not in text]
    assert set(missing) <= {"index.md", "api.md"}  # the site's own
