"""Train a target network with the help of source networks."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from l2t_jax import (
    Batch,
    MetaNetwork,
    Network,
    Outputs,
    Variables,
    output_shapes,
    with_standard_features,
)
from l2t_jax.pairs import Pair

from .data.batches import steps_per_epoch
from .data.load import short_name
from .networks import sources, zoo
from .networks.layer_pairs import choose_pairs
from .options import cli
from .options.builders import Parts
from .options.train_options import Config
from .reporting import transfer_plots
from .runs import (
    found_weights,
    further_batches,
    inputs,
    layout,
    recorded_training,
    run,
    source_weights,
    tracking,
    trained_network,
)
from .system import devices
from .training import feature_statistics, jitted, learned_weights, loop, probe, schedules


def main(config: Config) -> int:
    """Trains as configured, and writes config, metrics, weights and pictures to the run folder."""
    for name in (config.target, *config.source):
        zoo.find(name, config.precision)  # before all else, for a mistyped name
    if run.is_done(config):
        return 0
    if unused := config.without_effect():
        print(f"--method {config.method} with these options does not use {', '.join(unused)}")
    weights = source_weights.find(config)
    everywhere, splits = run.prepare(config)
    entry = config.entry()
    if entry.build is None:
        return probed(config, weights, everywhere, splits)
    # Images that are held out for the outer loss are among the run's images all the same.
    used, further = further_batches.take(config, splits, everywhere)
    steps = config.epochs * steps_per_epoch(len(used.train.labels), config.batch_size)
    if entry.learns and config.meta_from >= steps:
        run.warn([f"no meta-step: --meta-from is {config.meta_from} of {steps} steps"])
    size = splits.train.image_shape
    target = zoo.network(config.target, len(splits.train.classes), config.precision)
    images = jax.ShapeDtypeStruct((config.batch_size, *size), jnp.float32)
    variables = jax.eval_shape(target.init, jax.random.key(0), images)
    target_outputs = output_shapes(target, variables, images)
    pairs: list[Pair] = []
    layers: list[str] = []
    parts = Parts(None, target, class_weights=balance(config, used))
    if entry.sources == "none":
        method, source_variables = entry.build(config, parts), None
    else:
        source = sources.load(config.source, weights.files, images, config.precision)
        if config.matches_layers():
            pairs = choose_pairs(config.pairs_or_default(), source.outputs, target_outputs)
        parts = parts._replace(source=source.network, pairs=pairs, source_classes=source.classes)
        if config.weights_from is not None:
            parts = found_weights.fixed(parts, config, weights.sha256)
            pairs = list(parts.pairs)
        if config.source_scale == "standard":
            source = standardised(source, used, everywhere)
            parts = parts._replace(source=source.network)
        method = entry.build(config, parts)
        source_variables, layers = source.variables, source.layers
    # Parts that do not fit together end the command before anything is written.
    jax.eval_shape(
        lambda variables, images, labels: method.init(
            jax.random.key(0), variables, Batch(images, labels)
        ),
        source_variables,
        images,
        jax.ShapeDtypeStruct((config.batch_size,), jnp.int32),
    )
    compiled = jitted.compile_method(method, target, everywhere, drop=config.skip_nonfinite > 0)
    what = f"{config.method}: {config.target}"
    what += f" from {' and '.join(config.source)}" if config.source_weights else ""
    what += f", {len(pairs)} pairs" if pairs else ""
    if "unlabelled" in further:
        what += f", {len(further['unlabelled'].images.labels)} unlabelled images"
    if config.method == "finetune" and source.classes == (len(splits.train.classes),):
        what += " with its classifier, since both have as many classes"
    more = {
        "matched_pairs": pairs,
        "source_layers": layers,
        **weights.recorded(),
        **further_batches.recorded(further),
        **found_weights.recorded(config),
    }
    rate = schedules.cosine(config.lr, config.epochs, config.warmup_epochs)
    trained = trained_network.describe(config.target, layout.TARGET, config, splits)
    with (
        run.opened(config, splits, everywhere, trained, what, **more),
        tracking.opened(config, pairs, more) as tracked,
    ):
        result = recorded_training.train(
            config, compiled, source_variables, used, rate, further=further, tracked=tracked
        )
        if entry.meta_networks is not None:
            record_transfer(
                config, entry.meta_networks(config), source, pairs, result, splits, everywhere
            )
            devices.on_first_process(lambda: draw(config, pairs, layers, result))
            tracked.pictures([config.folder() / name for name in (layout.LAMBDA, layout.MATCHING)])
        done = config, trained, result, splits, everywhere
        devices.on_first_process(lambda: run.finish(*done))
    return 0


def balance(config: Config, splits: inputs.Splits) -> np.ndarray | None:
    """Weights with which every class counts alike, 1 on average over the training images.

    None if every image is to count alike.
    """
    if config.class_weights == "equal":
        return None
    counts = np.bincount(splits.train.labels, minlength=len(splits.train.classes))
    return len(splits.train.labels) / (len(counts) * counts)


def probed(
    config: Config,
    weights: source_weights.Weights,
    everywhere: devices.Devices,
    splits: inputs.Splits,
) -> int:
    """Fits a new classifier of the source, in a run like any other."""
    (name,), (path,) = config.source, weights.files
    _, variables = zoo.load(name, path, splits.train.image_shape, config.precision)
    make, what = zoo.find(name, config.precision), f"{config.method}: {name}"
    trained = trained_network.describe(name, layout.TARGET, config, splits)
    more: dict[str, Any] = {
        "matched_pairs": [],
        "source_layers": [],
        **weights.recorded(),
    }
    with (
        run.opened(config, splits, everywhere, trained, what, **more),
        tracking.opened(config, more=more) as tracked,
    ):
        parts = (splits.train, splits.validation, splits.test)
        compiled = probe.compile_probe(make, splits.train.image_shape, everywhere)
        result = probe.train(compiled, variables, parts)
        devices.on_first_process(
            lambda: recorded_training.write_metrics(config.folder(), result.epochs, "w")
        )
        tracked.epochs(result.epochs)
        tracked.test_accuracy(result.test_accuracy)
        done = config, trained, result, splits, everywhere
        devices.on_first_process(lambda: run.finish(*done))
    return 0


def standardised(
    source: sources.Sources, splits: inputs.Splits, everywhere: devices.Devices
) -> sources.Sources:
    """Sources whose channels have mean 0 and deviation 1 over the training images."""
    network, variables = source.network, source.variables
    found = feature_statistics.measure(network, variables, splits.train, everywhere)

    # The statistics are variables, not constants: one program serves runs on other images too.
    def apply(variables: Variables, images: Array, *, train: bool) -> Outputs:
        params, statistics = variables.params
        standard = with_standard_features(network, *statistics)
        return standard.apply(Variables(params, variables.model_state), images, train=train)

    return source._replace(
        network=Network(network.init, apply),
        variables=Variables((variables.params, tuple(found)), variables.model_state),
    )


def record_transfer(
    config: Config,
    networks: tuple[MetaNetwork, MetaNetwork],
    source: sources.Sources,
    pairs: list[Pair],
    result: loop.Result,
    splits: inputs.Splits,
    everywhere: devices.Devices,
) -> None:
    """Writes the mean weights that the meta-networks give to channels and pairs at the end."""
    means = learned_weights.mean_weights(
        source.network,
        source.variables,
        *networks,
        result.state.meta_params,
        pairs,
        splits.train,
        everywhere,
    )
    path = config.folder() / layout.CHANNEL_WEIGHTS
    devices.on_first_process(lambda: learned_weights.write(path, means))


def draw(config: Config, pairs: list[Pair], layers: list[str], result: loop.Result) -> None:
    """Writes the pictures of a run's pair weights."""
    title = f"{config.method} on {config.task or short_name(config.data)}, seed {config.seed}"
    history = np.array([epoch.train["pair_weights"] for epoch in result.epochs])
    epochs = [epoch.epoch for epoch in result.epochs]
    names, folder = transfer_plots.Names(dict(enumerate(layers)), config.target), config.folder()
    transfer_plots.lambda_matrices(folder / layout.LAMBDA, pairs, history, epochs, title, names)
    transfer_plots.matching_diagram(folder / layout.MATCHING, pairs, history, title, names)
    print(f"{config.method}: {transfer_plots.moved(history)}")


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Config, prog="l2t train", args=words)


if __name__ == "__main__":
    sys.exit(command())
