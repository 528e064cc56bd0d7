"""Options from a file."""

import dataclasses
import json

import pytest

from experiments.options import cli
from experiments.options.train_options import Config
from experiments.pretrain import Options
from experiments.system.files import plain

RECORDED = {"matched_pairs": [[0, 0]], "division": "a seeded split", "data_sha256": "0" * 64}


def parsed(*words, options=Config):
    return cli.parse(options, "l2t train", [str(word) for word in words])


def test_a_runs_file_gives_its_options_again(tmp_path):
    """Every kind of value, whatever preset or task it came from."""
    path = tmp_path / "config.json"
    weights = ("--source-weights", "a file.pth", "b.pth", "--source", "resnet8", "resnet20")
    for words in (
        ("--method", "scratch", "--per-class", 5),
        ("--preset", "recommended", *weights, "--lr", 0.25, "--run-dir", tmp_path / "run"),
        ("--task", "stl10-resnet20", "--source-weights", "a", "b", "--pairs", "0:1-1,1:2-2"),
    ):
        config = parsed(*words)
        path.write_text(json.dumps(plain(dataclasses.asdict(config), digits=17) | RECORDED))
        again = parsed("--config", path)
        assert again == dataclasses.replace(config, config=path, run_dir=None)
        assert parsed(f"--config={path}", "--epochs", 3).epochs == 3
        assert parsed("--lr", 0.5, "--config", path).lr == 0.5


def test_a_file_by_hand_is_yaml_and_may_name_the_folder(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "method: fm  # as a baseline\nmeta-lr: 1e-3\nper_class:\nrun_dir: here\n"
        "source-weights: [a.pth]\nbeta: 2\n"
    )
    config = parsed("--config", path)
    assert (config.method, config.beta, config.meta_lr) == ("fm", 2.0, 1e-3)
    assert config.per_class is None
    assert str(config.run_dir) == "here"
    assert [*map(str, config.source_weights)] == ["a.pth"]
    path.write_text("network: resnet8\nepochs: 4\n")
    assert parsed("--config", path, options=Options).network == "resnet8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("betta: 2", r"got betta; did you mean --beta\?"),
        ("- method", r"must be options with their values.*got list"),
        ("method: [", "must be JSON or YAML"),
        ("epochs: many", "invalid choice|--epochs"),
        ("matched_pairs: [1]", "got matched_pairs"),
    ],
)
def test_what_a_file_must_not_hold_is_told(text, message, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        parsed("--config", path)
    with pytest.raises(FileNotFoundError):
        parsed("--config", tmp_path / "none.json")
