"""The report: figures against NumPy, what is averaged and what never is.

Reports of real runs are in test_commands.py, which has some.
"""

import csv
import dataclasses
import json
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from messages import says
from small import network

from experiments import report
from experiments.data.dataset import Dataset
from experiments.options import builders, cli
from experiments.options.train_options import Config
from experiments.reporting import run_identity
from experiments.runs import confusion_file, layout
from experiments.runs.finished import find
from experiments.system import devices
from experiments.system.files import write_json
from experiments.training import learned_weights
from l2t_jax import MetaParams

PAIRS = [(1, 0), (1, 2), (2, 2)]


def fabricate(
    folder: Path,
    accuracy: float,
    *,
    digest: str = "ab" * 32,
    content: str = "01" * 32,
    test_images: int = 50,
    warnings: list[str] | None = None,
    **options: object,
) -> Path:
    """A run folder as `experiments.train` writes it, of three epochs."""
    config = Config(**{"epochs": 3, "per_class": 10, "target": "resnet8"} | options)
    learns = config.method.startswith("l2t")
    folder.mkdir(parents=True)
    more = {
        "division": "a seeded split",
        "data_sha256": content,
        "split_sha256": f"{config.seed:064}",
        "matched_pairs": PAIRS if config.matches_layers() else [],
        "source_layers": ["resnet14 0", "resnet14 1", "resnet14 2"],
        "source_sha256": [digest],
    }
    write_json(folder / "config.json", dataclasses.asdict(config) | more)
    for epoch in (1, 2, 3):
        seen = {"pair_weights": [1.0, 0.1 * epoch, 0.0]} if learns else {}
        line = {"epoch": epoch, "train": seen, "val_accuracy": 0.2 * epoch}
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
    if learns:
        channels = [np.full(4, 0.25), np.array([0.7, 0.1, 0.1, 0.1]), np.full(8, 0.125)]
        means = learned_weights.Transferred(PAIRS, channels, np.array([1.0, 0.3, 0.0]))
        learned_weights.write(folder / layout.CHANNEL_WEIGHTS, means)
    result = {
        "best_epoch": 3,
        "val_accuracy": 0.6,
        "test_accuracy": accuracy,
        "images": {"train": 100, "validation": 20, "test": test_images, "classes": 10},
        "finished": f"2026-11-24T10:00:{len(list(folder.parent.iterdir())):02}+00:00",
        "seconds": 12.5,
        "devices": {"kind": "cpu", "number": 1, "processes": 1, "cpu_cores": 2},
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
    }
    said = {} if warnings is None else {"warnings": warnings}
    write_json(folder / "result.json", result | said)
    return folder


def run_report(*args: object) -> int:
    arguments = [str(arg) for arg in args]
    return cli.run(report.main, report.Options, prog="l2t report", args=arguments)


