"""The library's differentiable functions, with inputs: what test_transformations.py goes through.

Usage: python tests/helpers/surface.py

checks, on two simulated devices, that each gives the same with its samples split over both.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import small

import l2t_jax
from l2t_jax import Batch, Projection, baselines
from l2t_jax.models import cifar_resnet

PAIRS = ((0, 0), (0, 1), (1, 1))
LABELS = np.array([0, 2, 1, 2])  # of jnp, it would begin with JAX's devices
SGD = optax.sgd(0.1, momentum=0.9)


class Case(NamedTuple):
    """A function of what all samples share and of what belongs to each, ``[B, ...]``."""

    function: Callable[[Any, Any], Any]
    shared: Any
    samples: Any
    order: int = 2  # of the derivatives that are checked


def draw(seed: int, *shapes: tuple[int, ...]) -> list[jax.Array]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


def cases() -> dict[str, Case]:
    """All of them, by name."""
    source = draw(0, (4, 4, 2, 3), (4, 2, 2, 2))
    target = draw(1, (4, 3, 3, 2), (4, 2, 4, 3))
    kernels = zip(draw(2, (2, 3), (3, 3), (3, 2)), draw(3, (3,), (3,), (2,)), strict=True)
    projections = [Projection(*parts) for parts in kernels]
    weights = draw(4, (4, 3), (4, 3), (4, 2))
    errors = [jnp.square(w) for w in draw(5, (4, 3), (4, 3), (4, 2))]
    what, where = l2t_jax.softmax_channels(), l2t_jax.affine_pairs(jax.nn.sigmoid)
    pooled = [source[m].mean((1, 2)) for m, _ in PAIRS]
    key = jax.random.key(0)
    meta_params = l2t_jax.MetaParams(what.init(key, pooled), where.init(key, pooled))
    # Away from zero, where all channels count alike.
    noise = draw(6, *(leaf.shape for leaf in jax.tree.leaves(meta_params)))
    meta_params = jax.tree.unflatten(jax.tree.structure(meta_params), noise)

    def whole_loss(shared, samples):
        projections, beta, meta_params = shared
        source, target = samples
        weights, _ = l2t_jax.error_weights(what, where, meta_params, source, PAIRS)
        found = l2t_jax.channel_errors(projections, source, target, PAIRS)
        return beta * l2t_jax.matching_loss(found, weights)

    def inner(x):
        return lambda params, meta: jnp.mean(
            jax.nn.sigmoid(x @ meta) * jnp.square(jnp.tanh(x @ params))
        )

    def two_steps(shared, x):
        params, meta = shared
        return l2t_jax.unroll([inner(x)] * 2, SGD, params, SGD.init(params), meta)

    def meta_gradient(compute):
        def function(shared, x):
            params, meta = shared
            outer = lambda params, meta: jnp.mean(jnp.square(jnp.sin(x @ params)))  # noqa: E731
            return compute(outer, [inner(x)] * 2, SGD, params, SGD.init(params), meta)

        return function

    networks = small.network((4, 3), classes=4), small.network((3, 2))
    batch = small.batch(0, size=4)
    variables = networks[0].init(key, batch.images)

    def method(beta):
        return l2t_jax.l2t(
            *networks, PAIRS, beta=beta, optimizer=SGD, meta_optimizer=optax.sgd(0.1), where=where
        )

    state = method(0.5).init(key, variables, batch)

    def one_step(shared, images):
        beta, inner, meta_params = shared
        before = state._replace(inner=inner, meta_params=meta_params)
        after, info = method(beta).step(before, variables, Batch(images, batch.labels))
        return after.inner, info.loss

    vectors = draw(7, (3,), (3,))
    (logits, others), (images,) = draw(8, (4, 3), (4, 3)), draw(9, (4, 6, 2))
    return {
        "resize": Case(lambda _, x: l2t_jax.resize(x, (3, 5)), (), source[0]),
        "project": Case(l2t_jax.project, projections[0], target[0]),
        "channel_errors": Case(
            lambda p, maps: l2t_jax.channel_errors(p, *maps, PAIRS), projections, (source, target)
        ),
        "matching_loss": Case(lambda _, x: l2t_jax.matching_loss(*x), (), (errors, weights)),
        "pair_losses": Case(lambda _, x: l2t_jax.pair_losses(*x), (), (errors, weights)),
        "combine_weights": Case(
            lambda _, x: l2t_jax.combine_weights(*x), (), (weights, draw(10, (4, 3))[0])
        ),
        "error_weights": Case(
            lambda p, maps: l2t_jax.error_weights(what, where, p, maps, PAIRS), meta_params, source
        ),
        "β · matching_loss of all": Case(
            whole_loss, (projections, jnp.array(0.7), meta_params), (source, target)
        ),
        "tokens_to_map": Case(
            lambda _, x: l2t_jax.tokens_to_map(x, prefix=2, grid=(2, 2)), (), images
        ),
        "cross_entropy": Case(
            lambda _, x: l2t_jax.cross_entropy(x, jnp.asarray(LABELS)), (), logits
        ),
        "attention_loss": Case(
            lambda _, x: baselines.attention_loss(*x, PAIRS), (), (source, target)
        ),
        "distillation_loss": Case(
            lambda _, x: baselines.distillation_loss(*x), (), (logits, others)
        ),
        "unroll": Case(two_steps, vectors, logits),
        "reverse_meta_gradient": Case(
            meta_gradient(l2t_jax.reverse_meta_gradient), vectors, logits
        ),
        "mixed_meta_gradient": Case(meta_gradient(l2t_jax.mixed_meta_gradient), vectors, logits),
        "low_memory_meta_gradient": Case(
            meta_gradient(l2t_jax.low_memory_meta_gradient), vectors, logits
        ),
        "finite_difference_meta_gradient": Case(
            meta_gradient(l2t_jax.finite_difference_meta_gradient), vectors, logits
        ),
        "l2t.step": Case(
            one_step, (jnp.array(0.5), state.inner, state.meta_params), batch.images, order=1
        ),
    }


def main() -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.NamedSharding(mesh, jax.P("batch"))
    whole = jax.NamedSharding(mesh, jax.P())
    for name, case in cases().items():
        samples = jax.device_put(case.samples, split)
        shared = jax.device_put(case.shared, whole)
        expected = jax.jit(case.function)(case.shared, case.samples)
        for a, b in zip(
            jax.tree.leaves(jax.jit(case.function)(shared, samples)),
            jax.tree.leaves(expected),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13, err_msg=name)
        print(name)
    mapped(mesh)


def mapped(mesh: jax.sharding.Mesh) -> None:
    """Checks the gradient through what is mapped over the devices: it is that of all samples."""
    source, target, kernel, images = draw(3, (4, 4, 4, 3), (4, 8, 8, 5), (5, 3), (4, 8, 8, 3))
    network = cifar_resnet(8, classes=3)
    variables = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64), network.init(jax.random.key(0), images)
    )

    def loss(shared: Any, samples: Any) -> jax.Array:
        (projection, params), (source, target, images) = shared, samples
        (errors,) = l2t_jax.channel_errors([projection], [source], [target], [(0, 0)])
        outputs = network.apply(variables._replace(params=params), images, train=False)
        return jnp.mean(errors) + jnp.mean(jnp.square(outputs.logits))

    shared = Projection(kernel, kernel[0]), variables.params
    samples = source, target, images
    over_devices = jax.shard_map(
        lambda shared, samples: jax.lax.pmean(loss(shared, samples), "batch"),
        mesh=mesh,
        in_specs=(jax.P(), jax.P("batch")),
        out_specs=jax.P(),
    )
    found, expected = (jax.jit(jax.grad(each))(shared, samples) for each in (over_devices, loss))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    print("mapped over devices")


if __name__ == "__main__":
    main()
