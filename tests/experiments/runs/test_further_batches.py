"""The further batches of a step: which images they hold, and runs that use them."""

import dataclasses
import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from experiments import train
from experiments.data import unlabelled
from experiments.data.batches import Repeated
from experiments.options import builders
from experiments.options.train_options import Config
from experiments.runs import further_batches, inputs
from experiments.system import devices


class Numbers(SimpleNamespace):
    """A feed whose batches are (epoch, number in the epoch)."""

    batch_size, image_shape = 1, (1, 1, 3)

    def epoch(self, number, first=0):
        return iter([(number, i) for i in range(first, self.steps)])


@pytest.mark.parametrize("own", [1, 2, 3, 7])
def test_batches_run_on_from_epoch_to_epoch_and_start_anywhere(own):
    feed = Repeated(Numbers(steps=own), 3)
    wanted = [divmod(i, own) for i in range(12)]
    assert [batch for epoch in range(4) for batch in feed.epoch(epoch)] == wanted
    for begin in range(12):
        epoch, first = divmod(begin, 3)
        assert [*feed.epoch(epoch, first)] == wanted[begin : 3 * epoch + 3]


def digits(**options) -> tuple[Config, inputs.Splits]:
    config = Config(data="digits", image_size=8, per_class=10, batch_size=20, **options)
    return config, inputs.load_splits(config)


def rows(images) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_held_out_images_are_not_trained_on():
    config, parts = digits(outer_batch="held-out", outer_fraction=0.3, outer_batch_size=15)
    rest, found = further_batches.take(config, parts, devices.one_device())
    outer = found["outer_batch"]
    assert outer.batch_size == 15
    assert np.bincount(outer.images.labels).tolist() == [3] * 10
    assert np.bincount(rest.train.labels).tolist() == [7] * 10
    assert not rows(outer.images.images) & rows(rest.train.images)
    assert rest.validation is parts.validation
    assert rest.test is parts.test


@pytest.mark.parametrize("kind", ["other", "validation"])
def test_other_outer_batches_leave_the_training_images_as_they_are(kind):
    config, parts = digits(outer_batch=kind)
    rest, found = further_batches.take(config, parts, devices.one_device())
    assert rest.train is parts.train
    assert found["outer_batch"].images is {"other": parts.train}.get(kind, parts.validation)
    assert found["outer_batch"].batch_size == 20
    same, none = further_batches.take(
        dataclasses.replace(config, outer_batch="same"), parts, devices.one_device()
    )
    assert (same, none) == (parts, {})


def test_too_few_images_for_a_batch_are_told():
    config, parts = digits(outer_batch="held-out", outer_batch_size=21)
    with pytest.raises(ValueError, match=r"--outer-batch-size must be at most 20.*held-out"):
        further_batches.take(config, parts, devices.one_device())
    config = dataclasses.replace(config, outer_batch_size=None, outer_fraction=0.9)
    with pytest.raises(ValueError, match=r"--batch-size must be at most 10.*remaining training"):
        further_batches.take(config, parts, devices.one_device())


def test_images_without_labels_are_read_from_files_and_folders(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "greys.npz", images=images[..., 0])
    np.savez(tmp_path / "labelled.npz", images=images, labels=np.arange(5))
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "folder" / ("deep" if i % 2 else "") / f"{i}.png")

    def load(name):
        found = unlabelled.load(str(tmp_path / name), tmp_path, 8, None)
        assert set(found.labels.tolist()) == {0}
        return found.load(np.arange(len(found.labels)))

    np.testing.assert_array_equal(load("labelled.npz"), images)
    np.testing.assert_array_equal(load("greys.npz"), np.repeat(images[..., :1], 3, axis=-1))
    assert rows(load("folder")) == rows(images)
    np.savez(tmp_path / "none.npz", labels=np.arange(5))
    with pytest.raises(ValueError, match=r"must have the array images \(got labels\)"):
        load("none.npz")


def test_images_in_memory_are_not_cropped_at_random(tmp_path):
    np.savez(tmp_path / "more.npz", images=np.zeros((5, 8, 8, 3), np.uint8))
    parts = inputs.load_splits(Config(image_size=8))
    more = str(tmp_path / "more.npz")
    config = Config(method="fm", augment="resized-crop", unlabelled=more, image_size=8)
    with pytest.raises(ValueError, match=r"resized-crop needs images in files \(got --unlabelled"):
        further_batches.take(config, parts, devices.one_device())


