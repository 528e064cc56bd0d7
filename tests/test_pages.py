"""The documentation: it builds strictly, its code runs, its commands exist."""

import re
import shlex
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import nbformat
import numpy as np
import pytest
import safetensors.numpy
from conftest import quick_compiler
from nbclient import NotebookClient
from PIL import Image
from test_surface import NAMES

from experiments import compare, evaluate, predict, pretrain, report
from experiments.options import cli
from experiments.options.train_options import Config
from l2t_jax.models import imagenet_resnet, to_torch, vgg

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
COMMANDS = {
    "train": Config,
    "compare": compare.Options,
    "report": report.Options,
    "evaluate": evaluate.Options,
    "predict": predict.Options,
    "pretrain": pretrain.Options,
}


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)


def save(path: Path, network, side: int) -> None:
    """Weights of a network, drawn at random."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda leaf: abs(rng.normal(0, 0.1, leaf.shape)).astype("f4"), shapes)
    safetensors.numpy.save_file(to_torch(drawn), path)


@pytest.fixture
def in_folder(tmp_path, monkeypatch) -> Path:
    """The tutorial's folder, after its run."""
    monkeypatch.chdir(tmp_path)
    for name in ("beetle", "moth", "wasp"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (50, 40), "green").save(tmp_path / "photos" / name / "1.png")
    save(tmp_path / "model.safetensors", imagenet_resnet(18, classes=1000), 64)
    save(tmp_path / "runs/l2t-ww-photos-0/target.safetensors", vgg(9, classes=3), 32)
    for name in ("model_best.pth.tar", "tinyimagenet200_resnet32.pth.tar", "train.npz"):
        (tmp_path / name).touch()
    return tmp_path


def test_bringing_a_network_runs(in_folder):
    names: dict = {}
    with quick_compiler(), jax.enable_x64(False):
        for code in blocks("networks.md"):
            exec(code, names)
    assert np.isfinite(names["info"].loss)
    (lines,) = [code for code in blocks("networks.md") if code.startswith("layers =")]
    assert len(lines.splitlines()) <= 10


@pytest.mark.parametrize("code", blocks("pieces.md"))
def test_every_piece_runs_by_itself(code):
    with jax.enable_x64(False):
        exec(code, {})


def test_the_tutorials_network_classifies(in_folder, capsys):
    (code,) = blocks("tutorial.md")
    with jax.enable_x64(False):
        exec(code, {})
    assert capsys.readouterr().out.strip() in ("beetle", "moth", "wasp")


def test_every_command_of_the_pages_parses(in_folder):
    seen = []
    for page in [*PAGES, DOCS.parent / "README.md"]:
        text = page.read_text("utf-8").replace("\\\n", " ")
        for line in re.findall(r"^ *python -m (?:l2t_jax_)?experiments\.(.*)$", text, re.MULTILINE):
            command, *words = shlex.split(line)
            if command not in COMMANDS or "…" in line:
                continue
            options = cli.parse(COMMANDS[command], f"experiments.{command}", words)
            if command == "compare":
                cli.parse(Config, "experiments.train", list(options.common))
            seen.append((page.name, command))
    assert {command for page, command in seen if page == "tutorial.md"} == set(COMMANDS) - {
        "pretrain"
    }
    assert ("README.md", "train") in seen


@pytest.mark.parametrize("page", [DOCS.parent / "README.md", *PAGES], ids=lambda page: page.stem)
def test_every_extra_that_a_page_installs_exists(page):
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    named = re.findall(r"(?:\.|l2t_jax)\[(\w+)\]", page.read_text(encoding="utf-8"))
    assert set(named) <= set(project["project"]["optional-dependencies"])


def test_the_site_builds_and_has_every_public_name(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-n", "-q", "-b", "html", DOCS, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    inventory = (tmp_path / "objects.inv").read_bytes()
    listed = zlib.decompress(inventory.split(b"\n", 4)[4]).decode()
    there = {line.split(" ", 1)[0] for line in listed.splitlines()}
    assert set(NAMES) <= there


def test_the_notebook_runs():
    notebook = nbformat.read(DOCS / "digits.ipynb", as_version=4)
    kept = [cell["source"] for cell in notebook.cells if cell.cell_type == "code"]
    NotebookClient(notebook, timeout=180, kernel_name="python3").execute()
    printed = "".join(
        output.get("text", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stdout"
    )
    assert len(kept) == 6
    accuracies = dict(re.findall(r"(?m)^(\S+) +(\d+\.\d) ± \d", printed))
    assert accuracies.keys() == {"scratch", "fm", "l2t-ww"}
    assert all(float(accuracy) > 60 for accuracy in accuracies.values())  # of five classes