def cells(out: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (out / "table.csv").open(encoding="utf-8", newline="") as file:
        return {(line["method"], line["data"]): line for line in csv.DictReader(file)}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A report of methods, numbers of images and seeds, with all that can be wrong with runs."""
    top = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    kinds = {
        "scratch": {"method": "scratch"},
        "fm": {"method": "fm"},
        "fm one-to-one": {"method": "fm", "pairs": "one-to-one"},
        "l2t-ww": {"method": "l2t-ww"},
        "l2t-ww constant": {"method": "l2t-ww", "where": "constant"},
        "l2t-w": {"method": "l2t-w"},
    }
    drawn = {}
    for label, options in kinds.items():
        for count in (10, 20):
            drawn[label, f"digits, {count} per class"] = rng.uniform(0.3, 0.6, 3)
            for seed, accuracy in enumerate(drawn[label, f"digits, {count} per class"]):
                folder = top / "runs" / f"{count}" / f"{label} {seed}"
                fabricate(folder, accuracy, seed=seed, per_class=count, **options)
    # Seed 0 is from before there was an option; the others have its default.
    older = top / "runs" / "10" / "l2t-ww 0" / "config.json"
    stored = json.loads(older.read_text())
    del stored["outer_batch"]
    write_json(older, stored)
    unfinished = fabricate(top / "runs" / "cut off", 0.5, method="fm")
    (unfinished / "result.json").unlink()
    (unfinished / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch"')
    broken = fabricate(top / "runs" / "broken", 0.5, method="fm")
    (broken / "config.json").write_text("{")
    without = fabricate(top / "runs" / "without", 0.5, method="l2t-w")
    (without / layout.CHANNEL_WEIGHTS).write_bytes(b"PK")
    undated = fabricate(top / "runs" / "undated", 0.5, method="fm")
    result = json.loads((undated / "result.json").read_text())
    write_json(undated / "result.json", result | {"finished": "now"})
    other = fabricate(top / "runs" / "other", 0.5, method="fm")
    write_json(other / "config.json", {"network": "resnet14"})
    assert run_report(top / "runs", top / "runs" / "10", "--out", top / "out") == 0
    return drawn, top / "out"


def test_cells_are_numpys_means_and_sample_deviations(many):
    drawn, out = many
    found = cells(out)
    assert found.keys() == drawn.keys()
    for place, values in drawn.items():
        np.testing.assert_allclose(float(found[place]["mean"]), values.mean(), rtol=1e-14)
        np.testing.assert_allclose(float(found[place]["std"]), values.std(ddof=1), rtol=1e-12)
        assert found[place]["seeds"] == "0 1 2"
        np.testing.assert_array_equal(list(map(float, found[place]["accuracies"].split())), values)
    report_text = (out / "report.md").read_text(encoding="utf-8")
    to_choose_by = report_text.partition("## To choose by")[2].partition("## Pictures")[0]
    assert to_choose_by.count("60.0 ± 0.0 (3)") == len(drawn)  # of the validation images
    assert {cell["validation_accuracies"] for cell in found.values()} == {"0.6 0.6 0.6"}
    markdown = (out / "table.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines()]
    header, _, *rows = lines
    for row in rows:
        for column, text in zip(header[1:], row[1:], strict=True):
            values = 100 * drawn[row[0], column]
            mine = f"{values.mean():.1f} ± {values.std(ddof=1):.1f} (3)"
            best = max((each for (_, other), each in drawn.items() if other == column), key=np.mean)
            # 50 test images leave open 7 points of an accuracy of a half.
            spreads = [max(v.std(ddof=1), np.sqrt(v.mean() * (1 - v.mean()) / 50))
                       for v in (best, values / 100)]  # fmt: skip
            together = best.mean() - values.mean() / 100 <= np.hypot(*spreads)
            assert text == (f"**{mine}**" if together else mine)
            assert found[row[0], column]["bold"] == str(int(together))
    assert [row[0] for row in rows][:3] == ["scratch", "fm", "fm one-to-one"]


def test_the_report_shows_every_picture_and_names_what_is_left_out(many):
    _, out = many
    text = (out / "report.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert sorted(shown) == sorted(path.name for path in out.glob("*.png"))
    # λ and matching for two kinds, channels for three, each with two numbers of images.
    kinds = {"epochs": 2, "images": 1, "lambda": 4, "matching": 4, "channels": 6}
    for kind, count in kinds.items():
        assert sum(name.startswith(kind) for name in shown) == count
    assert (out / "table.md").read_text(encoding="utf-8") in text
    assert re.search(r"cut off \(1 of 3 epochs\)", text)
    assert re.search(r"broken: config.json must be JSON \(got ", text)
    assert re.search(r"without: .*channel_weights.npz must be an npz file", text)
    assert re.search(r"undated: Invalid isoformat string: 'now'", text)
    assert re.search(r"other: config.json must have seed and data", text)
    assert "python 3.11.7, jax 0.10.2" in text
    assert "Seeds: 0, 1, 2" in text
    assert "the same in all rows that use it: target resnet8, epochs 3." in text
    assert "0:07:30" in text  # 36 runs of 12.5 s
    assert "--method fm --target resnet8 --pairs one-to-one --data digits --per-class 20" in text


def test_a_command_gives_the_options_that_it_was_made_from(tmp_path):
    given = {"beta": 0.123456789012, "seed": 7, "epochs": 3, "source_weights": ("a b.pth",)}
    config = dataclasses.replace(Config(task="stl10").with_presets(), **given)
    (run,) = find([fabricate(tmp_path / "run", 0.5, **vars(config))]).runs
    line = run_identity.command(run).removeprefix("l2t train ")
    parsed = cli.parse(Config, "l2t train", shlex.split(line))
    assert parsed == config


def labels(folder: Path, *runs: dict) -> dict[tuple[str, str], str]:
    """The table's cells of fabricated runs, with the number of runs in each."""
    for number, options in enumerate(runs):
        fabricate(folder / "runs" / str(number), 0.5, **options)
    assert run_report(folder / "runs", "--out", folder / "out") == 0
    return {place: line["runs"] for place, line in cells(folder / "out").items()}


COLUMN = "digits, 10 per class"
SEPARATE = {
    "an option": ({"lr": 0.05}, {("fm", COLUMN), ("fm lr 0.05", COLUMN)}),
    "the source's weights": (
        {"digest": "cd" * 32},
        {("fm weights abababab", COLUMN), ("fm weights cdcdcdcd", COLUMN)},
    ),
    "what the data are": (
        {"content": "23" * 32},
        {("fm", "digits, content 01010101, 10 per class"),
         ("fm", "digits, content 23232323, 10 per class")},
    ),
    "the test data": (
        {"test_data": "other.npz"},
        {("fm", "digits, test-data None, 10 per class"),
         ("fm", "digits, test-data other.npz, 10 per class")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SEPARATE)
def test_runs_that_differ_in_more_than_the_seed_stay_apart(what, tmp_path):
    options, wanted = SEPARATE[what]
    found = labels(tmp_path, {"method": "fm"}, {"method": "fm", "seed": 1} | options)
    assert found == dict.fromkeys(wanted, "1")


def test_what_a_method_does_not_use_and_where_it_ran_keep_nothing_apart(tmp_path):
    more = {"beta": 2.0, "digest": "cd" * 32, "source": ("vgg9",), "workers": 1, "seed": 1}
    found = labels(tmp_path, {"method": "scratch"}, {"method": "scratch"} | more)
    assert found == {("scratch", COLUMN): "2"}


def test_tasks_share_a_row_though_their_networks_differ(tmp_path):
    runs = []
    for task, digest in (("cifar10", "ab"), ("cub200", "cd")):
        options = vars(Config(task=task).with_presets()) | {"method": "fm", "epochs": 3}
        runs += [options | {"digest": digest * 32}, options | {"digest": digest * 32, "beta": 2.0}]
    columns = ("cifar10, all 100", "cub200, all 100")
    # Beside its own pairs in that task, it may have those of the others.
    same_stage = vars(Config(task="cub200", method="at").with_presets()) | {"epochs": 3}
    for pairs in (same_stage["pairs"], options["pairs"]):
        runs += [same_stage | {"method": "at", "pairs": pairs, "digest": "cd" * 32}]
    assert labels(tmp_path, *runs) == {
        ("at", columns[1]): "1",
        ("at 16 pairs", columns[1]): "1",
        **{(row, column): "1" for row in ("fm", "fm beta 2") for column in columns},
    }


def test_ties_repeats_one_seed_and_names_with_special_characters(tmp_path, capsys):
    data = {"data": "my_set|50%.npz", "test_data": "t.npz"}
    fabricate(tmp_path / "runs" / "0", 0.1, method="scratch", **data)
    fabricate(tmp_path / "runs" / "1", 0.5, method="scratch", **data)  # a repeat of the first
    fabricate(tmp_path / "runs" / "2", 0.5, method="lwf", **data)
    fabricate(tmp_path / "runs" / "3", 0.4, method="at", **data)
    assert run_report(tmp_path / "runs", "--out", tmp_path / "out") == 0
    markdown = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert markdown.splitlines()[0] == "| method | my_set\\|50%, 10 per class |"
    assert markdown.splitlines()[2:] == [
        "| scratch | **50.0 (1)** |",
        "| lwf | **50.0 (1)** |",
        "| at | 40.0 (1) |",
    ]
    latex = (tmp_path / "out" / "table.tex").read_text(encoding="utf-8")
    assert "method & my\\_set|50\\%, 10 per class \\\\" in latex
    assert "scratch & \\textbf{50.0 (1)} \\\\" in latex
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert f"counts), not in the table:\n\n- {tmp_path / 'runs' / '0'}\n" in text


def with_accuracies(mean: float, std: float, seeds: int) -> np.ndarray:
    """Accuracies of that mean and sample standard deviation."""
    steps = np.arange(seeds) - (seeds - 1) / 2
    return mean + (std * steps / steps.std(ddof=1) if seeds > 1 else 0 * steps)


# Of each method mean and standard deviation in per cent and the number of seeds; the test images;
# and which are bold.
SPREADS = {
    "two seeds": ([(31.2, 2.9, 2), (28.1, 4.4, 2)], 48, [True, True]),
    "few images alone": ([(31.2, 0.1, 2), (28.1, 0.1, 2)], 48, [True, True]),
    "many images": ([(31.2, 0.1, 2), (28.1, 0.1, 2)], 10_000, [True, False]),
    "a wide spread of the second alone": ([(31.2, 0.1, 3), (28.1, 4.4, 3)], 10_000, [True, True]),
    "a wide spread of the best alone": ([(31.2, 4.4, 3), (28.1, 0.1, 3)], 10_000, [True, True]),
    "one seed": ([(50.0, 0, 1), (44.0, 0, 1), (30.0, 0, 1)], 50, [True, True, False]),
    "one seed, many images": ([(50.0, 0, 1), (44.0, 0, 1)], 10_000, [True, False]),
    "unequal seeds": ([(60.0, 2.0, 5), (50.0, 0, 1)], 50, [True, False]),
    "unequal seeds, alike": ([(60.0, 2.0, 5), (59.0, 0, 1)], 10_000, [True, True]),
    "all right of a few": ([(100.0, 0, 1), (80.0, 0, 1), (20.0, 0, 1)], 5, [True, True, False]),
}


@pytest.mark.parametrize("case", SPREADS)
def test_what_the_spread_does_not_separate_from_the_best_is_bold(case, tmp_path):
    rows, images, bold = SPREADS[case]
    for row, (method, (mean, std, seeds)) in enumerate(
        zip(("lwf", "at", "fm"), rows, strict=False)
    ):
        for seed, accuracy in enumerate(with_accuracies(mean / 100, std / 100, seeds)):
            folder = tmp_path / "runs" / f"{row} {seed}"
            fabricate(folder, accuracy, method=method, seed=seed, test_images=images)
    assert run_report(tmp_path / "runs", "--out", tmp_path / "out") == 0
    found = [line["bold"] for line in cells(tmp_path / "out").values()]
    assert found == [str(int(each)) for each in bold]
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8").splitlines()[2:]
    assert [line.count("**") for line in table] == [2 * each for each in bold]
    latex = (tmp_path / "out" / "table.tex").read_text(encoding="utf-8")
    assert latex.count("textbf") == sum(bold)


def test_the_report_gives_n_the_chance_level_and_the_standard_error(tmp_path):
    for seed, accuracy in enumerate((15 / 48, 13 / 48)):
        fabricate(tmp_path / "runs" / f"{seed}", accuracy, method="fm", seed=seed, test_images=48)
    assert run_report(tmp_path / "runs", "--out", tmp_path / "out") == 0
    ((place, line),) = cells(tmp_path / "out").items()
    assert (line["runs"], line["test_images"], float(line["chance"])) == ("2", "48", 0.1)
    # That of a binomial share: √(p (1 - p) / n).
    error = np.sqrt(14 / 48 * 34 / 48 / 48)
    np.testing.assert_allclose(float(line["standard_error"]), error, rtol=0.02)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert f"| {place[1]} | 48 | 10 | 10.0 | {100 * error:.1f} |" in text
    assert "29.2 ± 2.9 (2)" in text
    latex = (tmp_path / "out" / "table.tex").read_text(encoding="utf-8")
    assert f"% {place[1]}: 48 test images, 10 classes, chance 10.0 %" in latex


def test_the_report_repeats_what_was_said_of_few_images(tmp_path):
    """And says it of a run from before that was said; a run that says something else is told."""
    said = ["no test image of moth: the test accuracy says nothing of this class"]
    fabricate(tmp_path / "runs" / "0", 0.5, method="lwf", test_images=500, warnings=said)
    fabricate(tmp_path / "runs" / "1", 0.5, method="fm", test_images=5)
    fabricate(tmp_path / "runs" / "2", 0.5, method="at", warnings=[7])
    fabricate(tmp_path / "runs" / "3", 0.5, method="at", test_images=0)
    assert run_report(tmp_path / "runs", "--out", tmp_path / "out") == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert f": {said[0]}" in text
    assert (
        "only 5 test images: one is 20.0 points of accuracy, the standard error up to 22.4" in text
    )
    assert "only 20 validation images: one is 5.0 points" in text
    assert "warnings of result.json must be a list of texts (got [7])" in text
    assert "must be numbers from 1 on (got test 0)" in text


def test_the_report_has_each_class_where_the_runs_have_counted_them(tmp_path):
    classes = ("cat", "dog", "fish")
    right = {("fm", 0): [2, 8, 5], ("fm", 1): [4, 6, 5], ("at", 0): [9, 9, 1], ("lwf", 0): None}
    for (method, seed), counts in right.items():
        folder = fabricate(tmp_path / f"{method}{seed}", 0.5, method=method, seed=seed)
        if counts is not None:
            matrix = np.diag(counts)
            matrix[:, 0] += 10 - np.array(counts)  # what is wrong is taken for the first
            confusion_file.write(folder / layout.CONFUSION, matrix, classes)
    assert run_report(tmp_path, "--out", tmp_path / "out") == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    table = text.partition("## Each class")[2].partition("##")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert "lwf" not in lines[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    found = {row[0]: dict(zip(cells[0][1:], row[1:], strict=True)) for row in cells[2:]}
    # Of the first class all ten are right: what is wrong is taken for it too.
    assert found["cat"] == {"at": "100.0", "fm": "100.0"}
    assert found["dog"] == {"at": "90.0", "fm": "70.0"}
    assert found["fish"] == {"at": "10.0", "fm": "50.0"}
    (picture,) = (tmp_path / "out").glob("confusion-*.png")
    assert f"]({picture.name})" in text


def test_runs_that_patience_has_ended_are_averaged_as_long_as_all_go_on(tmp_path, monkeypatch):
    for seed in (0, 1):
        folder = fabricate(
            tmp_path / "runs" / f"{seed}", 0.5, method="l2t-ww", seed=seed, patience=1
        )
    metrics = folder / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:2]))
    drawn = {}
    keep = lambda path, accuracies, *rest: drawn.update(accuracies)  # noqa: E731
    monkeypatch.setattr(report.pictures.accuracy_plots, "over_epochs", keep)
    assert run_report(tmp_path / "runs", "--out", tmp_path / "out") == 0
    (values,) = drawn.values()
    np.testing.assert_array_equal(values, [[0.2, 0.4]] * 2)
    # Without --patience it is a run that was cut off.
    fabricate(tmp_path / "cut" / "0", 0.5, method="scratch")
    metrics = tmp_path / "cut" / "0" / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:2]))
    assert run_report(tmp_path / "cut", "--out", tmp_path / "other") == 2


