"""The derivative of other people's optimisers, where they have one and where they have none."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from oracles import dot, finite_difference, random_like

import l2t_jax
from l2t_jax import baselines, unroll
from l2t_jax.finite_derivatives import finite_derivatives
from l2t_jax.optimizers import apply_gradient

pytestmark = [pytest.mark.usefixtures("quickly_compiled"), pytest.mark.slow]

MODES = {
    "reverse": l2t_jax.reverse_meta_gradient,
    "mixed": l2t_jax.mixed_meta_gradient,
    "low-memory": l2t_jax.low_memory_meta_gradient,
}
RNG = np.random.default_rng(0)
X, Y = np.hstack([RNG.standard_normal((6, 3)), np.ones((6, 1))]), RNG.standard_normal((6, 2))
FIRST = {
    "a": RNG.standard_normal((4, 4)),  # the last row is a bias
    "b": RNG.standard_normal((4, 2)),
    "idle": RNG.standard_normal(2),
}
DEAD = np.zeros((4, 4))
DEAD[3, 1] = -100


def errors(params):
    """Of each sample; the last layer sees ReLUs, and "idle" is seen by nobody."""
    x, y = X.astype(params["a"].dtype), Y.astype(params["a"].dtype)
    return jnp.mean(jnp.square(jax.nn.relu(x @ params["a"]) @ params["b"] - y), axis=1)


def weighted(params, weights):
    return jnp.mean(weights * errors(params))


def plain(params, weights):
    del weights
    return jnp.mean(errors(params))


def outer(params, weights):
    """Looks at all parameters, at dead and idle ones too."""
    everything = sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(params))
    return plain(params, weights) + 0.1 * everything


def only_matrices(tree):
    return jax.tree.map(lambda leaf: leaf.ndim == 2, tree)


def frozen(tree):
    return {name: "frozen" if name == "a" else "free" for name in tree}


ADAM = optax.adam(0.01)
OPTIMIZERS = {
    "momentum": optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1, 0.9)),
    "nesterov, schedule": optax.sgd(optax.cosine_decay_schedule(0.1, 9), 0.9, nesterov=True),
    # Else optax rounds β₂ = 0.999 to the parameters' bfloat16, which is 1, and divides by 0.
    "injected": optax.inject_hyperparams(optax.adam, hyperparam_dtype=jnp.float32)(
        learning_rate=0.01
    ),
    "clip_by_global_norm": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, 0.9)),
    "adaptive_grad_clip": optax.chain(optax.adaptive_grad_clip(0.1), optax.sgd(0.1, 0.9)),
    "clip_by_block_rms": optax.chain(optax.clip_by_block_rms(1.0), optax.sgd(0.1, 0.9)),
    "adam": ADAM,
    "adamw, masked": optax.adamw(0.01, mask=only_matrices),
    "nadam": optax.nadam(0.01),
    "rmsprop": optax.rmsprop(0.01, momentum=0.9, centered=True),
    "adagrad": optax.adagrad(0.1),
    "adabelief": optax.adabelief(0.01),
    "novograd": optax.novograd(0.01),
    "lamb": optax.lamb(0.01),
    "lars": optax.lars(0.1, weight_decay=0.01),
    "sm3": optax.sm3(0.1),
    "adafactor": optax.adafactor(0.01),
    "lion": optax.lion(0.01),
    # Adam's first step hardly depends on how long its gradient is, unless eps is large: the
    # meta-gradient would be 1e-9, of which float32 has no right digit.
    "MultiSteps": optax.MultiSteps(optax.adam(0.01, eps=0.1), 2).gradient_transformation(),
    "averaged": optax.chain(ADAM, optax.ema(0.9)),
    "multi_transform": optax.multi_transform({"free": ADAM, "frozen": optax.set_to_zero()}, frozen),
}
FIT = {jnp.float32: 2e-3, jnp.bfloat16: 0.25}


@pytest.mark.parametrize("dtype", FIT, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_in_every_mode(name, dtype):
    """Ordinary parameters, a dead unit, and all weights 0: no NaN, and modes that agree."""
    optimizer = OPTIMIZERS[name]

    @jax.jit
    def gradients(params, weights):
        gradient = jax.grad(plain)(params, weights)  # one real step, as l2t takes
        params, state = apply_gradient(optimizer, gradient, optimizer.init(params), params)
        losses = [weighted, plain]
        found = [mode(outer, losses, optimizer, params, state, weights) for mode in MODES.values()]
        return params, found

    for dead, weight in ((False, 1), (True, 1), (False, 0)):
        first = FIRST | {"a": FIRST["a"] + dead * DEAD}
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), first)
        weights = jnp.asarray(weight * np.linspace(0.5, 2, 6), dtype)
        after, found = jax.tree.map(np.float32, gradients(params, weights))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, found)))
        (value, reverse), *others = found
        scale = max(np.abs(reverse).max(), 1e-6)
        for other, gradient in others:
            np.testing.assert_allclose(other, value, rtol=FIT[dtype])
            assert np.abs(gradient - reverse).max() <= FIT[dtype] * scale


def found_by(optimizer, losses, weights, steps_before):
    """The outer loss, and the meta-gradients of all modes, in one program of float64."""
    params = jax.tree.map(jnp.asarray, FIRST | {"a": FIRST["a"] + DEAD})
    params, state = unroll([plain] * steps_before, optimizer, params, optimizer.init(params), ())

    @jax.jit
    def found(weights):
        end, _ = unroll(losses, optimizer, params, state, weights)
        gradients = [
            mode(outer, losses, optimizer, params, state, weights)[1] for mode in MODES.values()
        ]
        return outer(end, weights), gradients

    return found


@pytest.mark.parametrize(
    ("name", "weight", "steps_before", "step"),
    [
        ("clip_by_global_norm", 0.0, 1, 1e-6),
        ("adaptive_grad_clip", 0.0, 1, 1e-6),
        ("clip_by_block_rms", 0.0, 1, 1e-6),
        ("adam", 1.0, 1, 1e-6),
        ("rmsprop", 1.0, 1, 1e-6),
        # At its very start Adam's update is g / (|g| + 1e-8), of slope 1e8: a smaller difference.
        ("adam", 0.0, 0, 1e-14),
    ],
)
def test_the_derivative_at_zero_is_that_of_finite_differences(name, weight, steps_before, step):
    """A norm of zero, and the roots of zeros of a dead unit, among others that are not zero."""
    weights = jnp.full(6, weight)
    found = found_by(OPTIMIZERS[name], [weighted], weights, steps_before)
    _, gradients = found(weights)
    direction = random_like(weights, 3)
    numeric = finite_difference(lambda weights: found(weights)[0], weights, direction, step)
    for gradient in gradients:
        assert dot(gradient, direction) == pytest.approx(numeric, rel=1e-5)


def test_clipping_leaves_a_zero_gradient_to_sgd():
    weights, momentum = jnp.zeros(6), optax.sgd(0.1, momentum=0.9)
    clipped = optax.chain(optax.clip_by_global_norm(1e9), momentum)
    losses = [weighted, plain]
    (_, expected), (_, found) = (
        found_by(optimizer, losses, weights, 1)(weights) for optimizer in (momentum, clipped)
    )
    for gradient in found:
        np.testing.assert_allclose(gradient, expected[0], rtol=1e-10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_values_are_those_of_optax_to_the_bit(name):
    """Within a compiled program; outside of one the same operations may be fused otherwise."""
    optimizer = OPTIMIZERS[name]

    def plainly(gradient, state, params):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    def two_steps(step):
        params = jax.tree.map(jnp.asarray, FIRST | {"a": FIRST["a"] + DEAD})
        state = optimizer.init(params)
        for _ in range(2):
            params, state = step(jax.grad(plain)(params, ()), state, params)
        return params, state

    ours, theirs = jax.jit(partial(apply_gradient, optimizer)), jax.jit(plainly)
    chex.assert_trees_all_equal(two_steps(ours), two_steps(theirs))


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1),
        OPTIMIZERS["momentum"],
        OPTIMIZERS["nesterov, schedule"],
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
    ],
)
def test_sgd_is_the_same_program(optimizer):
    """What has a derivative everywhere pays nothing."""

    def plainly(gradient, state, params):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.asarray, FIRST)
    given = params, optimizer.init(params), params
    ours = jax.make_jaxpr(lambda *given: apply_gradient(optimizer, *given))(*given)
    assert str(ours) == str(jax.make_jaxpr(plainly)(*given))


def in_a_scan(x):
    return jax.lax.scan(lambda total, part: (total + jnp.sqrt(part), ()), 0.0, x)[0]


@pytest.mark.parametrize(
    "function",
    [
        jnp.linalg.norm,
        lambda x: jnp.sum(jnp.where(x == 0, 0.0, x * jax.lax.rsqrt(x))),
        lambda x: jnp.sum(jnp.where(x == 0, 0.0, x / jnp.sum(jnp.abs(x)))),
        lambda x: jnp.sum(x**0.5 + jnp.cbrt(x) + x * jnp.where(x == 0, 0.0, jnp.log(x))),
        in_a_scan,
        lambda x: jax.lax.cond(jnp.sum(x) > 9, jnp.sum, in_a_scan, x),
        jax.jit(jax.checkpoint(lambda x: jnp.sqrt(x @ x))),
    ],
)
def test_slopes_are_zero_where_they_are_not_finite(function):
    """First derivatives and second ones, in both modes; elsewhere they are what they were."""
    ours = finite_derivatives(function)
    zero, point, direction = jnp.zeros(3), jnp.array([1.0, 2.0, 0.5]), jnp.array([1.0, -2.0, 3.0])

    def forward(f):
        return lambda x: jax.jvp(f, (x,), (direction,))[1]

    def reverse(f):
        return lambda x: jax.grad(f)(x) @ direction

    assert not np.isfinite(reverse(function)(zero))
    for one in (forward, reverse):
        assert one(ours)(zero) == 0
        assert one(ours)(point) == pytest.approx(float(one(function)(point)), rel=1e-12)
        for two in (forward, reverse):
            assert two(one(ours))(zero) == 0
            expected = float(two(one(function))(point))
            assert two(one(ours))(point) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mode", MODES.values())
def test_what_is_nan_stays_nan(mode):
    """A loss that is no number in the last step, and an infinite outer loss."""
    params = jax.tree.map(jnp.asarray, FIRST)
    weights, state = jnp.ones(6), ADAM.init(params)

    def broken(params, weights):
        return weighted(params, weights) * jnp.nan

    value, gradient = mode(outer, [weighted, broken], ADAM, params, state, weights)
    assert np.isnan(value)
    assert np.isnan(gradient).all()
    value, _ = mode(lambda p, w: outer(p, w) + jnp.inf, [weighted], ADAM, params, state, weights)
    assert np.isposinf(value)


@pytest.mark.parametrize("mode", MODES)
def test_a_step_of_l2t_with_all_pairs_off_and_a_part_that_never_moves(mode):
    """Norms and roots of zeros in every virtual step: no meta-gradient, and nothing is NaN."""
    network = small.network((4, 3))

    def init(key, images):
        variables = network.init(key, images)
        return variables._replace(params={"net": variables.params, "idle": jnp.ones(2)})

    def apply(variables, images, *, train):
        variables = variables._replace(params=variables.params["net"])
        return network.apply(variables, images, train=train)

    for optimizer in (OPTIMIZERS["clip_by_global_norm"], ADAM):
        method = l2t_jax.l2t(
            network,
            l2t_jax.Network(init, apply),
            [(0, 1)],
            where=l2t_jax.affine_pairs(bias_init=-20.0),
            optimizer=optimizer,
            meta_optimizer=ADAM,
            unroll_steps=1,
            meta_gradient=MODES[mode],
        )
        variables = network.init(jax.random.key(0), small.batch(0).images)
        state = method.init(jax.random.key(1), variables, small.batch(0))
        step = jax.jit(method.step)
        for seed in (1, 2):
            state, info = step(state, variables, small.batch(seed))
            assert float(info.meta_gradient_norm) == 0.0
            assert np.isfinite(info.outer_loss)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        np.testing.assert_array_equal(state.inner.params["idle"], 1.0)


WANTING = {
    "polyak_sgd": (optax.polyak_sgd(1.0), "'value'"),
    "lbfgs": (optax.lbfgs(), "'value_fn'"),
    "chain": (optax.chain(optax.scale(2.0), optax.contrib.reduce_on_plateau()), "'value'"),
    "sophia": (optax.contrib.sophia(0.1), "obj_fn"),
}


@pytest.mark.parametrize("name", WANTING)
def test_what_wants_more_than_gradients_is_told_when_the_method_is_built(name):
    optimizer, what = WANTING[name]
    network = small.network((4, 3))
    sgd = optax.sgd(0.1)
    with pytest.raises(ValueError, match=rf"`optimizer`.*{what}"):
        l2t_jax.l2t(network, network, [(0, 0)], optimizer=optimizer, meta_optimizer=sgd)
    with pytest.raises(ValueError, match=rf"`meta_optimizer`.*{what}"):
        l2t_jax.l2t(network, network, [(0, 0)], optimizer=sgd, meta_optimizer=optimizer)
    with pytest.raises(ValueError, match=rf"`optimizer`.*{what}"):
        baselines.scratch(network, optimizer=optimizer)
    with pytest.raises(ValueError, match=rf"`optimizer`.*{what}"):
        baselines.with_penalties(network, network, {}, optimizer=optimizer)


def test_an_optimizer_made_for_certain_parameters_is_taken():
    labels = {"layers": ["free", "frozen"], "head": "free"}
    by_label = {"free": optax.sgd(0.1), "frozen": optax.set_to_zero()}
    optimizer = optax.multi_transform(by_label, l2t_jax.Inner(labels, {}))
    method = baselines.scratch(small.network((4, 3)), optimizer=optimizer)
    state = method.init(jax.random.key(0), None, small.batch(0))
    after, _ = jax.jit(method.step)(state, None, small.batch(0))
    (free, frozen), (free_after, frozen_after) = (
        part.inner.params["layers"] for part in (state, after)
    )
    assert not np.allclose(free, free_after)
    np.testing.assert_array_equal(frozen, frozen_after)
