"""Parity with the published implementation's figures, through the command itself."""

import json

import jax
import numpy as np
import pytest
import torch_files
from conftest import DATA, needed

from experiments import parity
from experiments.options import cli
from experiments.reference import records, replay
from l2t_jax.pytorch import to_torch

pytestmark = pytest.mark.slow


def run(*args: object) -> int:
    return cli.run(parity.main, parity.Options, prog="l2t parity", args=[str(a) for a in args])


@pytest.fixture(scope="module")
def replayed(quickly_compiled):
    record = records.load(DATA / "tiny.npz")
    return record, replay.replay(record.config, None)


def test_every_figure_of_the_small_record_agrees(replayed):
    record, ours = replayed
    lines = parity.compare(record, ours)
    assert sum(line.figures for line in lines) > 30_000
    for line in lines:
        assert line.error < 1e-9, line


@pytest.mark.parametrize(
    "key", ["source_logits", "channel_weights/2", "after_update", "meta_grad/wnet.3.weight",
            "meta_grad/lwnet.0.bias", "outer_loss", "meta_param/wnet.1.bias", "target_after"]
)  # fmt: skip
def test_one_changed_figure_is_noticed(replayed, key):
    record, ours = replayed
    figure = record.figures[key].copy()
    figure.flat[figure.size // 2] *= 1 + 1e-4
    changed = record._replace(figures=record.figures | {key: figure})
    worst = max(parity.compare(changed, ours), key=lambda line: line.error)
    assert worst.error > 5e-5
    assert worst.worst == key


def test_missing_and_unknown_figures_are_told(replayed):
    record, ours = replayed
    less = {key: figure for key, figure in record.figures.items() if key != "pair_weights/3"}
    with pytest.raises(ValueError, match="must have pair_weights/3"):
        parity.compare(record._replace(figures=less), ours)
    more = record.figures | {"temperature": np.zeros(())}
    with pytest.raises(ValueError, match=r"\(got temperature\)"):
        parity.compare(record._replace(figures=more), ours)
    names = record.figures["target_names"].copy()
    names[0] = "target.convolution.weight"
    shapes = record.figures["target_shapes"].copy()
    shapes[3] = "[17]"
    reshaped = record.figures | {"target_shapes": shapes}
    with pytest.raises(ValueError, match=r"target.bn1.bias must have shape .*\(got \[17\]\)"):
        parity.compare(record._replace(figures=reshaped), ours)
    longer = record.figures | {"after_update": np.zeros((99, 2))}
    with pytest.raises(ValueError, match=r"after_update must have shape .*\(got \(99, 2\)\)"):
        parity.compare(record._replace(figures=longer), ours)
    renamed = record.figures | {"target_names": names}
    with pytest.raises(ValueError, match=r"target_names must .*\(got .*target.convolution.weight"):
        parity.compare(record._replace(figures=renamed), ours)


def test_records_that_do_not_fit_are_told(data_folder, tmp_path, capsys):
    with np.load(data_folder / "tiny.npz") as file:
        figures = dict(file)
    config = json.loads(str(figures["config"]))
    cases = {
        "(got 'resnet9000x')": config | {"source": "resnet9000x"},
        "the depth of a VGG must be one of": config | {"target": "vgg12_bn"},
        "missing": {key: value for key, value in config.items() if key != "wd"},
        "(got (6, 0))": config | {"pairs": [[6, 0]]},
        "batch must be a whole number, 1 or more (got 'four')": config | {"batch": "four"},
        "T must be a whole number, 0 or more (got 1.5)": config | {"T": 1.5},
        "lr must be a number, 0 or more (got None)": config | {"lr": None},
        "pairs must be a list": config | {"pairs": [[1.7, 0]]},
        "a network of the large family must be": config | {"family": "large", "source": "vgg9"},
        "(got 'cifar-resnet20')": config | {"source": "cifar-resnet20"},
        "--checkpoint must be given": config | {"source_weights": "checkpoint"},
    }
    for message, changed in cases.items():
        path = tmp_path / "record.npz"
        np.savez(path, **figures | {"config": np.array(json.dumps(changed))})
        assert run(path) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert run(tmp_path / "nowhere.npz") == 2
    assert run() == 2


@pytest.mark.parametrize("write", [torch_files.legacy, torch_files.zipped])
def test_a_checkpoint_takes_the_place_of_the_recipes_source(write, data_folder, tmp_path):
    """A file with the small record's own source gives its source, to the last bit."""
    config = records.load(data_folder / "tiny.npz").config
    drawn = replay.build(config, None).source_variables
    path = tmp_path / "source.pth.tar"
    tensors = {name: torch_files.Tensor(array) for name, array in to_torch(drawn).items()}
    path.write_bytes(write({"num_classes": 20, "state_dict": tensors}))
    read = replay.build(config._replace(source_weights="checkpoint"), path).source_variables
    jax.tree.map(np.testing.assert_array_equal, read, drawn)


@pytest.mark.usefixtures("quickly_compiled")
def test_the_record_with_the_trained_source(checkpoint, capsys):
    assert run(needed("reference/cifar_ckpt.npz"), "--checkpoint", checkpoint) == 0
    assert "all figures agree" in capsys.readouterr().out
