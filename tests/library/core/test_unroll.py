"""Meta-gradients against a closed case, finite differences and each other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles import dot, finite_difference, random_like

from l2t_jax import (
    finite_difference_meta_gradient,
    low_memory_meta_gradient,
    mixed_meta_gradient,
    reverse_meta_gradient,
    unroll,
)

pytestmark = pytest.mark.usefixtures("quickly_compiled")

MODES = [
    reverse_meta_gradient,
    mixed_meta_gradient,
    low_memory_meta_gradient,
    partial(low_memory_meta_gradient, stored=1),
]
OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum and decay": optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1, 0.9)),
    "nesterov": optax.sgd(0.1, 0.9, nesterov=True),
    "adam": optax.adam(0.05, eps_root=1e-8),
    "adamw": optax.adamw(0.05, eps_root=1e-8, weight_decay=0.1),
    "schedule": optax.sgd(optax.cosine_decay_schedule(0.2, 10), 0.5),
    "injected": optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9),
    "clipped": optax.chain(optax.clip_by_global_norm(0.3), optax.sgd(0.1, 0.9)),
}


def regression():
    """A two-layer network fitted to weighted samples; the weights are the meta-parameters."""
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.standard_normal((6, 4))), jnp.asarray(rng.standard_normal((6, 2)))
    params = {
        "a": jnp.asarray(rng.standard_normal((4, 5))),
        "b": jnp.asarray(rng.standard_normal((5, 2))),
        "idle": jnp.asarray(rng.standard_normal(3)),
    }
    meta = {"samples": jnp.asarray(rng.uniform(0.5, 2, 6)), "decay": jnp.asarray(0.3)}

    def errors(params):
        return jnp.mean(jnp.square(jnp.tanh(x @ params["a"]) @ params["b"] - y), axis=1)

    def weighted(params, meta):
        penalty = jnp.square(meta["decay"]) * jnp.sum(jnp.square(params["b"]))
        return jnp.sum(meta["samples"] * errors(params)) + penalty

    def plain(params, meta):
        del meta
        return jnp.mean(errors(params))

    def outer(params, meta):
        return plain(params, meta) + 0.1 * jnp.sum(meta["samples"]) * jnp.sum(params["idle"])

    return params, meta, [weighted, weighted, plain], outer


@pytest.mark.parametrize("mode", MODES)
def test_closed_case(mode):
    """Figures of the published code's own check; ∂outer/∂λ with momentum and coupled decay."""
    params = (jnp.array([1.0, 3.0]), jnp.array([[-1.0, -2.0], [1.0, 0.0]]))

    def inner(params, weights):
        return jnp.mean(jnp.square(params[0])) + jnp.sum(weights * jnp.square(params[1]))

    def outer(params, weights):
        del weights
        return jnp.mean(params[0] * params[1])

    optimizer = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1, 0.9))
    state = optimizer.init(params)
    _, gradient = mode(outer, [inner] * 10, optimizer, params, state, jnp.zeros((2, 2)))
    np.testing.assert_allclose(gradient, [[-1.1952, -7.1712], [1.1952, 0.0]], atol=5e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("jit", [False, True])
def test_modes_agree_with_each_other_and_with_finite_differences(name, jit):
    params, meta, losses, outer = regression()
    optimizer = OPTIMIZERS[name]
    # A state that has seen a step: a fresh momentum would hide errors.
    params, state = unroll(losses[:1], optimizer, params, optimizer.init(params), meta)

    def value(meta):
        return outer(unroll(losses, optimizer, params, state, meta)[0], meta)

    results = []
    for mode in MODES:
        call = lambda meta, mode=mode: mode(outer, losses, optimizer, params, state, meta)  # noqa: E731
        results.append((jax.jit(call) if jit else call)(meta))
    (_, reverse), *others = results
    for result in others:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
            (value(meta), reverse),
            result,
        )
    direction = random_like(meta, 1)
    numeric = finite_difference(value, meta, direction)
    assert dot(reverse, direction) == pytest.approx(numeric, rel=1e-6)


def test_parameters_without_a_gradient_still_decay_and_keep_their_momentum():
    params, meta, losses, _ = regression()
    optimizer = OPTIMIZERS["momentum and decay"]
    end, _ = unroll(losses[:2], optimizer, params, optimizer.init(params), meta)
    idle = np.asarray(params["idle"])
    first = 0.01 * idle
    second = 0.9 * first + 0.01 * (idle - 0.1 * first)
    np.testing.assert_allclose(end["idle"], idle - 0.1 * (first + second), rtol=1e-14)