@pytest.fixture
def given(resnet8_weights) -> list[str]:
    line = (
        "--data digits --image-size 8 --per-class 4 --batch-size 10 --lr 0.01 --target resnet8 "
        "--source resnet8 --pairs 2-2"
    )
    return [*line.split(), "--source-weights", str(resnet8_weights)]


def figures(folder) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.mark.slow
@pytest.mark.usefixtures("quickly_compiled")
def test_a_run_with_every_further_batch_goes_on_as_if_it_was_never_stopped(
    given, tmp_path, interrupt, capsys
):
    """Outer batches of held-out images, images without labels, and averaged meta-gradients."""
    line = (
        "--method l2t-ww --unroll-steps 1 --meta-lr 0.05 --meta-average 2 --meta-from 1 --epochs 2 "
        "--outer-batch held-out --outer-batch-size 7 --unlabelled digits "
        "--unlabelled-batch-size 13 --scheme matching-only --where level"
    )

    def run(name):
        return train.command([*given, *line.split(), "--run-dir", str(tmp_path / name)])

    assert run("whole") == 0
    assert "1 pairs, 1797 unlabelled images" in capsys.readouterr().out
    interrupt(4)
    assert run("cut") != 0
    interrupt(0)
    assert run("cut") == 0
    assert figures(tmp_path / "cut") == figures(tmp_path / "whole")
    first, second = (epoch["train"]["pair_weights"] for epoch in figures(tmp_path / "whole"))
    # λ starts at 1, moves after two meta-gradients, the first of them in step 1.
    assert 0.9 < first[0] < 1.1
    assert second[0] != first[0]
    config = json.loads((tmp_path / "cut" / "config.json").read_text())
    assert len(config["unlabelled_sha256"]) == 64
    # Held-out images are the run's too: it has its place beside runs that train on all of them.
    result = json.loads((tmp_path / "cut" / "result.json").read_text())
    assert result["images"]["train"] == 40


@pytest.mark.slow
@pytest.mark.usefixtures("quickly_compiled")
def test_baselines_take_images_without_labels(given, tmp_path):
    penalties = {}
    for name, more in (("with", ["--unlabelled", "digits"]), ("without", [])):
        folder = tmp_path / name
        line = [*given, "--method", "fm", "--epochs", "1", "--run-dir", str(folder), *more]
        assert train.command(line) == 0
        (epoch,) = figures(folder)
        penalties[name] = epoch["train"]["penalties"]["fm"]
    assert penalties["with"] != penalties["without"]


def test_options_that_would_do_nothing_are_told(given, tmp_path, capsys):
    run = ["--run-dir", str(tmp_path / "run")]
    for words, message in (
        (["--method", "finetune", "--unlabelled", "digits"], "must not be given with --method"),
        (["--unlabelled-batch-size", "3"], "must be given with --unlabelled (got 3 and none)"),
        (["--outer-batch-size", "3"], "must be given with --outer-batch (got 3 and same)"),
        (["--unlabelled", str(tmp_path / "nowhere")], "nowhere"),
        (["--outer-fraction", "1"], "--outer-fraction must be between 0 and 1"),
        (["--meta-average", "0"], "--meta-average must be at least 1"),
        (["--meta-from", "-1"], "--meta-from must be at least 0"),
    ):
        assert train.command([*given, *words, *run]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_averaged_gradients_move_once_by_their_mean():
    params, plain = jnp.array([1.0, -2.0]), builders.decayed_adam(0.1)
    several = builders.averaged(plain, 3)
    gradients = [jnp.array([0.3, 1.0]), jnp.array([-0.5, 2.0]), jnp.array([0.8, 0.0])]
    state = several.init(params)
    for gradient in gradients[:2]:
        updates, state = several.update(gradient, state, params)
        assert not np.any(updates)
    updates, state = several.update(gradients[2], state, params)
    wanted, _ = plain.update(sum(gradients) / 3, plain.init(params), params)
    np.testing.assert_allclose(updates, wanted, rtol=1e-6)
    assert builders.averaged(plain, 1) is plain
    assert isinstance(several, optax.GradientTransformation)
