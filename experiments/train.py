"""Trains one target network by one method."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli, devices, loop, methods, plots, runs, sources, zoo
from experiments.config import Config
from experiments.pairs import choose_pairs
from l2t_jax import Batch, output_shapes
from l2t_jax.matching import Pair


def main(config: Config) -> int:
    """Trains as configured, and writes config, metrics, weights and pictures to the run folder."""
    everywhere, splits = runs.prepare(config)
    size = splits.train.image_shape
    target = zoo.network(config.target, len(splits.train.classes))
    images = jax.ShapeDtypeStruct((config.batch_size, *size), jnp.float32)
    variables = jax.eval_shape(target.init, jax.random.key(0), images)
    target_outputs = output_shapes(target, variables, images)
    pairs: list[Pair] = []
    layers: list[str] = []
    if config.method == "scratch":
        method, source_variables = methods.make(config, None, target, pairs), None
    else:
        source = sources.load(config.source, config.source_weights, images)
        if config.matches_layers():
            pairs = choose_pairs(config.pairs_or_default(), source.outputs, target_outputs)
        method = methods.make(config, source.network, target, pairs, source.classes)
        source_variables, layers = source.variables, source.layers
    # What does not fit together is told before anything is written.
    jax.eval_shape(
        lambda variables, images, labels: method.init(
            jax.random.key(0), variables, Batch(images, labels)
        ),
        source_variables,
        images,
        jax.ShapeDtypeStruct((config.batch_size,), jnp.int32),
    )
    compiled = loop.compile_method(method, target, everywhere)
    what = f"{config.method}: {config.target} with {len(pairs)} pairs"
    more = {"pairs": pairs, "source_layers": layers}
    devices.on_first_process(lambda: runs.begin(config, splits, everywhere, what, **more))
    rate = loop.cosine(config.lr, config.epochs)
    result = runs.train(config, compiled, source_variables, splits, rate)
    devices.on_first_process(lambda: finish(config, pairs, layers, result))
    return 0


def finish(config: Config, pairs: list[Pair], layers: list[str], result: loop.Result) -> None:
    """Writes the target's weights, the result and the pictures, and prints the result."""
    folder = config.folder()
    runs.finish(folder / "target.safetensors", result)
    if "pair_weights" in result.epochs[0].train:
        title = f"{config.method}: {' + '.join(config.source)} → {config.target}"
        draw(folder, pairs, layers, result, title)


def draw(
    folder: Path, pairs: list[Pair], layers: list[str], result: loop.Result, title: str
) -> None:
    """Writes the pictures of a run with pair weights."""
    history = np.array([epoch.train["pair_weights"] for epoch in result.epochs])
    epochs = [epoch.epoch for epoch in result.epochs]
    names = dict(enumerate(layers))
    plots.lambda_matrices(folder / "lambda.png", pairs, history, epochs, title, names)
    plots.matching_diagram(folder / "matching.png", pairs, history[-1], title, names)


if __name__ == "__main__":
    sys.exit(cli.run(main, Config, prog="experiments.train"))