@pytest.mark.parametrize("mode", MODES)
def test_no_steps_leave_the_outer_loss_as_it_is(mode):
    params, meta, _, outer = regression()
    optimizer = OPTIMIZERS["sgd"]
    value, gradient = mode(outer, [], optimizer, params, optimizer.init(params), meta)
    np.testing.assert_allclose(value, outer(params, meta))
    np.testing.assert_allclose(gradient["samples"], 0.1 * np.sum(params["idle"]), rtol=1e-14)
    np.testing.assert_allclose(gradient["decay"], 0.0)


def temporaries(mode, steps, optimizer, width, rows):
    """Bytes of a meta-gradient through steps of a network of six layers, by the compiler."""
    params = [jax.ShapeDtypeStruct((width, width), jnp.float64)] * 6
    inputs, meta = jax.ShapeDtypeStruct((rows, width), jnp.float64), jnp.ones(())

    def gradient(params, opt_state, inputs):
        def loss(params, meta):
            activations = inputs
            for matrix in params:
                activations = jnp.tanh(activations @ matrix)
            return meta * jnp.mean(jnp.square(activations))

        return mode(loss, [loss] * steps, optimizer, params, opt_state, meta)

    opt_state = jax.eval_shape(optimizer.init, params)
    program = jax.jit(gradient).lower(params, opt_state, inputs).compile()
    return program.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("mode", [*MODES, finite_difference_meta_gradient])
def test_losses_may_come_from_an_iterator_and_leaves_may_be_empty(mode):
    """A generator can be gone through once; a layer may have no parameters, another a number."""
    params = {"a": 2.0, "z": jnp.zeros((0, 3))}

    def inner(params, meta):
        return meta * params["a"] ** 2 + jnp.sum(params["z"])

    def outer(params, meta):
        del meta
        return params["a"]

    optimizer = optax.sgd(0.1)
    given = optimizer, params, optimizer.init(params), jnp.array(0.5)
    value, gradient = mode(outer, (inner for _ in range(2)), *given)
    # a (1 - 0.2 meta)², whose slope is -0.4 a (1 - 0.2 meta)
    assert float(value) == pytest.approx(1.62)
    assert float(gradient) == pytest.approx(-0.72, rel=1e-3)


@pytest.mark.parametrize("stored", [1, 3])
def test_an_optimizer_may_change_the_type_of_its_state(stored):
    """A float32 constant in it makes the momentum of bfloat16 parameters float32."""
    decay = optax.add_decayed_weights(jnp.float32(0.01))
    optimizer = optax.chain(decay, optax.sgd(0.1, momentum=0.9))
    params, meta = jnp.ones(3, jnp.bfloat16), jnp.arange(3.0, dtype=jnp.float32)
    given = (
        lambda params, meta: jnp.sum(params.astype(jnp.float32) ** 2),
        [lambda params, meta: jnp.sum(meta * jnp.exp(params.astype(jnp.float32)))] * 5,
        optimizer, params, optimizer.init(params), meta,
    )  # fmt: skip
    found, expected = low_memory_meta_gradient(*given, stored=stored), mixed_meta_gradient(*given)
    np.testing.assert_allclose(found[1], expected[1], rtol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [optax.sgd(0.1, momentum=0.9), optax.adam(0.1, eps_root=1e-8)]
)
def test_low_memory_has_one_bound_for_any_number_of_steps(optimizer):
    """Three states are kept, and one step's activations exist."""
    few, many = (
        temporaries(low_memory_meta_gradient, steps, optimizer, width=16, rows=4096)
        for steps in (3, 9)
    )
    assert many < 1.05 * few
    assert many < 0.5 * temporaries(mixed_meta_gradient, 9, optimizer, width=16, rows=4096)


@pytest.mark.slow
def test_low_memory_does_not_keep_what_it_takes_anew():
    """Where states are all there is: three kept ones, one taken anew, and what works on them."""
    optimizer = optax.sgd(0.1, momentum=0.9)
    few, many = (
        temporaries(low_memory_meta_gradient, steps, optimizer, width=64, rows=8)
        for steps in (9, 24)
    )
    assert many < 1.02 * few
    assert many < 5 * 2 * 6 * 64 * 64 * 8
