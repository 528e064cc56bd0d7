"""Whether the meta-gradient tells a source that helps from one that does not, by its horizon.

    PYTHONPATH=. python docs/studies/horizon.py HELPS HELPS_NOT TRAIN.npz HELD_OUT.npz

Two ResNet-32 sources with standard channels → VGG-9 with batch norm of a quarter of its width, all
30 pairs of stage ends and target layers. The target is trained as `fm` trains it, with every λ at 1
(N = 50, batch 32, lr 0.01, β = 2). At a few points on the way the exact gradient of the outer loss
by λ is taken for six batches, through T virtual matching steps and one on the task's loss.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import l2t_jax
from experiments.data.preprocess import normalise, pad_crop_flip
from experiments.networks import zoo
from l2t_jax import Batch, Inner, Variables
from l2t_jax.models import vgg
from l2t_jax.optimizers import apply_gradient

POINTS, HORIZONS, BATCHES, BETA = (48, 160), (2, 8, 20), 6, 2.0
PAIRS = l2t_jax.all_pairs((4, 9, 14, 19, 24, 29), range(5))
HELPS = np.arange(len(PAIRS)) < len(PAIRS) // 2
SGD = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.01, momentum=0.9))
TARGET = vgg(9, classes=10, width=16)


def losses(inner: Inner, weights: Any, state: Any, features: Any, batch: Batch) -> Any:
    """The task's loss, the matching loss, and the new model state."""
    outputs = TARGET.apply(Variables(inner.params, state), batch.images, train=True)
    errors = l2t_jax.channel_errors(inner.extra, features, outputs.features, PAIRS)
    by_pair = jnp.stack([jnp.mean(error) for error in errors])
    return l2t_jax.cross_entropy(outputs.logits, batch.labels), by_pair @ weights, outputs


def task(inner: Inner, state: Any, batch: Batch) -> jax.Array:
    outputs = TARGET.apply(Variables(inner.params, state), batch.images, train=True)
    return l2t_jax.cross_entropy(outputs.logits, batch.labels)


@jax.jit
def real_step(inner: Inner, opt_state: Any, state: Any, features: Any, batch: Batch) -> Any:
    def total(inner: Inner) -> Any:
        loss, matching, outputs = losses(inner, jnp.ones(len(PAIRS)), state, features, batch)
        return loss + BETA * matching, outputs.model_state

    gradient, state = jax.grad(total, has_aux=True)(inner)
    return *apply_gradient(SGD, gradient, opt_state, inner), state


def matching_step(inner, opt_state, weights, state, features, batch):
    gradient = jax.grad(lambda inner: BETA * losses(inner, weights, state, features, batch)[1])
    return apply_gradient(SGD, gradient(inner), opt_state, inner)


# One program for a step, and one for its adjoint: an unroll of 20 would take long to compile.
forwards = jax.jit(matching_step)


@jax.jit
def backwards(inner, opt_state, weights, state, features, batch, cotangents):
    def step(inner, opt_state, weights):
        return matching_step(inner, opt_state, weights, state, features, batch)

    return jax.vjp(step, inner, opt_state, weights)[1](cotangents)


@jax.jit
def end(inner, opt_state, state, batch, outer):
    """The gradient of the outer loss, after one step on the task's loss, by what comes before."""

    def loss(inner, opt_state):
        gradient = jax.grad(task)(inner, state, batch)
        return task(apply_gradient(SGD, gradient, opt_state, inner)[0], state, outer)

    return jax.grad(loss, argnums=(0, 1))(inner, opt_state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs=4)
    helps, helps_not, train, held_out = parser.parse_args().files
    two = [zoo.load("resnet32", path, (32, 32, 3)) for path in (helps, helps_not)]
    source = l2t_jax.concatenate([network for network, _ in two])
    variables = l2t_jax.join_variables([each for _, each in two])
    data, held = np.load(train), np.load(held_out)
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(np.flatnonzero(data["labels"] == c))[:50] for c in range(10)]
    rows = np.concatenate(chosen)
    images, labels = data["images"][rows], data["labels"][rows].astype(np.int32)

    # The variables are arguments: as constants they would be folded, which takes minutes.
    as_is = jax.jit(lambda variables, x: source.apply(variables, x, train=False).features)

    features = as_is(variables, normalise(jnp.asarray(images)))
    moments = [jnp.mean(x, (0, 1, 2)) for x in features], [jnp.std(x, (0, 1, 2)) for x in features]
    standard = l2t_jax.with_standard_features(source, *moments)
    seen = jax.jit(lambda variables, x: standard.apply(variables, x, train=False).features)
    see = partial(seen, variables)

    def batch(indices, seed, images=images, labels=labels) -> Batch:
        seen = pad_crop_flip(jax.random.key(seed), jnp.asarray(images[indices]))
        return Batch(normalise(seen), jnp.asarray(labels[indices], jnp.int32))

    first = TARGET.init(jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
    shapes = l2t_jax.output_shapes(TARGET, first, jnp.zeros((2, 32, 32, 3))).features
    features = see(jnp.zeros((2, 32, 32, 3)))
    projections = l2t_jax.init_projections(jax.random.key(1), PAIRS, features, shapes)
    inner, state = Inner(first.params, projections), first.model_state
    opt_state, ones = SGD.init(inner), jnp.ones(len(PAIRS))
    print("| step | T | outer batch | helps | helps not | told apart (t) | noise / mean |")
    print("|---:|---:|---|---:|---:|---:|---:|")
    for number in range(max(POINTS) + 1):
        if number in POINTS:
            report(number, inner, opt_state, state, see, batch, held, ones)
        if number % 16 == 0:
            order = np.resize(rng.permutation(500), 512)
        step = batch(order[32 * (number % 16) :][:32], number)
        inner, opt_state, state = real_step(inner, opt_state, state, see(step.images), step)


def report(number, inner, opt_state, state, see, batch, held, ones) -> None:
    """Prints the gradients at a point: sums over the pairs of each source, and their noise."""
    found: dict[tuple[int, str], list[np.ndarray]] = {}
    for draw in range(BATCHES):
        order = np.random.default_rng(1000 + draw).permutation(500)
        some = np.random.default_rng(draw).permutation(len(held["labels"]))[:128]
        here = batch(order[:32], 7000 + draw)
        outers = {
            "other": batch(order[32:160], 8000 + draw),
            "held-out": batch(some, 9000 + draw, held["images"], held["labels"]),
        }
        features = see(here.images)
        way = [(inner, opt_state)]
        for _ in range(max(HORIZONS)):
            way.append(forwards(*way[-1], ones, state, features, here))
        for steps in HORIZONS:
            for name, outer in outers.items():
                cotangents, total = end(*way[steps], state, here, outer), 0
                for before in reversed(way[:steps]):
                    *back, weights = backwards(*before, ones, state, features, here, cotangents)
                    cotangents, total = tuple(back), total + weights
                found.setdefault((steps, name), []).append(np.asarray(total))
    for (steps, name), gradients in sorted(found.items()):
        each = np.array(gradients)
        sums = each[:, HELPS].sum(axis=1), each[:, ~HELPS].sum(axis=1)
        apart = sums[1] - sums[0]
        t = apart.mean() / (apart.std(ddof=1) / len(apart) ** 0.5)
        mean = each.mean(axis=0)
        noise = np.mean(np.linalg.norm(each - mean, axis=1)) / np.linalg.norm(mean)
        print(
            f"| {number} | {steps} | {name} | {1e3 * sums[0].mean():.1f} | "
            f"{1e3 * sums[1].mean():.1f} | {t:.1f} | {noise:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
