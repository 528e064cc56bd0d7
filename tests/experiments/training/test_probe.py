"""Linear probing, against scikit-learn's own pipeline on features read from the feature maps."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments import evaluate, report, train
from experiments.data import load
from experiments.data.dataset import Dataset
from experiments.data.preprocess import normalise
from experiments.networks import zoo
from experiments.system import devices
from experiments.training import probe

pytestmark = pytest.mark.slow

SIDE = 8


@pytest.fixture(scope="module")
def variables():
    return zoo.find("resnet8")(7).init(jax.random.key(0), jnp.ones((1, SIDE, SIDE, 3), jnp.float32))


def parts(classes: int) -> list[Dataset]:
    digits = load.digits(SIDE)
    kept = np.flatnonzero(digits.labels < classes)[:300]
    taken = [digits.take(kept[begin::3]) for begin in range(3)]
    return [part.relabelled(part.labels, part.classes[:classes]) for part in taken]


@pytest.mark.usefixtures("quickly_compiled")
@pytest.mark.parametrize("classes", [2, 10])
def test_it_is_a_logistic_regression_on_pooled_features(variables, classes):
    splits = parts(classes)
    make = zoo.find("resnet8")
    compiled = probe.compile_probe(make, (SIDE, SIDE, 3), devices.one_device())
    result = probe.train(compiled, variables, splits)
    source = zoo.find("resnet8")(7)

    def pooled(part):
        maps = source.apply(variables, normalise(jnp.asarray(part.images)), train=False).features
        return np.asarray(maps[-1].mean((1, 2)), np.float64)

    train_features, val_features, test_features = map(pooled, splits)
    accuracies = []
    for strength in probe.INVERSE_STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=10_000))
        model.fit(train_features, splits[0].labels)
        accuracies.append(model.score(val_features, splits[1].labels))
    best = probe.INVERSE_STRENGTHS[int(np.argmax(accuracies))]
    assert result.best_epoch.val_accuracy == pytest.approx(max(accuracies))
    assert result.best_epoch.train["inverse_strength"] == best
    model = make_pipeline(StandardScaler(), LogisticRegression(C=best, max_iter=10_000))
    model.fit(train_features, splits[0].labels)
    assert result.test_accuracy == pytest.approx(model.score(test_features, splits[2].labels))
    images = normalise(jnp.asarray(splits[2].images))
    outputs = zoo.find("resnet8")(classes).apply(result.variables, images, train=False)
    np.testing.assert_allclose(
        jax.nn.softmax(outputs.logits), model.predict_proba(test_features), atol=1e-3
    )
    for theirs, ours in zip(
        jax.tree.leaves(variables.model_state),
        jax.tree.leaves(result.variables.model_state),
        strict=True,
    ):
        np.testing.assert_array_equal(theirs, ours)


@pytest.mark.usefixtures("quickly_compiled")
def test_a_probe_is_a_run_like_any_other(variables, tmp_path, capsys):
    weights, run = tmp_path / "source.safetensors", tmp_path / "run"
    zoo.save(weights, variables)
    line = f"--method probe --data digits --image-size {SIDE} --source resnet8 --per-class 20"
    given = [*line.split(), "--source-weights", str(weights), "--run-dir", str(run)]
    assert train.command([*given, "--target", "vgg9"]) == 2
    assert "(got vgg9); leave it out" in capsys.readouterr().err
    assert not run.exists()
    assert train.command(given) == 0
    result = json.loads((run / "result.json").read_text())
    capsys.readouterr()
    assert evaluate.command([str(run), "digits"]) == 0
    printed = capsys.readouterr().out
    right = int(re.search(r"(\d+) of 1797 right", printed)[1])
    assert right / 1797 == pytest.approx(result["test_accuracy"], abs=0.1)
    assert report.command([str(run), "--out", str(tmp_path / "report")]) == 0
    assert "| probe |" in (tmp_path / "report" / "table.md").read_text()


def test_a_class_without_a_training_image_is_told():
    split = probe.Split(np.eye(4), np.array([0, 1, 3, 3]))
    with pytest.raises(ValueError, match=r"every one of the 4 classes .*got images of \[0, 1, 3\]"):
        probe.fit(split, 4, 1.0)
