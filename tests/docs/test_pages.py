"""The documentation: it builds strictly, its code runs, its commands can be given."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

import alone
import finished_run
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pages
import pytest
import safetensors.numpy
from conftest import quick_compiler
from exported import NAMES
from pages import DOCS
from PIL import Image
from sklearn.metrics import jaccard_score

from experiments import __main__ as l2t
from experiments.data import load
from experiments.networks import zoo
from l2t_jax.models import imagenet_resnet, vgg
from l2t_jax.pytorch import to_torch

LANGUAGES = {"python", "console", "text", "bibtex", "{toctree}", "{eval-rst}"}


def blocks(page: str) -> list[str]:
    return pages.python(DOCS / page)


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
    return tmp_path


@pytest.mark.slow
def test_bringing_a_network_runs(in_folder):
    names: dict = {}
    with quick_compiler(), jax.enable_x64(False):
        for code in blocks("networks.md"):
            exec(code, names)
    assert np.isfinite(names["info"].loss)
    (lines,) = [code for code in blocks("networks.md") if code.startswith("layers =")]
    assert len(lines.splitlines()) <= 10


@pytest.mark.slow
def test_the_optimiser_of_the_habits_page_freezes_a_layer_and_trains_the_others():
    names: dict = {}
    (code,) = blocks("habits.md")
    with quick_compiler(), jax.enable_x64(False):
        exec(code, names)
    before, after = names["source_variables"].params, names["state"].inner.params
    np.testing.assert_array_equal(after["conv1"]["kernel"], before["conv1"]["kernel"])
    assert np.abs(after["fc"]["kernel"] - before["fc"]["kernel"]).max() > 0
    assert np.isfinite(names["info"].loss)


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("pieces.md"))
def test_every_piece_runs_by_itself(code):
    with jax.enable_x64(False):
        exec(code, {})


@pytest.mark.slow
def test_the_dense_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    with jax.enable_x64(False), plt.ioff():
        for code in blocks("dense.md"):
            exec(code, names)
    plt.close("all")
    masks = np.asarray(names["test"][1])
    blank = jaccard_score(masks.ravel(), np.zeros(masks.size), average="macro")
    assert names["results"].keys() == {"scratch", "fm", "l2t-ww"}
    for runs in names["results"].values():
        assert len(runs) == 3
        for logits, _ in runs:
            found = jaccard_score(masks.ravel(), logits.argmax(-1).ravel(), average="macro")
            np.testing.assert_allclose(names["mean_iou"](logits, masks), found, rtol=1e-4)
            assert found > blank + 0.05
    pictures = re.findall(r"images/(dense_\w+\.png)", (DOCS / "dense.md").read_text("utf-8"))
    assert {path.name for path in tmp_path.iterdir()} == set(pictures)
    for name in pictures:
        with Image.open(name) as made, Image.open(DOCS / "images" / name) as kept:
            assert made.size == kept.size


@pytest.mark.slow
def test_the_tutorials_network_classifies(in_folder, capsys):
    (code,) = blocks("tutorial.md")
    with jax.enable_x64(False):
        exec(code, {})
    assert capsys.readouterr().out.strip() in ("beetle", "moth", "wasp")


@pytest.mark.slow
def test_the_serving_pages_lines_train_export_and_serve(tmp_path, monkeypatch, capsys):
    """All of them, from a small folder, with a source as drawn."""
    monkeypatch.chdir(tmp_path)
    finished_run.photos(tmp_path / "photos")
    (tmp_path / "new_photos").mkdir()
    shutil.copy("photos/moth/3.jpg", "new_photos/1.jpg")
    page = DOCS / "serving.md"
    (first,), (code,) = [b.code for b in pages.blocks(page) if "pip" in b.code], pages.python(page)
    _, *lines = first.splitlines()
    assert len(lines) + 1 + len(code.split("\n\n")[-1].splitlines()) == 10
    with quick_compiler(), jax.enable_x64(False):
        source = zoo.network("resnet32", 200)
        images = jnp.zeros((1, 32, 32, 3), jnp.float32)
        weights = tmp_path / "model_best.pth.tar"  # files are known by what they contain
        zoo.save(weights, jax.jit(source.init)(jax.random.key(0), images))
        for line in lines:
            assert l2t.main(shlex.split(line)[1:]) == 0
        capsys.readouterr()
        assert l2t.main(["predict", "runs/probe-photos-0", "new_photos"]) == 0
    _, name, probability = capsys.readouterr().out.splitlines()[1].split(",")
    served = alone.run(code, tmp_path).split()
    assert served[0] == name
    assert float(served[1]) == pytest.approx(float(probability), abs=6e-5)


def test_the_data_pages_file_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("data.md")
    exec(code, {})
    data = load.load("train.npz", image_size=32)
    assert data.classes == ("beetle", "moth", "wasp")
    assert data.image_shape == (32, 32, 3)


def test_the_results_division_divides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = np.repeat(np.arange(10), 310)
    images = np.zeros((len(labels), 1, 1, 3), np.uint8)
    np.savez("cifar10_train1000pc_32_jpegq75.npz", images=images, labels=labels)
    (code,) = blocks("results.md")
    exec(code, {})
    for name, count in (("tune_train.npz", 10), ("tune_val.npz", 300)):
        with np.load(name) as part:
            assert np.bincount(part["labels"]).tolist() == [count] * 10
            assert len(part["images"]) == 10 * count


def test_the_wrong_sums_of_the_precision_page_are_right_with_the_library(capsys):
    (code,) = blocks("precision.md")
    exec(code, {})
    assert capsys.readouterr().out == "0 wrong\n"


def test_every_page_with_code_is_tested():
    """Each by a test of its own, here or in test_readme.py."""
    tested = {"README.md", "networks.md", "pieces.md", "tutorial.md", "data.md", "results.md"}
    tested |= {"precision.md", "serving.md", "dense.md", "habits.md"}
    assert {page.name for page in pages.PAGES if pages.python(page)} == tested


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_every_block_has_a_language_and_every_command_can_be_given(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    named = ("model_best.pth.tar", "tinyimagenet200_resnet32.pth.tar", "digits/source.safetensors")
    for name in named:
        (tmp_path / name).touch()  # compare looks whether there are weights
    (tmp_path / "runs" / "search").mkdir(parents=True)
    (tmp_path / "runs" / "search" / "config.json").write_text(
        '{"source_weights": ["tinyimagenet200_resnet32.pth.tar"]}'
    )
    assert {block.language for block in pages.blocks(page)} <= LANGUAGES
    for words in pages.commands(page):
        pages.check(words)


def test_there_is_one_form_of_the_commands():
    """`l2t …`; the module's own name is told once, in words."""
    assert {tuple(words[:2]) for words in pages.commands(DOCS / "tutorial.md")} >= {
        ("l2t", name) for name in ("train", "compare", "report", "predict", "evaluate")
    }
    told = [
        (page.name, found)
        for page in pages.PAGES
        for found in re.findall(r"python -m (?:l2t_jax_)?experiments\S*", page.read_text("utf-8"))
    ]
    assert [page for page, _ in told] == ["commands.md"]


