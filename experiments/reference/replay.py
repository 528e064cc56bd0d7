"""Replays a record of the published implementation with the library's public functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

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
    pytorch,
    softmax_channels,
)
from l2t_jax.models import cifar_resnet, imagenet_resnet, vgg
from l2t_jax.pairs import check_pairs
from l2t_jax.pytorch import from_torch, to_torch

from ..options.builders import decayed_adam, decayed_sgd
from . import records

Named = dict[str, np.ndarray]

KNOWN = {
    "small": "resnetN with N = 6n+2, vggN and vggN_bn with N = 9, 11, 13, 16, 19",
    "large": "resnetN with N = 18, 34, 50, 101, 152",
}


class Replay(NamedTuple):
    """A record's networks and the state before its first iteration."""

    source: Network
    target: Network
    source_variables: Variables
    state: State
    step: Callable[..., Any]


def build(config: records.Config, checkpoint: Path | None) -> Replay:
    """Builds a record's networks, parameters and step."""
    source = _network(config.source, config.family, config.source_classes)
    target = _network(config.target, config.family, config.num_classes)
    images = jax.ShapeDtypeStruct((config.batch, config.size, config.size, 3), jnp.float64)

    def variables(prefix: str, network: Network) -> Variables:
        like = jax.eval_shape(network.init, jax.random.key(0), images)
        return from_torch(records.draw_all(prefix, _shapes(like), config.seed), like)

    if config.source_weights == "recipe":
        source_variables = variables("source", source)
    elif checkpoint is None:
        raise ValueError("the record needs trained source weights (got none); give --checkpoint")
    else:
        like = jax.eval_shape(source.init, jax.random.key(0), images)
        state_dict = pytorch.find_state_dict(pytorch.read(checkpoint.read_bytes()))
        source_variables = from_torch(state_dict, like)
    target_variables = variables("target", target)
    optimizer = decayed_sgd(config.lr, config.momentum, config.wd)
    meta_optimizer = optax.chain(record_gradient(), decayed_adam(config.meta_lr, config.meta_wd))
    source_features = output_shapes(source, source_variables, images).features
    target_features = output_shapes(target, target_variables, images).features
    check_pairs(config.pairs, source_features, target_features)
    draw = lambda name, *shape: jnp.asarray(records.draw(name, shape, config.seed))  # noqa: E731
    projections: list[Projection] = []
    what: list[Affine] = []
    where: list[Affine] = []
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
        jnp.zeros((), jnp.int32),
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
    if family == "small" and (match := re.fullmatch(r"resnet(\d+)", name)):
        return cifar_resnet(int(match[1]), classes)
    # Dropout cannot be replayed, so records were made without it.
    if family == "small" and (match := re.fullmatch(r"vgg(\d+)(_bn)?", name)):
        return vgg(int(match[1]), classes, batch_norm=bool(match[2]), dropout_rate=0.0)
    if family == "large" and (match := re.fullmatch(r"resnet(\d+)", name)):
        return imagenet_resnet(int(match[1]), classes)
    raise ValueError(f"a network of the {family} family must be {KNOWN[family]} (got {name!r})")


def _shapes(like: Variables) -> dict[str, tuple[int, ...]]:
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(0.0, leaf.shape), like)
    return {name: array.shape for name, array in to_torch(zeros).items()}


def record_gradient() -> optax.GradientTransformation:
    """An optax transformation that changes nothing. Its state is the last gradient."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda updates, state, params=None: (updates, updates),
    )


class Figures(NamedTuple):
    """A record's figures, computed again.

    Attributes:
      arrays: whole arrays, by the record's keys.
      probes: for each key with one row a parameter, the rows by parameter name.
      shapes: shapes of the ``target`` and the ``meta`` parameters by name, in PyTorch's layout.
      initial_meta: the meta-parameters before the first iteration, by name.
    """

    arrays: Named
    probes: dict[str, Named]
    shapes: dict[str, dict[str, tuple[int, ...]]]
    initial_meta: Named


def replay(config: records.Config, checkpoint: Path | None) -> Figures:
    """Computes all figures of a record with the library's public functions.

    Args:
      config: the record's settings.
      checkpoint: the source's trained weights, if the record was made with them.

    Returns:
      The figures.

    Raises:
      ValueError: a network is unknown, or pairs or weights are missing or do not fit.
      OSError: the weights cannot be read.
    """
    run = build(config, checkpoint)
    state = run.state
    arrays: Named = {}
    rows: dict[str, Named] = {}
    total, outer = [], []
    for iteration, (images, labels) in enumerate(records.batches(config)):
        batch = Batch(jnp.asarray(images), jnp.asarray(labels))
        if iteration == 0:
            arrays = forward_figures(run, batch, config)
        state, info = run.step(state, run.source_variables, batch)
        total.append(info.loss)
        outer.append(info.outer_loss)
        if iteration == 0:
            gradient = named_meta(state.meta_opt_state[0])
            rows["after_update"] = probes(named_inner(state.inner))
            rows["meta_grad_probe"] = probes(gradient)
            arrays |= {f"meta_grad/{name}": tensor for name, tensor in gradient.items()}
    meta = named_meta(state.meta_params)
    rows["target_after"] = probes(named_inner(state.inner))
    rows["meta_param_probe"] = probes(meta)
    arrays |= {f"meta_param/{name}": tensor for name, tensor in meta.items()}
    arrays |= {"total_loss": np.array(total), "outer_loss": np.array(outer)}
    owners = {"target": named_inner(state.inner), "meta": meta}
    shapes = {
        owner: {name: t.shape for name, t in named.items()} for owner, named in owners.items()
    }
    return Figures(arrays, rows, shapes, named_meta(run.state.meta_params))


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


def probes(named: Named) -> Named:
    """The probe of every tensor."""
    return {name: records.probe(name, tensor) for name, tensor in named.items()}
