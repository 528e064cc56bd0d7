"""The table of methods: an entry is all that a new one needs."""

import json
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import report, train
from experiments.data.dataset import Dataset
from experiments.data.splits import Splits
from experiments.networks import zoo
from experiments.options import builders
from experiments.options.methods import METHODS, Entry, find, uses
from experiments.options.train_options import Config
from l2t_jax import baselines
from l2t_jax.models import cifar_resnet

SHRINK = baselines.Penalty(
    init=lambda key, source, target: (),
    apply=lambda params, source, target: jnp.mean(jnp.square(target.logits)),
)


def shrink(config, parts):
    """A fixed penalty: the mean square of the target's logits."""
    penalties = {"shrink": (config.beta, SHRINK)}
    optimizer = builders.sgd(config)
    return baselines.with_penalties(parts.source, parts.target, penalties, optimizer=optimizer)


@pytest.mark.slow
@pytest.mark.usefixtures("quickly_compiled")
def test_a_new_method_is_one_entry(tmp_path, monkeypatch):
    """It trains on its own loss, and is reported under its name."""
    monkeypatch.setitem(METHODS, "shrink", Entry(shrink, "small logits", options=("beta",)))
    weights = tmp_path / "source.safetensors"
    images = jnp.ones((1, 8, 8, 3))
    zoo.save(weights, cifar_resnet(8, classes=10).init(jax.random.key(0), images))
    folder, out = tmp_path / "run", tmp_path / "report"
    line = (
        "--method shrink --beta 0.5 --data digits --image-size 8 --per-class 2 --batch-size 20 "
        "--epochs 1 --target resnet8 --source resnet8"
    )
    given = ["--source-weights", str(weights), "--run-dir", str(folder)]
    assert train.command([*line.split(), *given]) == 0
    (epoch,) = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    seen = epoch["train"]
    assert seen["penalties"]["shrink"] > 0
    total = seen["task_loss"] + 0.5 * seen["penalties"]["shrink"]
    assert seen["loss"] == pytest.approx(total, rel=1e-5)
    assert report.command([str(folder), "--out", str(out)]) == 0
    assert "| shrink |" in (out / "table.md").read_text()


def test_an_unknown_method_is_answered_by_the_table():
    with pytest.raises(ValueError, match=r"--method .*scratch.*l2t-ww.*lt2"):
        find("lt2")


def test_which_options_a_method_uses():
    assert uses("fm", "beta")
    assert uses("fm", "lr")
    assert not uses("fm", "where")
    assert not uses("scratch", "source_weights")
    assert not uses("lwf", "matched_pairs")
    assert [name for name in METHODS if uses(name, "where")] == ["l2t-ww"]


def test_of_a_runs_optimiser_only_the_rate_is_state():
    """Checkpoints of earlier runs hold nothing else; its steps are those of plain SGD."""
    params = {"w": jnp.linspace(-1.0, 1.0, 5)}
    ours, plain = builders.scheduled_sgd(0.3, 0.8, 0.01), builders.decayed_sgd(0.3, 0.8, 0.01)
    ours_state, plain_state = ours.init(params), plain.init(params)
    assert ours_state.hyperparams.keys() == {"learning_rate"}
    for step in range(3):
        gradients = {"w": params["w"] ** 2 + step}
        updates, ours_state = ours.update(gradients, ours_state, params)
        wanted, plain_state = plain.update(gradients, plain_state, params)
        chex.assert_trees_all_close(updates, wanted, rtol=1e-6)


def test_balanced_classes_count_alike_and_one_on_average():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    images = Dataset(np.zeros((10, 8, 8, 3), np.uint8), labels, ("a", "b", "c"))
    parts = Splits(images, images, images)
    weights = train.balance(Config(class_weights="balanced"), parts)
    np.testing.assert_allclose(np.bincount(labels, weights=weights[labels]), 10 / 3)
    assert train.balance(Config(), parts) is None
    loss = builders.task_loss(Config(label_smoothing=0.1), builders.Parts(None, cifar_resnet(8, 3)))
    logits = jnp.array([[2.0, 0.0, 0.0]])
    smooth = optax.smooth_labels(jax.nn.one_hot(jnp.array([0]), 3), 0.1)
    wanted = optax.softmax_cross_entropy(logits, smooth).mean()
    assert float(loss(logits, jnp.array([0]))) == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize("precision", ["tensorfloat32", "bfloat16"])
def test_differences_need_products_that_are_not_rounded(precision):
    config = Config(
        source_weights=("weights.pth",), meta_gradient="finite-difference", precision=precision
    )
    with pytest.raises(ValueError, match=f"finite-difference with --precision {precision}"):
        config.check()
    replace(config, precision="float32").check()


def test_options_that_a_method_does_not_use_are_named():
    for method, given, unused in (
        ("scratch", {"meta_every": 4, "beta": 2.0, "epochs": 3}, ["--beta", "--meta-every"]),
        ("probe", {"epochs": 3, "label_smoothing": 0.1}, ["--epochs", "--label-smoothing"]),
        ("fm", {"beta": 2.0, "pairs": "0-0", "per_class": 5}, []),
        ("l2t-ww", {"where": "constant", "at_weight": 2.0}, ["--at-weight"]),
        (
            "l2t-ww",
            {"where": "constant", "where_bias": 3.0, "outer_fraction": 0.5},
            ["--outer-fraction", "--where-bias"],
        ),
        ("l2t-ww", {"where_bias": 3.0, "outer_batch": "held-out", "outer_fraction": 0.5}, []),
    ):
        assert sorted(Config(method=method, **given).without_effect()) == unused