def test_what_cannot_be_given_is_found():
    """The check of the pages' commands is one that can fail."""
    for line in (
        "l2t train --metod fm",
        "l2t train --method scratch --epochs 0",
        "l2t compare --methods scratch -- --epoch 1",
        "l2t trian",
        "make nothing",
        "python tests/nothing.py",
        "python tests/reliability/kills.py --number 3",
        'pip install ".[nothing]"',
        "rm photos",
    ):
        with pytest.raises((ValueError, AssertionError, OSError)):
            pages.check(shlex.split(line))


def test_the_bad_input_of_the_pages_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "reliability.md").read_text("utf-8")
    _, table = text.split("for example, `l2t …`")
    tried = (DOCS.parent / "tests/reliability/bad_input.py").read_text("utf-8")
    lines = re.findall(r"`((?:train|report) [^`]+)`", table.split("\n\n")[0])
    assert len(lines) == 7
    for line in lines:
        assert f'"{line}"' in tried
        assert l2t.main(shlex.split(line)) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert error.startswith(f"{line.split()[0]}: error: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.stem)
def test_every_extra_that_a_page_installs_exists(page):
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = re.findall(r"(?:\.|l2t_jax)\[(\w+)\]", page.read_text(encoding="utf-8"))
    assert set(named) <= set(project["project"]["optional-dependencies"])


@pytest.mark.slow
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
