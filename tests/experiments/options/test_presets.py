"""Settings by name."""

import re

import pytest
from pages import DOCS

from experiments.options import cli, presets
from experiments.options.methods import METHODS, uses
from experiments.options.train_options import Config


def parsed(*words):
    return cli.parse(Config, "l2t train", ["--source-weights", "a.pth", *words])


@pytest.mark.parametrize("method", METHODS)
def test_a_preset_sets_what_its_method_uses_and_nothing_else(method):
    config = parsed("--method", method, "--preset", "recommended")
    for name, value in presets.RECOMMENDED.items():
        wanted = value if uses(method, name) else getattr(Config, name)
        assert getattr(config, name) == wanted, name
    if method != "scratch":
        config.check()
    assert parsed("--method", method) == parsed("--method", method, "--preset", "paper")


def test_what_is_typed_wins_and_so_do_the_pairs_of_a_task():
    config = parsed("--preset", "recommended", "--beta", "2", "--where", "relu6")
    assert (config.beta, config.where, config.unroll_steps) == (2.0, "relu6", 8)
    task = parsed("--preset", "recommended", "--task", "cifar10")
    assert task.pairs == parsed("--task", "cifar10").pairs
    assert (task.outer_batch, task.batch_size) == ("held-out", 128)


def test_the_page_lists_what_the_preset_sets():
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `--([a-z-]+)` \| (\S+) \| (\S+) \|$", page, re.MULTILINE)
    listed = {name.replace("-", "_"): (new, paper) for name, new, paper in rows}
    assert listed.keys() == presets.RECOMMENDED.keys()
    assert listed.pop("pairs") == (presets.RECOMMENDED["pairs"], "all")  # None stands for all
    for name, (new, paper) in listed.items():
        for word, preset in ((new, "recommended"), (paper, "paper")):
            typed = parsed("--method", "l2t-ww", f"--{name.replace('_', '-')}", word)
            assert getattr(typed, name) == getattr(parsed("--preset", preset), name), name
