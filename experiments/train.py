"""Trains one target network by one method."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import cli, devices, inputs, loop, methods, plots, zoo
from experiments.config import Config
from experiments.feed import TrainingData, check_batch_size
from experiments.files import new_folder, plain, write_json
from l2t_jax import output_shapes
from l2t_jax.matching import Pair


def main(config: Config) -> int:
    """Trains as configured, and writes config, metrics, weights and pictures to the run folder."""
    config.check()
    devices.join(config.coordinator, config.processes, config.process)
    everywhere = devices.all_devices()
    everywhere.check_batch_size(config.batch_size)
    splits = inputs.load_splits(config)
    check_batch_size(config.batch_size, len(splits.train.labels))
    size = splits.train.image_shape
    target = zoo.network(config.target, len(splits.train.classes))
    images = jax.ShapeDtypeStruct((config.batch_size, *size), jnp.float32)
    variables = jax.eval_shape(target.init, jax.random.key(0), images)
    target_outputs = output_shapes(target, variables, images)
    source, source_variables = None, None
    pairs: list[Pair] = []
    if config.method != "scratch":
        assert config.source_weights is not None  # checked above
        source, source_variables = zoo.load(config.source, config.source_weights, size)
        source_outputs = output_shapes(source, source_variables, images)
        pairs = methods.choose_pairs(config.pairs_or_default(), source_outputs, target_outputs)
    method = methods.make(config, source, target, pairs)
    compiled = loop.compile_method(method, target, everywhere)
    devices.on_first_process(lambda: begin(config, splits, pairs, everywhere))
    with inputs.training_data(config, splits.train, everywhere) as training:
        result = train(config, compiled, source_variables, training, splits)
    devices.on_first_process(lambda: finish(config, pairs, result))
    return 0


def begin(
    config: Config, splits: inputs.Splits, pairs: list[Pair], everywhere: devices.Devices
) -> None:
    """Makes the run folder, and says what will be done."""
    folder = new_folder(config.folder())
    write_json(folder / "config.json", dataclasses.asdict(config) | {"pairs": pairs})
    print(
        f"{config.method}: {config.target} on {len(splits.train.labels)} training, "
        f"{len(splits.validation.labels)} validation and {len(splits.test.labels)} test images, "
        f"{len(splits.train.classes)} classes, {len(pairs)} pairs, on {everywhere.number} "
        f"device{'s' * (everywhere.number > 1)}; writing to {folder}"
    )


def train(
    config: Config,
    compiled: loop.Compiled,
    source_variables: Any,
    training: TrainingData,
    splits: inputs.Splits,
) -> loop.Result:
    """Trains with a progress bar and a file of metrics, both of the first process alone."""
    first = devices.is_first_process()
    path = config.folder() / "metrics.jsonl" if first else Path(os.devnull)
    total = config.epochs * training.steps
    with (
        path.open("a", encoding="utf-8") as metrics,
        tqdm(total=total, unit="step", dynamic_ncols=True, disable=not first) as bar,
    ):
        best = 0.0

        def on_step(number: int, info: Any) -> None:
            bar.set_postfix_str(
                f"loss {float(info.loss):.3f} acc {float(info.accuracy):.2f} best val {best:.3f}",
                refresh=False,
            )
            bar.update()

        def on_epoch(epoch: loop.Epoch) -> None:
            nonlocal best
            best = max(best, epoch.val_accuracy)
            metrics.write(json.dumps(plain(epoch._asdict())) + "\n")
            metrics.flush()

        return loop.train(
            compiled,
            source_variables,
            training,
            splits.validation,
            splits.test,
            loop.Schedule(config.epochs, config.lr, config.seed),
            on_step=on_step,
            on_epoch=on_epoch,
        )


def finish(config: Config, pairs: list[Pair], result: loop.Result) -> None:
    """Writes the target's weights, the result and the pictures, and prints the result."""
    folder = config.folder()
    zoo.save(folder / "target.safetensors", result.variables)
    if "pair_weights" in result.epochs[0].train:
        draw(folder, pairs, result, f"{config.method}: {config.source} → {config.target}")
    summary = {
        "best_epoch": result.best_epoch.epoch,
        "val_accuracy": result.best_epoch.val_accuracy,
        "test_accuracy": result.test_accuracy,
    }
    write_json(folder / "result.json", summary)
    print(
        f"best epoch {summary['best_epoch']}: validation accuracy "
        f"{100 * result.best_epoch.val_accuracy:.2f} %, test accuracy "
        f"{100 * result.test_accuracy:.2f} %"
    )


def draw(folder: Path, pairs: list[Pair], result: loop.Result, title: str) -> None:
    """Writes the pictures of a run with pair weights."""
    history = np.array([epoch.train["pair_weights"] for epoch in result.epochs])
    epochs = [epoch.epoch for epoch in result.epochs]
    plots.lambda_matrices(folder / "lambda.png", pairs, history, epochs, title)
    plots.matching_diagram(folder / "matching.png", pairs, history[-1], title)


if __name__ == "__main__":
    sys.exit(cli.run(main, Config, prog="experiments.train"))
