"""Trains one target network by one method."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import cli, data, loop, methods, plots, zoo
from experiments.config import Config
from experiments.files import new_folder, plain, write_json
from l2t_jax import output_shapes


def main(config: Config) -> int:
    """Trains as configured, and writes config, metrics, weights and pictures to the run folder."""
    config.check()
    splits = load_splits(config)
    loop.check_batch_size(config.batch_size, splits.train)
    size = splits.train.images.shape[1:]
    target = zoo.network(config.target, len(splits.train.classes))
    images = jax.ShapeDtypeStruct((config.batch_size, *size), jnp.float32)
    variables = jax.eval_shape(target.init, jax.random.key(0), images)
    target_outputs = output_shapes(target, variables, images)
    source, source_variables, pairs = None, None, []
    if config.method != "scratch":
        assert config.source_weights is not None  # checked above
        source, source_variables = zoo.load(config.source, config.source_weights, size)
        source_outputs = output_shapes(source, source_variables, images)
        pairs = methods.choose_pairs(config.pairs_or_default(), source_outputs, target_outputs)
    method = methods.make(config, source, target, pairs)
    compiled = loop.compile_method(method, target, augment=augments(config))
    schedule = loop.Schedule(config.epochs, config.batch_size, config.lr, config.seed)
    folder = new_folder(config.folder())
    write_json(folder / "config.json", dataclasses.asdict(config) | {"pairs": pairs})
    steps = loop.steps_per_epoch(len(splits.train.labels), config.batch_size)
    print(
        f"{config.method}: {config.target} on {len(splits.train.labels)} training, "
        f"{len(splits.validation.labels)} validation and {len(splits.test.labels)} test images, "
        f"{len(splits.train.classes)} classes, {len(pairs)} pairs; writing to {folder}"
    )
    with (
        (folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics,
        tqdm(total=config.epochs * steps, unit="step", dynamic_ncols=True) as bar,
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

        result = loop.train(
            compiled, source_variables, splits, schedule, on_step=on_step, on_epoch=on_epoch
        )
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
        f"{100 * summary['val_accuracy']:.2f} %, test accuracy {100 * result.test_accuracy:.2f} %"
    )
    return 0


def load_splits(config: Config) -> data.Splits:
    """Reads the data and divides them as configured."""
    train = data.load(config.data, config.image_size)
    if config.test_data is None:
        train, test = data.hold_out(train, config.test_fraction, config.seed)
    else:
        test = data.load(config.test_data, config.image_size)
        data.check_test(train, test)
    train, validation = data.hold_out(train, config.val_fraction, config.seed)
    if config.per_class is not None:
        train = data.per_class(train, config.per_class, config.seed)
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if not len(part.labels):
            raise ValueError(f"no image is left for the {name} part; wanted at least one")
    return data.Splits(train, validation, test)


def augments(config: Config) -> bool:
    """Whether training images are cropped and mirrored: not digits, which mirroring changes."""
    return config.augment == "crop-flip" or (config.augment == "auto" and config.data != "digits")


def draw(folder: Path, pairs: list, result: loop.Result, title: str) -> None:
    """Writes the pictures of a run with pair weights."""
    history = np.array([epoch.train["pair_weights"] for epoch in result.epochs])
    epochs = [epoch.epoch for epoch in result.epochs]
    plots.lambda_matrices(folder / "lambda.png", pairs, history, epochs, title)
    plots.matching_diagram(folder / "matching.png", pairs, history[-1], title)


if __name__ == "__main__":
    sys.exit(cli.run(main, Config, prog="experiments.train"))
