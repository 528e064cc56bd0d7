"""The demonstration."""

import numpy as np
import pytest

from experiments import demo
from experiments.data import load
from experiments.options import cli


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


@pytest.mark.slow
def test_the_demo_shows_that_learned_weights_are_ahead_by_more_than_the_spread(tmp_path, capsys):
    """With two of its seeds. After half of its epochs rounding decides, from 1 to 7 points."""
    options = ["--out", str(tmp_path / "demo"), "--seeds", "2"]
    assert cli.run(demo.main, demo.Options, prog="l2t demo", args=options) == 0
    table = (tmp_path / "demo" / "table.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out + "\n"
    rows = {}
    for line in table.splitlines()[2:8]:
        name, accuracy = (cell.strip() for cell in line.split("|")[1:3])
        rows[name] = [float(number) for number in accuracy.split("±")]
    assert [*rows] == ["scratch", "fm", "l2t-ww", "fm, red source", "probe", "finetune"]
    assert all(0 < mean < 100 for mean, _ in rows.values())
    (fm, of_fm), (learned, of_learned) = rows["fm"], rows["l2t-ww"]
    # A tenth more, as the table is rounded.
    assert learned - fm > max(of_fm, of_learned, 3.0) + 0.1, rows
    assert rows["fm, red source"][0] > fm + 3.0, rows
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert written == {"table.md", "pictures.png", "lambda.png", "matching.png"}
