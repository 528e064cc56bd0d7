"""Figures in other tools: read back by TensorBoard's own reader, and by a stand-in for wandb."""

import json
import signal
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from conftest import quick_compiler
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments import __main__ as l2t
from experiments.options import run_options
from experiments.options.train_options import Config
from experiments.runs import tracking
from experiments.system.event_files import EventFile
from experiments.training.snapshot import Epoch


def events(folder):
    """What TensorBoard reads: numbers by step for each name, and pictures. Nothing is purged."""
    found = EventAccumulator(
        str(folder), size_guidance={"scalars": 0, "images": 0}, purge_orphaned_data=False
    )
    found.Reload()
    scalars = {
        name: [(each.step, each.value) for each in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }
    pictures = {name: found.Images(name) for name in found.Tags()["images"]}
    return scalars, pictures


class Wandb:
    """Weights & Biases as it is documented: steps that a run has already are not taken."""

    def __init__(self, *, offline=False):
        self.offline, self.runs, self.ended = offline, {}, []
        self.Image = lambda path: ("image", path)

    def init(self, *, project, name, id, resume, dir, config):  # noqa: A002 - its own names
        assert (project, resume) == ("l2t_jax", "allow")
        assert config["batch_size"] > 0
        if self.offline:
            self.runs[id] = {}
        rows = self.runs.setdefault(id, {})
        fail = self.fail

        def log(values, step):
            if fail is not None and step >= fail:
                raise ConnectionError("no\nanswer")
            assert step >= max(rows, default=0), "steps must not fall"
            rows.setdefault(step, {}).update(values)

        return SimpleNamespace(
            log=log,
            step=max(rows) + 1 if rows else 0,
            finish=lambda exit_code: self.ended.append(exit_code),
        )

    fail: int | None = None

    def install(self, monkeypatch):
        module = ModuleType("wandb")
        module.__spec__ = ModuleSpec("wandb", None)
        module.init, module.Image = self.init, self.Image
        monkeypatch.setitem(sys.modules, "wandb", module)
        monkeypatch.delenv("WANDB_PROJECT", raising=False)
        return self


def epoch(number, **more):
    train = {"loss": 1 / number, "outer_loss": np.float32("nan"), "penalties": {"at": 2.0}} | more
    return Epoch(number, 0.5, 1.25, train, number / 10)


def interrupted(options, pairs, epochs):
    with tracking.opened(options, pairs) as tracked:
        tracked.epochs(epochs)
        raise KeyboardInterrupt


def test_tensorboard_reads_each_step_once_after_a_resumption(tmp_path):
    pairs = [(3, 0), (4, 1)]
    epochs = [epoch(n, pair_weights=np.array([n, 0.25])) for n in (1, 2, 3)]
    options = Config(log=("tensorboard",), run_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        interrupted(options, pairs, epochs)
    assert [step for step, _ in events(tmp_path)[0]["train/loss"]] == [1, 2, 3]
    picture = tmp_path / "lambda.png"
    Image.new("RGB", (30, 20), "green").save(picture)
    with tracking.opened(options, pairs) as tracked:
        tracked.epochs(epochs[:2])  # where its checkpoint was
        tracked.epochs(epochs[2:])
        tracked.test_accuracy(0.75)
        tracked.pictures([picture])
    scalars, pictures = events(tmp_path)
    assert scalars == {
        "learning_rate": [(1, 0.5), (2, 0.5), (3, 0.5)],
        "seconds": [(1, 1.25), (2, 1.25), (3, 1.25)],
        "validation/accuracy": [(n, float(np.float32(n / 10))) for n in (1, 2, 3)],
        "train/loss": [(n, float(np.float32(1 / n))) for n in (1, 2, 3)],
        "train/penalties/at": [(1, 2.0), (2, 2.0), (3, 2.0)],
        "lambda/3-0": [(1, 1.0), (2, 2.0), (3, 3.0)],
        "lambda/4-1": [(1, 0.25), (2, 0.25), (3, 0.25)],
        "test/accuracy": [(3, 0.75)],
    }
    (found,) = pictures["lambda"]
    assert (found.step, found.width, found.height) == (3, 30, 20)
    assert found.encoded_image_string == picture.read_bytes()


@pytest.mark.parametrize("offline", [False, True])
def test_wandb_gets_each_step_once_under_one_id(offline, tmp_path, monkeypatch):
    wandb = Wandb(offline=offline).install(monkeypatch)
    options = Config(log=("wandb",), run_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        interrupted(options, [], [epoch(1), epoch(2)])
    with tracking.opened(options) as tracked:
        tracked.epochs([epoch(1)])
        tracked.epochs([epoch(2), epoch(3)])
        tracked.test_accuracy(0.75)
        tracked.pictures([tmp_path / "lambda.png"])
    ((_, rows),) = wandb.runs.items()
    assert {step: row["train/loss"] for step, row in rows.items()} == {1: 1, 2: 1 / 2, 3: 1 / 3}
    assert rows[3]["test/accuracy"] == 0.75
    assert rows[3]["lambda"] == ("image", str(tmp_path / "lambda.png"))
    assert wandb.ended == [1, 0]


def test_a_tool_that_fails_is_told_once_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(EventFile, "figures", lambda *_: 1 / 0)
    wandb = Wandb().install(monkeypatch)
    with tracking.opened(Config(log=("tensorboard", "wandb"), run_dir=tmp_path)) as tracked:
        tracked.epochs([epoch(1), epoch(2)])
    assert wandb.ended == [0]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "warning: the run goes on without --log tensorboard (ZeroDivisionError: division by zero)"
    )
    ((_, rows),) = wandb.runs.items()
    assert [*rows] == [1, 2]
    # Likewise where it cannot begin.
    monkeypatch.setattr(wandb, "runs", None)
    wandb.install(monkeypatch)
    with tracking.opened(Config(log=("wandb",), run_dir=tmp_path)) as tracked:
        tracked.epochs([epoch(1)])
    assert capsys.readouterr().err.startswith("warning: the run goes on without --log wandb (")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tensorboard", 'needs tensorboardX, .* pip install "l2t_jax\\[tensorboard\\]"$'),
        ("wandb", "needs wandb, which is not installed; install it: pip install wandb$"),
    ],
)
def test_a_missing_tool_is_told_with_what_installs_it(name, text, monkeypatch):
    monkeypatch.setattr(run_options, "is_installed", lambda module: False)
    with pytest.raises(ValueError, match=f"^--log {name} {text}"):
        Config(method="scratch", log=(name,)).check()


