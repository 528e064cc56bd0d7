"""Weights that one run has learned, fixed in another."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import train
from experiments.reporting import run_identity
from experiments.training.learned_weights import Transferred, write

pytestmark = pytest.mark.slow

PAIRS = [(0, 0), (2, 1)]
WIDTHS = (16, 64)


@pytest.fixture
def given(resnet8_weights) -> list[str]:
    line = (
        "--method fm --data digits --image-size 8 --per-class 2 --batch-size 20 --epochs 1 "
        "--target resnet8 --source resnet8"
    )
    return [*line.split(), "--source-weights", str(resnet8_weights)]


def learned(folder, levels, **other) -> list[str]:
    """A finished run, as far as it is looked at."""
    folder.mkdir()
    config = {"source": ["resnet8"], "target": "resnet8"} | other
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "result.json").write_text("{}")
    shares = [np.full(width, 1 / width, np.float32) for width in WIDTHS]
    means = Transferred(PAIRS, shares, np.asarray(levels, np.float32))
    write(folder / "channel_weights.npz", means)
    return ["--weights-from", str(folder)]


@pytest.mark.usefixtures("quickly_compiled")
def test_a_run_matches_with_the_weights_of_another(given, tmp_path):
    """Equal weights of 3 are three times the loss of none given; weights of 0 are none."""

    def penalty(name, *more):
        folder = tmp_path / name
        assert train.command([*given, "--run-dir", str(folder), *more]) == 0
        (epoch,) = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        return epoch["train"]["penalties"]["fm"]

    equal = penalty("equal", "--pairs", "0-0,2-1")
    assert equal > 0
    assert penalty("three", *learned(tmp_path / "l2t", (3, 3))) == pytest.approx(3 * equal)
    assert penalty("zero", *learned(tmp_path / "none", (0, 0))) == 0


def test_what_does_not_fit_is_told_before_anything_is_written(given, tmp_path, capsys):
    other = learned(tmp_path / "l2t", (3, 3))
    narrow = learned(tmp_path / "narrow", (3, 3), target="vgg9_bn")
    (tmp_path / "empty").mkdir()
    run = ["--run-dir", str(tmp_path / "run")]
    for words, message in (
        ([*given, *other, "--pairs", "0-0"], "(got 0-0); leave it out"),
        ([*given, *narrow], "(got target vgg9_bn, not resnet8)"),
        ([*given, *other, "--method", "l2t-ww"], "fm use it"),
        ([*given, "--method", "at", "--source-scale", "standard"], "fm, l2t-w, l2t-ww use it"),
        ([*given, "--weights-from", str(tmp_path / "nowhere")], "nowhere: no such folder"),
        ([*given, "--weights-from", str(tmp_path / "empty")], "must be a finished run"),
    ):
        assert train.command([*words, *run]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("quickly_compiled")
def test_runs_are_averaged_whose_weights_come_from_searches_alike(given, tmp_path):
    """By what the searches were, wherever they lie."""

    def identity(name, **search):
        words = learned(tmp_path / f"search-{name}", (1, 2), method="l2t-ww", **search)
        folder = tmp_path / name
        assert train.command([*given, "--run-dir", str(folder), *words]) == 0
        config, result = (
            json.loads((folder / f"{file}.json").read_text()) for file in ("config", "result")
        )
        found = run_identity.identity(SimpleNamespace(config=config, result=result))
        return {key: value for key, value in found.items() if key != "config"}

    first = identity("first", unroll_steps=8, meta_lr=1e-2)
    assert first["weights_from"] == "l2t-ww:unroll_steps=8,meta_lr=0.01"
    assert first == identity("second", unroll_steps=8, meta_lr=1e-2)
    assert first != identity("third", unroll_steps=4, meta_lr=1e-2)
    # What both runs have is said where it differs.
    longer = identity("fourth", unroll_steps=8, meta_lr=1e-2, epochs=50)
    assert longer["weights_from"] == "l2t-ww:epochs=50,unroll_steps=8,meta_lr=0.01"