def test_bad_input_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    unfinished = fabricate(tmp_path / "begun" / "run", 0.5, method="fm")
    (unfinished / "result.json").unlink()
    cases = {
        tmp_path / "nowhere": f"RUNS must be run folders, or … (got {tmp_path / 'nowhere'})",
        tmp_path / "empty": f"RUNS must have … (got none in {tmp_path / 'empty'})",
        tmp_path / "begun": f"RUNS must have a finished run … (got {tmp_path / 'begun'} with 1",
    }
    for folder, message in cases.items():
        assert run_report(folder, "--out", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert error.startswith("report: error: ")
        assert says(error, message)
        assert error.count("\n") == 1
    assert run_report("--out", tmp_path / "out") == 2
    assert "RUNS must be folders" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_mean_weights_are_numpys_over_all_batches():
    """Over two batches, of which the second is mostly padding."""
    net, pairs = network((4, 5)), [(0, 0), (1, 1)]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (520, 4, 4, 3), dtype=np.uint8)
    data = Dataset(images, np.zeros(520, np.int32), ("a",))
    variables = net.init(jax.random.key(0), np.zeros((1, 4, 4, 3), "f"))
    what, where = builders.learned_channels_and_pairs(Config(where="softplus"))
    pooled = [np.zeros((1, 4), "f"), np.zeros((1, 5), "f")]
    params = MetaParams(*(net.init(jax.random.key(1), pooled) for net in (what, where)))
    params = jax.tree.map(lambda leaf: rng.normal(0, 1, leaf.shape).astype("f"), params)
    means = learned_weights.mean_weights(
        net, variables, what, where, params, pairs, data, devices.one_device()
    )
    inputs = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    features = net.apply(variables, inputs.astype("f"), train=False).features
    for i, maps in enumerate(features):
        gap = np.asarray(maps, np.float64).mean((1, 2))
        scores = np.exp(gap @ params.what[i].kernel + params.what[i].bias)
        weights = scores / scores.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(means.channels[i], weights.mean(axis=0), rtol=1e-5)
        pair = np.log1p(np.exp(gap @ params.where[i].kernel + params.where[i].bias))
        np.testing.assert_allclose(means.pair_weights[i], pair.mean(), rtol=1e-5)