@pytest.mark.slow
@quick_compiler()
def test_a_run_is_bit_for_bit_the_same_with_and_without(
    resnet8_weights, interrupt, tmp_path, monkeypatch, capsys
):
    """It is interrupted and resumed, and one of its tools fails meanwhile."""
    wandb = Wandb().install(monkeypatch)
    monkeypatch.setattr(Wandb, "fail", 2)
    words = ["train", "--data", "digits", "--image-size", "8", "--target", "resnet8"]
    words += ["--batch-size", "40", "--epochs", "3", "--per-class", "10", "--method", "l2t-ww"]
    words += ["--pairs", "2-2,1-0", "--unroll-steps", "1"]
    words += ["--source", "resnet8", "--source-weights", str(resnet8_weights), "--run-dir"]
    with_log, without = tmp_path / "with", tmp_path / "without"
    interrupt(4, signal.SIGTERM)
    assert l2t.main([*words, str(with_log), "--log", "tensorboard"]) == 143
    interrupt(0)
    # A tool may be added, as it does not change the run.
    assert l2t.main([*words, str(with_log), "--log", "tensorboard", "wandb"]) == 0
    assert "without --log wandb (ConnectionError: no answer)" in capsys.readouterr().err
    assert l2t.main([*words, str(without)]) == 0
    for name in ("target.safetensors", "channel_weights.npz", "lambda.png"):
        assert (with_log / name).read_bytes() == (without / name).read_bytes()
    lines = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (with_log, without)
    ]
    for line in (line for each in lines for line in each):
        del line["seconds"]
    assert lines[0] == lines[1]
    scalars, pictures = events(with_log)
    (rows,) = wandb.runs.values()
    assert rows[1]["train/loss"] == pytest.approx(lines[0][0]["train"]["loss"], rel=1e-6)
    pairs = json.loads((with_log / "config.json").read_text())["matched_pairs"]
    for number, line in enumerate(lines[0]):
        for name, value in (
            ("learning_rate", line["lr"]),
            ("validation/accuracy", line["val_accuracy"]),
            *((f"train/{key}", line["train"][key]) for key in ("loss", "accuracy", "outer_loss")),
            *(
                (f"lambda/{m}-{n}", weight)
                for (m, n), weight in zip(pairs, line["train"]["pair_weights"], strict=True)
            ),
        ):
            assert len(scalars[name]) == 3
            assert scalars[name][number] == (number + 1, pytest.approx(value, rel=1e-6))
    result = json.loads((with_log / "result.json").read_text())
    assert scalars["test/accuracy"] == [(3, pytest.approx(result["test_accuracy"]))]
    for name in ("lambda", "matching"):
        (picture,) = pictures[name]
        assert picture.encoded_image_string == (without / f"{name}.png").read_bytes()
