"""Replays records of the published implementation in float64 and compares every figure."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from tyro.conf import arg

from experiments import cli, records
from experiments.zoo import network
from l2t_jax import (
    Affine,
    Batch,
    Inner,
    MetaParams,
    Network,
    Outputs,
    Projection,
    State,
    Variables,
    affine_pairs,
    channel_errors,
    cross_entropy,
    error_weights,
    l2t,
    output_shapes,
    pair_losses,
    pool,
    softmax_channels,
)
from l2t_jax.models import cifar_resnet, from_torch, to_torch, torch_formats, torch_names, vgg

TOLERANCE = 1e-8

Named = dict[str, np.ndarray]


@dataclass(frozen=True)
class Options:
    """Replay records of the published code in float64; exit 0 only if every figure agrees."""

    #: Record files (.npz).
    records: Annotated[tuple[Path, ...], tyro.conf.Positional, arg(metavar="RECORD.npz")]
    #: The source network's trained weights, for records that were made with them.
    checkpoint: Annotated[Path | None, arg(metavar="FILE")] = None


class Replay(NamedTuple):
    """A record's networks and the state before its first iteration."""

    source: Network
    target: Network
    source_variables: Variables
    state: State
    step: Callable[..., Any]


def build(config: records.Config, checkpoint: Path | None) -> Replay:
    """Networks, parameters and step of a record."""
    source = _network(config.source, config.family, config.source_classes)
    target = _network(config.target, config.family, config.num_classes)
    images = jax.ShapeDtypeStruct((config.batch, config.size, config.size, 3), jnp.float64)

    def variables(prefix: str, network: Network) -> Variables:
        like = jax.eval_shape(network.init, jax.random.key(0), images)
        return from_torch(records.draw_all(prefix, _shapes(like), config.seed), like)

    if config.source_weights == "recipe":
        source_variables = variables("source", source)
    elif checkpoint is None:
        raise ValueError("the record was made with trained source weights; wanted --checkpoint")
    else:
        like = jax.eval_shape(source.init, jax.random.key(0), images)
        state_dict = torch_formats.find_state_dict(torch_formats.read(checkpoint.read_bytes()))
        source_variables = from_torch(state_dict, like)
    target_variables = variables("target", target)
    optimizer = optax.chain(
        optax.add_decayed_weights(config.wd), optax.sgd(config.lr, config.momentum)
    )
    meta_optimizer = optax.chain(
        record_gradient(), optax.add_decayed_weights(config.meta_wd), optax.adam(config.meta_lr)
    )
    source_features = output_shapes(source, source_variables, images).features
    target_features = output_shapes(target, target_variables, images).features
    draw = lambda name, *shape: jnp.asarray(records.draw(name, shape, config.seed))  # noqa: E731
    projections, what, where = [], [], []
    for i, (m, n) in enumerate(config.pairs):
        outputs, inputs = source_features[m].shape[-1], target_features[n].shape[-1]
        kernel = draw(f"branch.{i}.weight", outputs, inputs, 1, 1)[:, :, 0, 0].T
        projections.append(Projection(kernel, draw(f"branch.{i}.bias", outputs)))
        for layers, prefix, width in ((what, "wnet", outputs), (where, "lwnet", 1)):
            kernel = draw(f"{prefix}.{i}.weight", width, outputs).T
            layers.append(Affine(kernel, draw(f"{prefix}.{i}.bias", width)))
    inner = Inner(target_variables.params, tuple(projections))
    meta_params = MetaParams(tuple(what), tuple(where))
    state = State(
        inner,
        target_variables.model_state,
        optimizer.init(inner),
        meta_params,
        meta_optimizer.init(meta_params),
    )
    method = l2t(
        source,
        target,
        config.pairs,
        optimizer=optimizer,
        meta_optimizer=meta_optimizer,
        beta=config.beta,
        unroll_steps=config.T,
    )
    return Replay(source, target, source_variables, state, jax.jit(method.step))


def _network(name: str, family: str, classes: int) -> Network:
    # Dropout cannot be replayed: records of networks that have it were made without.
    if match := re.fullmatch(r"vgg(\d+)(_bn)?", name):
        return vgg(int(match[1]), classes, batch_norm=bool(match[2]), dropout_rate=0.0)
    if family == "small" and (match := re.fullmatch(r"resnet(\d+)", name)):
        return cifar_resnet(int(match[1]), classes)
    return network(name, classes)


