"""The demonstration, cut short."""

import numpy as np

from experiments import demo
from experiments.data import load
from experiments.options import cli


def test_the_demo_writes_its_table_and_pictures(tmp_path, capsys):
    options = ["--out", str(tmp_path / "demo"), "--seeds", "2", "--epochs", "2"]
    assert cli.run(demo.main, demo.Options, prog="l2t demo", args=options) == 0
    table = (tmp_path / "demo" / "table.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out + "\n"
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:8]]
    names = ["scratch", "fm", "l2t-ww", "fm, red source", "probe", "finetune"]
    assert [name.strip() for name, _ in rows] == names
    assert all(0 < float(cell.split("±")[0]) < 100 for _, cell in rows)
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert written == {"table.md", "pictures.png", "lambda.png", "matching.png"}


def test_the_label_is_that_of_the_red_digit():
    digits = load.digits(demo.SIZE)
    red, green = demo.two_digits(digits, seed=0, copies=2)
    assert len(red.labels) == 2 * len(digits.labels)
    np.testing.assert_array_equal(red.images, green.images)
    np.testing.assert_array_equal(red.labels, np.tile(digits.labels, 2))
    np.testing.assert_array_equal(red.images[: len(digits.labels), ..., 0], digits.images[..., 0])
    assert np.mean(red.labels == green.labels) < 0.2
    assert not red.images[..., 2].any()
    train = demo.target_splits(digits, 10, seed=0).train
    assert np.bincount(train.labels).tolist() == [10] * 10
