"""The commands as people run them: on the digits, and misused."""

import json

import numpy as np
import pytest
from conftest import needed

from experiments import cli, evaluate, feed, train, zoo
from experiments.config import Config
from l2t_jax.models import cifar_resnet


def run(*args: object) -> int:
    return cli.run(train.main, Config, prog="experiments.train", args=[str(a) for a in args])


def run_evaluate(*args: object) -> int:
    return cli.run(
        evaluate.main, evaluate.Options, prog="experiments.evaluate", args=[str(a) for a in args]
    )


DIGITS = ("--data", "digits", "--image-size", 8, "--target", "resnet8", "--batch-size", 40,
          "--epochs", 3, "--per-class", 10)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A source network trained from scratch by the command itself."""
    folder = tmp_path_factory.mktemp("source")
    options = [*DIGITS[:-4], "--epochs", 4]
    assert run("--method", "scratch", *options, "--run-dir", folder / "run") == 0
    return folder / "run" / "target.safetensors"


def test_a_source_is_trained_saved_and_evaluated(source, capsys, tmp_path):
    result = json.loads((source.parent / "result.json").read_text())
    assert result["test_accuracy"] > 0.9
    capsys.readouterr()
    options = ("--network", "resnet8", "--weights", source, "--data", "digits", "--image-size", 8)
    assert run_evaluate(*options, "--predictions", tmp_path / "p.npz") == 0
    line = capsys.readouterr().out
    right = int(line.split()[0])
    assert line.startswith(f"{right} of 1797 right: ")
    assert right > 0.9 * 1797
    assert np.load(tmp_path / "p.npz")["predictions"].shape == (1797,)


@pytest.mark.parametrize("method", [["fm"], ["l2t-w"], ["l2t-ww", "--meta-lr", "1e-3"]])
def test_every_method_trains(method, source, tmp_path, capsys):
    folder = tmp_path / "run"
    options = [*DIGITS, "--source", "resnet8", "--source-weights", source, "--run-dir", folder]
    assert run("--method", *method, *options) == 0
    assert "best epoch" in capsys.readouterr().out
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    np.testing.assert_allclose(
        [line["lr"] for line in lines], 0.05 * (1 + np.cos(np.pi * np.arange(3) / 3)), rtol=1e-6
    )
    assert lines[-1]["train"]["loss"] < lines[0]["train"]["loss"]
    config = json.loads((folder / "config.json").read_text())
    assert config["method"] == method[0]
    assert len(config["pairs"]) == (3 if method[0] == "l2t-w" else 9)
    assert (folder / "target.safetensors").exists()
    assert (folder / "lambda.png").exists() == method[0].startswith("l2t")
    # A second run does not write over the first.
    assert run("--method", *method, *options) == 2
    assert "is not empty" in capsys.readouterr().err


BAD = [
    ("--method nothing", "invalid choice 'nothing'"),
    ("--metod fm", "Unrecognized options: --metod"),
    ("--epochs many", "invalid literal"),
    ("--epochs 0", "--epochs 0 came; wanted 1 or more"),
    ("--val-fraction 1.5", "--val-fraction 1.5 came"),
    ("--lr -1", "--lr -1.0 came"),
    ("--lr inf", "--lr inf came"),
    ("--method scratch --source-weights nowhere.pth", "it has no source"),
    ("--method fm", "without --source-weights"),
    ("--method fm --source-weights nowhere.pth", "nowhere.pth"),
    ("--method scratch --data nowhere", "no such data: nowhere"),
    ("--method scratch --target resnet9", "depth 9 came; wanted 6n+2"),
    ("--method scratch --target vgg9", "VGG's five max-pools want 32x32"),
    ("--method scratch --target alexnet", "unknown network 'alexnet'"),
    ("--method scratch --per-class 500", "500 images per class came; wanted 1 to"),
    (
        "--method scratch --per-class 10 --batch-size 101",
        "a batch of 101 came; wanted at most the 100",
    ),
    (
        "--method l2t-ww --source resnet8 --source-weights {source} --pairs 0-3",
        "pair (0, 3) is outside",
    ),
    ("--method l2t-ww --source resnet8 --source-weights {source} --pairs x", "--pairs x came"),
    (
        "--method l2t-ww --source resnet14 --source-weights {source}",
        "missing blocks2.0.conv1.weight",
    ),
    (
        "--method l2t-ww --source vgg9 --source-weights {source} --image-size 32",
        "missing features.0.weight",
    ),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_bad_input_is_told_in_one_line_and_nothing_is_written(
    line, message, source, tmp_path, capsys
):
    folder = tmp_path / "run"
    defaults = {"--image-size": "8", "--target": "resnet8", "--run-dir": str(folder)}
    args = line.format(source=source).split()
    args += [word for pair in defaults.items() if pair[0] not in args for word in pair]
    assert run(*args) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("train: error: ")
    assert error.count("\n") == 1
    assert not folder.exists()


def test_a_run_that_diverges_fails_in_one_line(tmp_path, capsys):
    options = [*DIGITS, "--lr", "1e30", "--run-dir", tmp_path / "run"]
    assert run("--method", "scratch", *options) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("train: error: the loss became")


def test_pictures_of_the_source_networks_own_domain(checkpoint, capsys, tmp_path):
    """The authors' network classifies as it did in PyTorch."""
    images, published = (
        needed("data/tinyimagenet200_val25pc_32.npz"),
        needed("reference/tinyimagenet_predictions.npz"),
    )
    predictions = tmp_path / "predictions.npz"
    options = ("--network", "resnet32", "--weights", checkpoint, "--data", images)
    assert run_evaluate(*options, "--predictions", predictions) == 0
    assert abs(int(capsys.readouterr().out.split()[0]) - 2467) <= 3
    agree = np.load(predictions)["predictions"] == np.load(published)["predictions"]
    assert agree.sum() >= 4990


@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (12, 4), (5, 5), (7, 1)])
def test_every_image_comes_in_every_epoch(size, batch_size):
    orders = [
        feed.epoch_order(seed, epoch, size, batch_size) for seed in (0, 1) for epoch in (0, 1)
    ]
    for order in orders:
        assert order.shape == (feed.steps_per_epoch(size, batch_size), batch_size)
        assert {len(set(batch)) for batch in order} == {batch_size}
        assert set(order.ravel()) == set(range(size))
    assert len({order.tobytes() for order in orders}) == len(orders)


def test_names_of_networks():
    assert zoo.network("resnet20", 10)
    for name in ("resnet32", "cifar-resnet50", "resnet50", "vgg16_bn", "vgg9"):
        zoo.network(name, 10)
    with pytest.raises(ValueError, match="unknown network"):
        zoo.network("resnet18_bn", 10)
    assert cifar_resnet(50, 10)