def _shapes(like: Variables) -> dict[str, tuple[int, ...]]:
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(0.0, leaf.shape), like)
    return {name: array.shape for name, array in to_torch(zeros).items()}


def record_gradient() -> optax.GradientTransformation:
    """An optax transformation that changes nothing and whose state is the last gradient."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda updates, state, params=None: (updates, updates),
    )


def replay(config: records.Config, checkpoint: Path | None) -> Named:
    """All figures of a record, computed anew through the library's public functions."""
    run = build(config, checkpoint)
    state, figures = run.state, {}
    initial_meta = named_meta(state.meta_params)
    total, outer = [], []
    for iteration, (images, labels) in enumerate(records.batches(config)):
        batch = Batch(jnp.asarray(images), jnp.asarray(labels))
        if iteration == 0:
            figures |= forward_figures(run, batch, config)
        state, info = run.step(state, run.source_variables, batch)
        total.append(info.loss)
        outer.append(info.outer_loss)
        if iteration == 0:
            figures["after_update"] = probes(named_inner(state.inner))
            gradient = named_meta(state.meta_opt_state[0])
            figures["meta_grad_probe"] = probes(gradient)
            figures |= {f"meta_grad/{name}": g for name, g in gradient.items()}
    meta = named_meta(state.meta_params)
    figures["total_loss"], figures["outer_loss"] = np.array(total), np.array(outer)
    figures["target_after"] = probes(named_inner(state.inner))
    figures["meta_param_probe"] = probes(meta)
    figures |= {f"meta_param/{name}": value for name, value in meta.items()}
    figures |= {f"initial/{name}": value for name, value in initial_meta.items()}
    return figures


def forward_figures(run: Replay, batch: Batch, config: records.Config) -> Named:
    """Figures of the first batch before any update."""

    @jax.jit
    def forward(state: State, batch: Batch) -> tuple[Outputs, Outputs, Any, Any, Any]:
        source = run.source.apply(run.source_variables, batch.images, train=False)
        variables = Variables(state.inner.params, state.model_state)
        target = run.target.apply(variables, batch.images, train=True)
        what, where = softmax_channels(), affine_pairs()
        pooled = pool(source.features)
        channels = what.apply(state.meta_params.what, [pooled[m] for m, _ in config.pairs])
        weights, pair_weights = error_weights(
            what, where, state.meta_params, source.features, config.pairs
        )
        errors = channel_errors(state.inner.extra, source.features, target.features, config.pairs)
        return source, target, channels, pair_weights, pair_losses(errors, weights)

    source, target, channels, pair_weights, losses = forward(run.state, batch)
    figures = {
        "source_logits": source.logits,
        "target_logits": target.logits,
        "per_pair_matching_loss": losses,
        "matching_loss_times_beta": config.beta * losses.sum(),
        "cross_entropy": cross_entropy(target.logits, batch.labels),
    }
    for side, outputs in (("source", source), ("target", target)):
        figures[f"{side}_feature_means"] = jnp.stack([f.mean() for f in outputs.features])
        figures[f"{side}_feature_stds"] = jnp.stack([f.std() for f in outputs.features])
    for i, weights in enumerate(channels):
        figures[f"channel_weights/{i}"] = weights
        figures[f"pair_weights/{i}"] = pair_weights[:, i]
    return {key: np.asarray(value) for key, value in figures.items()}


def named_inner(inner: Inner) -> Named:
    """The inner parameters by published name, in PyTorch's layout."""
    target = to_torch(Variables(inner.params, {}))
    named = {f"target.{name}": value for name, value in target.items()}
    for i, projection in enumerate(inner.extra):
        named[f"branch.{i}.weight"] = np.asarray(projection.kernel).T[:, :, None, None]
        named[f"branch.{i}.bias"] = np.asarray(projection.bias)
    return named


def named_meta(meta_params: MetaParams) -> Named:
    """Meta-parameters, or their gradient, by published name, in PyTorch's layout."""
    named = {}
    for prefix, layers in (("wnet", meta_params.what), ("lwnet", meta_params.where)):
        for i, layer in enumerate(layers):
            named[f"{prefix}.{i}.weight"] = np.asarray(layer.kernel).T
            named[f"{prefix}.{i}.bias"] = np.asarray(layer.bias)
    return named


