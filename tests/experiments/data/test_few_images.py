"""What few images can show: said when a run begins and ends, and in its result."""

import json
import shutil

import numpy as np
import pytest
from conftest import quick_compiler
from image_files import encoded, put

from experiments import train
from experiments.data import few_images
from experiments.options import cli
from experiments.options.train_options import Config

pytestmark = pytest.mark.slow


def run(*words: object) -> int:
    args = [str(word) for word in words]
    with quick_compiler():
        return cli.run(train.main, Config, prog="l2t train", args=args)


def photos(folder, sizes):
    """As many pictures of each class, all of one grey."""
    return put(
        folder,
        {
            f"{name}/{i}.png": encoded(np.full((8, 8), 60 * label, np.uint8), "PNG")
            for label, (name, size) in enumerate(sizes.items())
            for i in range(size)
        },
    )


SMALL = ("--method", "scratch", "--target", "resnet8", "--image-size", 8, "--batch-size", 10,
         "--epochs", 1)  # fmt: skip


def test_tiny_classes_are_warned_of_in_the_output_and_the_result(tmp_path, capsys):
    data = photos(tmp_path / "data", {"ant": 12, "bee": 12, "cow": 2, "dog": 1})
    folder = tmp_path / "run"
    assert run(*SMALL, "--data", data, "--run-dir", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads((folder / "result.json").read_text())
    assert result["images"] == {"train": 20, "validation": 2, "test": 5, "classes": 4}
    warnings = result["warnings"]
    # A share of a half of n has the standard error 1 / (2 √n).
    assert warnings[0].startswith(
        "only 2 validation images: one is 50.0 points of accuracy, the standard error up to "
        f"{100 / (2 * np.sqrt(2)):.1f} points"
    )
    assert warnings[1].startswith(
        "only 5 test images: one is 20.0 points of accuracy, the standard error up to "
        f"{100 / (2 * np.sqrt(5)):.1f} points"
    )
    assert warnings[2].startswith("no validation image of cow, dog: ")
    assert warnings[3].startswith("no test image of dog: ")
    assert len(warnings) == 4
    told = [f"warning: {text}" for text in warnings]
    # Before the training, and beside the figures.
    assert lines[1:5] == lines[-5:-1] == told
    assert "test accuracy" in lines[-1]
    assert run(*SMALL, "--data", data, "--run-dir", folder) == 0
    assert capsys.readouterr().out.splitlines()[1:] == told


def test_enough_images_are_not_warned_of(tmp_path, capsys):
    data = photos(tmp_path / "data", {"ant": 100, "bee": 100})
    test = photos(tmp_path / "test", {"ant": 60, "bee": 60})
    options = ("--data", data, "--test-data", test, "--val-fraction", 0.5, "--run-dir")
    assert run(*SMALL, *options, tmp_path / "run") == 0
    assert "warning" not in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "result.json").read_text())["warnings"] == []


@pytest.mark.parametrize("images", [1, 4, 20, 99, 100, 5000])
def test_the_standard_error_is_that_of_so_many_draws(images):
    """Of half of them right, and near it where all are; drawn by NumPy."""
    assert few_images.standard_error(0.5, images) == pytest.approx(0.5 / np.sqrt(images))
    draws = np.random.default_rng(0).binomial(images, 0.7, 200_000) / images
    if images >= 99:  # where Laplace's estimate is close to the share itself
        assert few_images.standard_error(0.7, images) == pytest.approx(draws.std(), rel=0.01)
    assert few_images.standard_error(1.0, images) > 0
    assert bool(few_images.of_count("test", images)) == (images < 100)


NOWHERE = "nowhere.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data and the run that was trained on them."""
    folder = tmp_path_factory.mktemp("trained")
    photos(folder / "data", {"ant": 20, "bee": 20})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(*SMALL, "--data", "data", "--run-dir", "run") == 0
    return folder


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--method", "fm", "--source", "resnet8", "--source-weights", NOWHERE), NOWHERE),
        (("--data", "nowhere.npz"), "nowhere.npz"),
        (("--data", "nowhere"), "nowhere"),
        (("--test-data", "nowhere"), "nowhere"),
    ],
)
@pytest.mark.parametrize("there", ["a finished run", "a run", "something else", "nothing"])
def test_files_that_do_not_exist_are_told_first(
    words, told, there, trained, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "data", "data")
    folder = tmp_path / "run"
    if there in ("a finished run", "a run"):
        shutil.copytree(trained / "run", folder)
    if there == "a run":
        (folder / "result.json").unlink()
    if there == "something else":
        put(folder, {"notes.txt": b"mine"})
    capsys.readouterr()
    assert run(*SMALL, "--data", "data", "--run-dir", folder, *words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{told}: no such file" in error or f"no such data: {told};" in error
    assert "has a run with" not in error
