"""One, two and four simulated devices, in one process and in two, compute the same."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from conftest import HELPERS, ROOT
from messages import says

from experiments import train
from experiments.data import batches, in_memory
from experiments.data.dataset import Dataset
from experiments.networks import zoo
from experiments.options import cli
from experiments.options.train_options import Config
from experiments.system import devices
from l2t_jax.models import cifar_resnet

pytestmark = pytest.mark.slow

# Most of the time goes into compiling what runs for a moment.
FLAGS = "--xla_backend_optimization_level=0"
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def start(*args: object, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-W", "error", *map(str, args)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": FLAGS, "PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes: subprocess.Popen) -> list[str]:
    """Waits for all, and returns what they printed."""
    try:
        printed = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, printed, strict=True):
        assert process.returncode == 0, text
    return printed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def close(one: dict, other: dict, tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert np.isfinite(one[name]).all()
        np.testing.assert_allclose(
            other[name], one[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


def load(path: Path) -> tuple[dict[str, np.ndarray], float, int]:
    """State and infos, and the work and the share of the batch of a device."""
    figures = dict(np.load(path))
    return figures, float(figures.pop("flops")), int(figures.pop("share"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What `on_devices.py` writes, run side by side on as many cores as there are."""
    folder, port = tmp_path_factory.mktemp("devices"), free_port()
    script = HELPERS / "on_devices.py"
    (folder / "joined").mkdir()
    finish(
        start(script, folder, "small", "float64", "1,2"),
        start(script, folder, "resnet", "float32", "1,4"),
        *(
            start(script, folder / "joined", "small", "float64", "4", f"127.0.0.1:{port}", process)
            for process in range(2)
        ),
    )
    return folder


@pytest.mark.parametrize(
    ("network", "dtype", "counts"),
    [("small", "float64", [2]), ("resnet", "float32", [4])],
)
def test_a_batch_is_split_and_the_results_are_those_of_one_device(folder, network, dtype, counts):
    one, all_work, batch = load(folder / f"{network}-{dtype}-1.npz")
    assert batch == 8
    assert len(one) > 40
    for count in counts:
        several, work, share = load(folder / f"{network}-{dtype}-{count}.npz")
        close(one, several, TOLERANCE[dtype])
        assert share == 8 // count
        assert work < 1.2 * all_work / count


def test_two_processes_compute_what_one_does(folder):
    one, _, _ = load(folder / "small-float64-1.npz")
    joined, _, share = load(folder / "joined" / "small-float64-4.npz")
    close(one, joined, TOLERANCE["float64"])
    assert share == 2


def test_the_command_in_two_processes_writes_the_run_of_one(tmp_path):
    """Also if they are killed once, and go on."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (58, 8, 8, 3), dtype=np.uint8), np.arange(58) % 2
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    source = cifar_resnet(8, classes=2)
    zoo.save(tmp_path / "source.safetensors", source.init(jax.random.key(0), images[:1] / 1.0))
    options = (
        "-m", "experiments.train", "--method", "fm", "--data", tmp_path / "data.npz",
        "--source", "resnet8", "--source-weights", tmp_path / "source.safetensors",
        "--target", "resnet8", "--pairs", "2-2", "--epochs", 3, "--lr", 0.01, "--batch-size", 8,
    )  # fmt: skip
    joined = tmp_path / "joined"

    def start_two() -> list[subprocess.Popen]:
        address = f"127.0.0.1:{free_port()}"
        return [
            start(*options, "--run-dir", joined, "--coordinator", address, "--processes", 2,
                  "--process", i, "--checkpoint-minutes", 1e-9, JAX_NUM_CPU_DEVICES="2")
            for i in range(2)
        ]  # fmt: skip

    alone, killed = start(*options, "--run-dir", tmp_path / "alone"), start_two()
    while killed[0].poll() is None and not [*joined.glob("checkpoints/*.sha256")]:
        time.sleep(0.01)
    for process in killed:
        process.kill()
        process.communicate()
    assert not (joined / "result.json").exists()
    printed = finish(alone, *start_two())
    assert "on 1 device;" in printed[0]
    assert f"on 4 devices; resuming in {joined}" in printed[1]
    assert "pairs" not in printed[2]
    assert "step" not in printed[2]

    def figures(run: Path) -> dict[str, np.ndarray]:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == 3
        epoch = json.loads(lines[-1])
        assert epoch.pop("seconds") > 0
        means = epoch.pop("train")
        result = json.loads((run / "result.json").read_text())
        assert result["devices"]["number"] == (1 if run.name == "alone" else 4)
        return (
            means.pop("penalties")
            | means
            | epoch
            | {name: result[name] for name in ("best_epoch", "val_accuracy", "test_accuracy")}
            | safetensors.numpy.load_file(run / "target.safetensors")
        )

    close(figures(tmp_path / "alone"), figures(joined), 1e-5)
    written = {path.name for path in joined.iterdir()}
    names = ("config.json", "metrics.jsonl", "result.json", "confusion.csv", "target.safetensors")
    assert written == {*names}


@pytest.mark.parametrize(("size", "nearest"), [(30, "28 or 32"), (3, "4"), (9, "8 or 12")])
def test_a_batch_that_cannot_be_divided_is_refused_with_sizes_that_can(size, nearest):
    mesh = jax.sharding.AbstractMesh((4,), ("batch",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    four = devices.Devices(split, split)
    with pytest.raises(ValueError, match=f"--batch-size .* of 4.*got {size}.; use {nearest}"):
        four.check_batch_size(size)
    four.check_batch_size(32)
    assert four.round_up(9) == 12


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--processes 2", "--coordinator must be … with --processes 2"),
        ("--coordinator auto --process 0", "--coordinator auto must be … alone (got --process 0"),
        ("--coordinator auto", "jax does not find the other processes (got auto"),
        ("--coordinator a:1 --processes 2", "--process must be … a:1 (got --processes 2)"),
        ("--coordinator a:1 --processes 2 --process 2", "--process must be … (got 2)"),
        (
            "--coordinator host --processes 2 --process 0",
            "--coordinator must be HOST:PORT … (got host)",
        ),
        (
            "--coordinator host:x --processes 2 --process 0",
            "--coordinator must be HOST:PORT … (got host:x)",
        ),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    line, message, tmp_path, capsys, monkeypatch
):
    # As at the start of a command, where no device has been asked for.
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    args = f"--method scratch {line} --run-dir {tmp_path / 'run'}".split()
    assert cli.run(train.main, Config, prog="l2t train", args=args) == 2
    assert says(capsys.readouterr().err, message)
    assert not (tmp_path / "run").exists()


def test_images_in_memory_come_in_the_order_of_the_epoch():
    images = np.arange(10, dtype=np.uint8).repeat(8 * 8 * 3).reshape(10, 8, 8, 3)
    data = Dataset(images, np.arange(10, dtype=np.int32), tuple("abcdefghij"))
    training = in_memory.InMemory(data, devices.one_device(), batch_size=4, seed=3, augment=False)
    for epoch in (1, 0):
        found = list(training.epoch(epoch))
        order = batches.epoch_order(3, epoch, 10, 4)
        np.testing.assert_array_equal([batch.labels for batch in found], order)
        np.testing.assert_array_equal([batch.images[:, 0, 0, 0] for batch in found], order)