def probes(named: Named) -> dict[str, np.ndarray]:
    return {name: records.probe(name, tensor) for name, tensor in named.items()}


class Line(NamedTuple):
    """One quantity's comparison."""

    quantity: str
    figures: int
    error: float
    worst: str


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest ``|ours - theirs| / |theirs|``, absolute where theirs is exactly zero.

    Figures below a millionth of their tensor's largest are measured against that millionth:
    rounding in float64 is relative to the terms that were summed, not to what is left of them.
    """
    floor = 1e-6 * np.max(np.abs(theirs), initial=0.0)
    scale = np.where(theirs == 0, 1.0, np.maximum(np.abs(theirs), floor))
    error = np.abs(ours - theirs) / scale
    return float(np.max(np.where(np.isfinite(error), error, np.inf), initial=0.0))


def compare(record: records.Record, ours: Named) -> list[Line]:
    """Compares every figure of a record with ours.

    Args:
      record: the record.
      ours: figures as from `replay`.

    Returns:
      One `Line` a quantity.

    Raises:
      ValueError: the record misses a figure, or holds one that nothing here computes.
    """
    figures = dict(record.figures)
    expected: Named = {}
    initial = {}
    for key, value in ours.items():
        if isinstance(value, dict):
            list_name = "target" if key in ("after_update", "target_after") else "meta"
            names = [str(name) for name in figures.get(f"{list_name}_names", ())]
            kept = [i for i, name in enumerate(names) if not records.UNUSED.fullmatch(name)]
            if wrong := sorted(set(value).symmetric_difference(names[i] for i in kept)):
                raise ValueError(f"{list_name}_names and our parameters differ in {wrong[:8]}")
            expected[key] = np.array([value[names[i]] for i in kept])
            if key in figures:
                figures[key] = figures[key][kept]
        elif key.startswith("initial/"):
            initial[key.removeprefix("initial/")] = value
        # Meta-tensors of more than 5000 elements are recorded as probes only.
        elif key.split("/")[0] not in ("meta_grad", "meta_param") or value.size <= 5000:
            expected[key] = value
    labels = {"target_names", "target_shapes", "meta_names", "meta_shapes"}
    if missing := sorted((set(expected) | labels) - set(figures)):
        raise ValueError(f"the record has no {', '.join(missing)}")
    if unknown := sorted(set(figures) - set(expected) - labels):
        raise ValueError(f"the record holds figures unknown here: {', '.join(unknown)}")

    compared: dict[str, list[tuple[str, float, int]]] = {}

    def add(quantity: str, key: str, mine: np.ndarray, theirs: np.ndarray) -> None:
        if mine.shape != theirs.shape:
            raise ValueError(f"{key} has shape {theirs.shape}; wanted {mine.shape}")
        error = relative_error(mine, theirs)
        compared.setdefault(quantity, []).append((key, error, theirs.size))

    for key, mine in expected.items():
        theirs = np.asarray(figures[key], np.float64)
        quantity, _, name = key.partition("/")
        add(quantity, key, mine, theirs)
        if quantity == "meta_param":  # barely moves: its change says more than its value
            add("meta_param_change", key, mine - initial[name], theirs - initial[name])
    lines = []
    for quantity, entries in compared.items():
        worst = max(entries, key=lambda entry: entry[1])
        lines.append(Line(quantity, sum(e[2] for e in entries), worst[1], worst[0]))
    return lines


def main(options: Options) -> int:
    """Replays every record and prints one line a quantity."""
    jax.config.update("jax_enable_x64", True)
    failed = False
    for path in options.records:
        record = records.load(path)
        try:
            lines = compare(record, replay(record.config, options.checkpoint))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        for line in lines:
            ok = line.error <= TOLERANCE
            failed |= not ok
            print(
                f"{path.name}  {line.quantity:<26}{line.figures:>8} figures  "
                f"largest error {line.error:.1e}  {'ok' if ok else f'FAILED at {line.worst}'}"
            )
    print("parity: some figures differ" if failed else "parity: all figures agree")
    return int(failed)


if __name__ == "__main__":
    sys.exit(cli.run(main, Options, prog="experiments.parity"))
