"""The commands as people run them: on the digits, and misused."""

import csv
import json
import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import needed, quick_compiler
from messages import says
from PIL import Image

from experiments import evaluate, predict, pretrain, report, train
from experiments.data import batches, load
from experiments.networks import zoo
from experiments.options import cli
from experiments.options.train_options import Config
from experiments.system import files
from experiments.training import learned_weights
from l2t_jax.models import cifar_resnet

pytestmark = pytest.mark.slow


@quick_compiler()
def run(*args: object) -> int:
    return cli.run(train.main, Config, prog="l2t train", args=[str(a) for a in args])


def run_pretrain(*args: object) -> int:
    return cli.run(
        pretrain.main, pretrain.Options, prog="l2t pretrain", args=[str(a) for a in args]
    )


def run_evaluate(*args: object) -> int:
    return cli.run(
        evaluate.main, evaluate.Options, prog="l2t evaluate", args=[str(a) for a in args]
    )


def run_predict(*args: object) -> int:
    return cli.run(predict.main, predict.Options, prog="l2t predict", args=[str(a) for a in args])


def run_report(*args: object) -> int:
    return cli.run(report.main, report.Options, prog="l2t report", args=[str(a) for a in args])


DIGITS = ("--data", "digits", "--image-size", 8, "--target", "resnet8", "--batch-size", 40,
          "--epochs", 3, "--per-class", 10)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A source network trained by the command for it."""
    folder = tmp_path_factory.mktemp("source") / "run"
    options = ["--network", "resnet8", "--data", "digits", "--image-size", 8, "--batch-size", 40]
    assert run_pretrain(*options, "--epochs", 4, "--run-dir", folder) == 0
    return folder / "source.safetensors"


def test_a_source_is_trained_saved_and_evaluated(source, capsys, tmp_path):
    result = json.loads((source.parent / "result.json").read_text())
    assert result["test_accuracy"] > 0.9
    capsys.readouterr()
    options = ("--network", "resnet8", "--weights", source, "--data", "digits", "--image-size", 8)
    files = ("--predictions", tmp_path / "p.npz", "--confusion", tmp_path / "c.csv")
    assert run_evaluate(*options, *files) == 0
    line, heading, *by_class = capsys.readouterr().out.splitlines()
    right = int(line.split()[0])
    assert line.startswith(f"{right} of 1797 right: ")
    assert heading.startswith("class ")
    assert sum(int(each.split()[3]) for each in by_class) == right
    counts = np.loadtxt(tmp_path / "c.csv", delimiter=",", skiprows=1, usecols=range(1, 11))
    assert (counts.trace(), counts.sum()) == (right, 1797)
    assert right > 0.9 * 1797
    assert np.load(tmp_path / "p.npz")["predictions"].shape == (1797,)


def test_new_images_are_classified_by_what_a_run_has_trained(source, capsys, tmp_path):
    """As `evaluate` does it, and with the softmax of the network's logits, by NumPy."""
    digits = load.digits(8)
    for number in range(25):
        folder = tmp_path / "new" / "below" / f"{digits.labels[number]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[number]).save(folder / f"{number}.png")
    (tmp_path / "new" / "notes.txt").touch()
    folder, options = tmp_path / "new" / "below", ["--image-size", 8, "--predictions"]
    weights = ["--network", "resnet8", "--weights", source]
    assert run_evaluate(*weights, "--data", folder, *options, tmp_path / "p.npz") == 0
    first = folder / f"{digits.labels[0]}" / "0.png"
    images, table = [tmp_path / "new", first], tmp_path / "table.csv"
    # In batches, the last of which is not full.
    assert run_predict(source.parent, *images, "--out", table, "--batch-size", 10) == 0
    capsys.readouterr()
    assert run_predict(source.parent, *images, "--batch-size", 10) == 0
    assert capsys.readouterr().out == table.read_text()
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [*map(str, sorted(folder.rglob("*.png"))), str(first)]
    predicted = [int(row["class"]) for row in rows]
    assert predicted[:-1] == np.load(tmp_path / "p.npz")["predictions"].tolist()
    network, variables = zoo.load("resnet8", source, (8, 8, 3))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = ((digits.images[:1] / 255 - mean) / std).astype(np.float32)
    logits = np.asarray(network.apply(variables, normalised, train=False).logits[0], np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum()
    assert predicted[-1] == softmax.argmax()
    assert float(rows[-1]["probability"]) == pytest.approx(softmax.max(), abs=1e-4)
    # The three most probable classes, without an image that cannot be read.
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    # A file's name may have bytes that are no text.
    odd = tmp_path / "odd\udcff.png"
    odd.write_bytes(first.read_bytes())
    assert run_predict(source.parent, odd, "--out", table) == 0
    assert table.read_bytes().splitlines()[1].startswith(os.fsencode(odd))
    capsys.readouterr()
    three = ["--top", 3, "--unreadable", "skip"]
    assert run_predict(source.parent, broken, first, *three) == 0
    told = capsys.readouterr()
    assert told.err.startswith(f"skipped: {broken}: ")
    header, row = csv.reader(told.out.splitlines())
    assert header[:5] == ["image", "class", "probability", "class 2", "probability 2"]
    ordered = softmax.argsort()[::-1][:3]
    assert row[0] == str(first)
    assert [int(number) for number in row[1::2]] == ordered.tolist()
    np.testing.assert_allclose([float(p) for p in row[2::2]], softmax[ordered], atol=1e-4)


def test_a_run_is_evaluated_on_its_own_images(source, capsys, tmp_path):
    """As many are right as the run has counted, and the files are those that it has listed."""
    assert run_evaluate(source.parent) == 0
    result = json.loads((source.parent / "result.json").read_text())
    count = result["images"]["test"]
    right = round(result["test_accuracy"] * count)
    assert capsys.readouterr().out.startswith(f"{right} of {count} right: ")

    digits = load.digits(8)
    for number in range(200):
        folder = tmp_path / "photos" / f"{digits.labels[number]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[number]).save(folder / f"{number}.png")
    folder = tmp_path / "run"
    line = ["--method", "scratch", *DIGITS, "--data", tmp_path / "photos", "--seed", 3]
    assert run(*line, "--per-class", 8, "--run-dir", folder) == 0
    capsys.readouterr()
    result = json.loads((folder / "result.json").read_text())
    with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    for part, options in (("test", ()), ("validation", ("--part", "validation"))):
        assert run_evaluate(folder, *options, "--predictions", tmp_path / "p.npz") == 0
        found = dict(np.load(tmp_path / "p.npz"))
        wanted = [row for row in listed if row["part"] == part]
        assert found["images"].tolist() == [row["image"] for row in wanted]
        told = found["classes"][found["predictions"]] == [row["class"] for row in wanted]
        accuracy = result["test_accuracy" if part == "test" else "val_accuracy"]
        assert told.mean() == pytest.approx(accuracy, abs=1e-6)
        line = capsys.readouterr().out.splitlines()[0]
        assert line == (
            f"{told.sum()} of {len(told)} right: {100 * told.mean():.2f} % (the run's own {part} "
            "images)"
        )
    assert sum(row["part"] == "train" for row in listed) == 80
    Path(listed[0]["image"]).unlink()
    assert run_evaluate(folder) == 2
    assert f"must be those that {folder} was trained on" in capsys.readouterr().err
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    assert run_evaluate(folder) == 2
    assert f"{folder} must find its images where they were" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("run", "IMAGE … (got none)"),
        ("nowhere one.png", "nowhere must be the folder of a run (got neither result.json nor "),
        ("old one.png", "old/result.json must tell what was trained (got no network, weights, "),
        ("run nothing.png", "nothing.png: no such image or folder"),
        ("run empty", "empty must have an image in .png"),
        ("run one.png broken.png", "1 problem with the images: broken.png: "),
        ("run one.png --out no/table.csv", "--out must be in … (got no/table.csv)"),
        ("run one.png --batch-size 0", "--batch-size must be … (got 0)"),
        ("run one.png --top 11", "--top must be at most the number of classes, 10 (got 11)"),
        ("run broken.png --unreadable skip", "1 problem with the images: broken.png: "),
    ],
)
def test_what_cannot_be_classified_is_told_in_a_line(
    words, text, source, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(source.parent)
    (tmp_path / "empty").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "result.json").write_text("{}")
    Image.new("RGB", (9, 9)).save(tmp_path / "one.png")
    (tmp_path / "broken.png").write_text("no image")
    assert run_predict(*words.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert says(line, text)


PAIRS = {"finetune": 0, "lwf": 0, "at": 3, "lwf+at": 3, "fm": 9, "l2t-w": 3, "l2t-ww": 9}


@pytest.mark.parametrize(
    "method",
    [["finetune"], ["lwf"], ["at"], ["lwf+at"], ["fm"], ["l2t-w"], ["l2t-ww", "--meta-lr", "1e-3"]],
)
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
    assert len(config["matched_pairs"]) == PAIRS[method[0]]
    if "l2t" not in method[0]:
        named = set(method[0].split("+")) - {"finetune"}
        assert set(lines[-1]["train"]["penalties"]) == named
    assert (folder / "target.safetensors").exists()
    assert (folder / "lambda.png").exists() == method[0].startswith("l2t")
    assert run_report(folder, "--out", tmp_path / "report") == 0
    with (tmp_path / "report" / "table.csv").open(encoding="utf-8", newline="") as file:
        (cell,) = csv.DictReader(file)
    result = json.loads((folder / "result.json").read_text())
    assert float(cell["accuracies"]) == float(cell["mean"]) == result["test_accuracy"]
    assert cell["method"] == method[0]
    assert result["images"] == {"train": 100, "validation": 143, "test": 359, "classes": 10}
    assert result["versions"]["jax"] == jax.__version__
    if "l2t" in method[0]:
        weights = learned_weights.read(folder / "channel_weights.npz")
        assert [list(pair) for pair in weights.pairs] == config["matched_pairs"]
        for channels in weights.channels:
            np.testing.assert_allclose(channels.sum(), 1, rtol=1e-5)
    capsys.readouterr()
    # A second run does not write over the first.
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert run("--method", *method, *options) == 0
    assert capsys.readouterr().out.startswith(f"{folder} has this run's result already: test acc")
    assert run("--method", *method, *options, "--lr", "0.5") == 2
    assert "has a run with lr 0.1, not 0.5; give the same" in capsys.readouterr().err
    assert run("--method", *method, *options, "--resume", "never") == 2
    assert "is not empty" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("other", ["source", "target"])
def test_convolutions_and_a_transformer_are_matched(other, source, tmp_path):
    """Four quarters of the transformer and three stages of the ResNet, in both directions."""
    folder, options = tmp_path / "run", [*DIGITS, "--method", "l2t-ww", "--lr", 0.02]
    options += ["--meta-every", 4, "--unroll-steps", 1, "--epochs", 2]
    options += ["--run-dir", folder, "--source"]
    if other == "target":
        options += ["resnet8", "--source-weights", source, "--target", "vit_micro_patch2"]
    else:
        weights = tmp_path / "transformer.safetensors"
        images = jnp.ones((1, 8, 8, 3), jnp.float32)
        transformer = zoo.network("vit_micro_patch2", 10)
        zoo.save(weights, transformer.init(jax.random.key(0), images))
        options += ["vit_micro_patch2", "--source-weights", weights]
    assert run(*options) == 0
    config = json.loads((folder / "config.json").read_text())
    convolutional, transformer = [0, 1, 2], [1, 2, 4, 5]
    layers = (transformer, convolutional) if other == "source" else (convolutional, transformer)
    assert config["matched_pairs"] == [[m, n] for m in layers[0] for n in layers[1]]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["train"]["loss"] < lines[0]["train"]["loss"]
    assert (folder / "lambda.png").stat().st_size > 10_000


def test_pretraining_says_what_it_does_and_refuses_what_a_network_cannot_take(
    source, tmp_path, capsys
):
    metrics = (source.parent / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in metrics.splitlines()]
    np.testing.assert_allclose([line["lr"] for line in lines], [0.1, 0.1, 0.01, 0.001])
    config = json.loads((source.parent / "config.json").read_text())
    assert (config["network"], config["momentum"], config["weight_decay"]) == ("resnet8", 0.9, 1e-4)
    assert config["division"] == "a seeded split"
    folder = tmp_path / "run"
    assert run_pretrain("--network", "vgg9", "--image-size", 8, "--run-dir", folder) == 2
    error = capsys.readouterr().err
    assert error.startswith("pretrain: error: images must be 32x32 or more")
    assert "(got (128, 8, 8, 3))" in error
    assert not folder.exists()


def test_two_sources_are_matched_by_name_by_the_papers_ablations(source, tmp_path):
    folder = tmp_path / "run"
    options = [*DIGITS, "--source", "resnet8", "resnet8", "--source-weights", source, source]
    options += ["--pairs", "0:2-2,1:1-0,1:2-2", "--run-dir", folder]
    options += ["--where", "constant", "--scheme", "bilevel", "--unroll-steps", 1]
    assert run("--method", "l2t-ww", *options) == 0
    config = json.loads((folder / "config.json").read_text())
    assert config["matched_pairs"] == [[2, 2], [4, 0], [5, 2]]
    assert config["source_layers"][4] == "resnet8 1:1"
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert len(last["train"]["pair_weights"]) == 3
    assert (folder / "lambda.png").exists()


BAD = [
    ("--method lwf --temperature 0", "--temperature must be … (got 0.0)"),
    (
        "--method fm --source resnet8 resnet8 --source-weights {source}",
        "--source-weights must be … resnet8 resnet8 (got 1)",
    ),
    (
        "--method finetune --source resnet8 resnet8 --source-weights {source} {source}",
        "--source must be one … finetune … (got resnet8 resnet8)",
    ),
    (
        "--method finetune --source resnet8 --source-weights {source} --target resnet14",
        "the source must have the target's architecture … (got no params.blocks2",
    ),
    (
        "--method fm --source resnet8 resnet8 --source-weights {source} {source} --pairs 2-2",
        "--pairs must name each pair's source, as there are 2 sources (got 2-2); write its",
    ),
    (
        "--method fm --source resnet8 resnet8 --source-weights {source} {source} --pairs 0:3-2",
        "--pairs 0:3-2: source 0: … (got (3, 2))",
    ),
    (
        "--method fm --source resnet8 --source-weights {source} --pairs 1:2-2",
        "--pairs must name sources from 0 to 0 (got source 1 in 1:2-2)",
    ),
    ("--method nothing", "--method must be … (got nothing)"),
    ("--metod fm", "Unrecognized options: --metod"),
    ("--epochs many", "invalid literal"),
    ("--epochs 0", "--epochs must be … (got 0)"),
    ("--val-fraction 1.5", "--val-fraction must be … (got 1.5)"),
    ("--lr -1", "--lr must be … (got -1.0)"),
    ("--lr inf", "--lr must be … (got inf)"),
    ("--checkpoint-minutes 0", "--checkpoint-minutes must be … (got 0.0)"),
    ("--skip-nonfinite -1", "--skip-nonfinite must be … (got -1)"),
    ("--method scratch --source-weights nowhere.pth", "--source-weights … scratch … nowhere.pth"),
    ("--method fm", "--source-weights must be … fm … (got none)"),
    ("--method fm --source-weights nowhere.pth", "nowhere.pth"),
    ("--method scratch --data nowhere", "no such data: nowhere"),
    ("--method scratch --target resnet9", "got resnet9"),
    ("--method scratch --target vgg9", "images must be 32x32 or more … (got ("),
    ("--method scratch --target alexnet", "got alexnet"),
    ("--method scratch --per-class 500", "--per-class must be 1 to"),
    (
        "--method scratch --per-class 10 --batch-size 101",
        "--batch-size must be at most 100, as there are so many training images (got 101)",
    ),
    (
        "--method l2t-ww --source resnet8 --source-weights {source} --pairs 0-3",
        "--pairs 0-3: source 0: … (got (0, 3))",
    ),
    ("--method l2t-ww --source resnet8 --source-weights {source} --pairs x", "4-0,9-1 (got x)"),
    (
        "--method l2t-ww --source resnet14 --source-weights {source}",
        "for resnet14: the weights must be … missing: … more",
    ),
    (
        "--method l2t-ww --source vgg9 --source-weights {source} --image-size 32",
        "for vgg9: the weights must be … missing: … features.0.weight [64, 3, 3, 3]",
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
    assert says(error, message)
    assert error.startswith("train: error: ")
    assert error.count("\n") == 1
    assert not folder.exists()


def test_a_run_that_diverges_fails_in_one_line(tmp_path, capsys):
    options = [*DIGITS, "--lr", "1e30", "--run-dir", tmp_path / "run"]
    assert run("--method", "scratch", *options) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("train: error: the")
    assert error.endswith(
        " became nan in step 2 of epoch 1; try a lower --lr, or l2t train with --warmup-epochs 10"
    )
    # What has failed is looked into by its own command.
    assert run("--method", "scratch", "--debug", *options) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("Traceback") for line in lines)
    assert lines[-1] == error


def test_an_interrupted_run_goes_on_and_ends_as_if_it_never_was(tmp_path, capsys, interrupt):
    line = ["--method", "scratch", *DIGITS]
    assert run(*line, "--run-dir", tmp_path / "whole") == 0
    for number, code, steps, where in (
        (signal.SIGTERM, 143, 1, "step 1 of 3 in epoch 1"),
        (signal.SIGINT, 130, 4, "step 2 of 3 in epoch 2"),
    ):
        interrupt(steps, number)
        assert run(*line, "--run-dir", tmp_path / "cut") == code
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"train: interrupted: {number.name}; saved at {where}; ")
        assert not (tmp_path / "cut" / "result.json").exists()
        assert run_evaluate(tmp_path / "cut", "--part", "validation") == (2 if steps < 3 else 0)
    # The weights so far are those whose accuracy the run has recorded.
    told = capsys.readouterr()
    best = json.loads((tmp_path / "cut" / "metrics.jsonl").read_text())["val_accuracy"]
    assert f"the best of 1 epochs so far, epoch 1 with validation accuracy {best:.1%}" in told.err
    assert f" right: {100 * best:.2f} % (the run's own validation images)" in told.out
    interrupt(0)
    # Only what figures do not depend on may be changed.
    assert run(*line, "--run-dir", tmp_path / "cut", "--lr", 0.2) == 2
    assert "has a run with lr 0.1, not 0.2" in capsys.readouterr().err
    assert run(*line, "--run-dir", tmp_path / "cut", "--checkpoint-minutes", 1) == 0
    assert "resuming in" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
    whole, cut = ((tmp_path / run / "target.safetensors").read_bytes() for run in ("whole", "cut"))
    assert whole == cut
    whole, cut = (
        [json.loads(line) | {"seconds": 0} for line in text.splitlines()]
        for text in ((tmp_path / run / "metrics.jsonl").read_text() for run in ("whole", "cut"))
    )
    assert whole == cut


def test_a_folder_is_for_one_process(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    with files.claim(folder / ".lock"):
        assert run(*DIGITS, "--method", "scratch", "--run-dir", folder) == 2
    assert "another process trains in" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == [".lock"]


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
        batches.epoch_order(seed, epoch, size, batch_size) for seed in (0, 1) for epoch in (0, 1)
    ]
    for order in orders:
        assert order.shape == (batches.steps_per_epoch(size, batch_size), batch_size)
        assert {len(set(batch)) for batch in order} == {batch_size}
        assert set(order.ravel()) == set(range(size))
    assert len({order.tobytes() for order in orders}) == len(orders)


def test_names_of_networks():
    assert zoo.network("resnet20", 10)
    for name in ("resnet32", "cifar-resnet50", "resnet50", "vgg16_bn", "vgg9", "vgg9_bn_w16"):
        zoo.network(name, 10)
    with pytest.raises(ValueError, match="resnet18_bn"):
        zoo.network("resnet18_bn", 10)
    assert cifar_resnet(50, 10)
