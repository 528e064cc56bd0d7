"""Derivative rules that are no derivatives, such as gradient reversal."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from oracles import dot, finite_difference, random_like

import l2t_jax
from l2t_jax import Network, adjoint
from l2t_jax._jaxprs import equations, has_handwritten_rules

pytestmark = [pytest.mark.usefixtures("quickly_compiled"), pytest.mark.slow]

MODES = [
    l2t_jax.reverse_meta_gradient,
    l2t_jax.mixed_meta_gradient,
    l2t_jax.low_memory_meta_gradient,
    partial(l2t_jax.low_memory_meta_gradient, stored=1),
]


def by_vjp(forward, backward):
    """A function with a backward pass of its own, ``backward(x, cotangent)``."""
    function = jax.custom_vjp(forward)
    function.defvjp(lambda x: (forward(x), x), lambda x, bar: (backward(x, bar),))
    return function


def by_jvp(forward, tangent):
    """The same by a tangent of its own."""
    function = jax.custom_jvp(forward)
    function.defjvp(lambda x, t: (forward(x[0]), tangent(x[0], t[0])))
    return function


def by_jvps():
    function = jax.custom_jvp(jnp.cos)
    function.defjvps(lambda t, ans, x: 3 * t)
    return function


def around_relu():
    function = jax.custom_jvp(jax.nn.relu)
    function.defjvps(lambda t, ans, x: -t * jnp.sin(x))
    return function


reversal = by_vjp(lambda x: x, lambda x, bar: -bar)


def in_a_scan(x):
    return jax.lax.scan(lambda carry, row: (carry, reversal(row)), 0.0, x)[1]


def in_a_branch(x):
    return jax.lax.cond(jnp.sum(x) < 1e9, reversal, lambda x: x, x)


RULES = {
    "reversal": reversal,
    "straight-through rounding": by_vjp(lambda x: jnp.round(x), lambda x, bar: bar),
    "scaled": by_vjp(jnp.tanh, lambda x, bar: 0.3 * bar),
    "clipped": by_vjp(lambda x: x, lambda x, bar: jnp.clip(bar, -0.05, 0.05)),
    "of the value": by_vjp(jnp.sin, lambda x, bar: bar * jnp.square(x)),
    "custom_gradient": jax.custom_gradient(lambda x: (x, lambda bar: -2 * bar)),
    "custom_jvp": by_jvp(lambda x: x, lambda x, t: -t),
    "defjvps": by_jvps(),
    "defjvps around JAX's": around_relu(),
    "optax": lambda x: optax.scale_gradient(x, 0.5),
    "linear_call": lambda x: jax.custom_derivatives.linear_call(
        lambda _, x: x, lambda _, bar: -bar, (), x
    ),
    "in jit": jax.jit(reversal),
    "in checkpoint": jax.checkpoint(reversal),
    "in vmap": jax.vmap(reversal),
    "in scan": in_a_scan,
    "in cond": in_a_branch,
}
# Whose value has the rule again when it is differentiated once more: no difference shows that.
AGAIN = ("defjvps", "defjvps around JAX's", "optax", "linear_call")


def problem(rule):
    """Two layers with the rule between them; every sample's weight is a meta-parameter."""
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.standard_normal((6, 4))), jnp.asarray(rng.standard_normal((6, 2)))
    params = random_like({"a": jnp.zeros((4, 5)), "b": jnp.zeros((5, 2))}, 1)
    weights = jnp.asarray(rng.uniform(0.5, 2, 6))

    def loss(params, weights):
        hidden = rule(2 * jnp.tanh(x @ params["a"]))
        errors = jnp.mean(jnp.square(jnp.tanh(hidden @ params["b"]) - y), axis=1)
        return jnp.mean(weights * errors) + 0.1 * jnp.mean(weights) * jnp.sum(params["b"] ** 2)

    def outer(params, weights):
        return jnp.mean(jnp.square(jnp.tanh(x @ params["a"]) @ params["b"] - y)) + weights[0]

    return params, weights, [loss] * 3, outer


@pytest.mark.parametrize("name", RULES)
def test_all_modes_give_the_derivative_of_what_is_done(name):
    params, weights, losses, outer = problem(RULES[name])
    optimizer = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.2, 0.9))
    state = optimizer.init(params)

    @jax.jit
    def found(weights):
        end, _ = l2t_jax.unroll(losses, optimizer, params, state, weights)
        of_modes = [mode(outer, losses, optimizer, params, state, weights) for mode in MODES]
        return outer(end, weights), of_modes

    _, ((_, reverse), *others) = found(weights)
    for _, gradient in others:
        np.testing.assert_allclose(gradient, reverse, rtol=1e-10, atol=1e-14)
    if name in AGAIN:
        return
    direction = random_like(weights, 2)
    numeric = finite_difference(lambda weights: found(weights)[0], weights, direction)
    assert dot(reverse, direction) == pytest.approx(numeric, rel=1e-6)


def test_the_rule_matters():
    """By the symmetry that it breaks, the sweep would be wrong by more than rounding."""
    params, weights, losses, outer = problem(reversal)
    sgd = optax.sgd(0.2)
    _, right = MODES[0](outer, losses, sgd, params, sgd.init(params), weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adjoint, "has_handwritten_rules", lambda *args: False)
        _, wrong = MODES[1](outer, losses, sgd, params, sgd.init(params), weights)
    assert np.abs(wrong - right).max() > 0.01 * np.abs(right).max()


def with_rule(network, rule, checkpoint=False):
    """A network whose feature maps pass the rule; logits come from them as before."""

    def apply(variables, images, *, train):
        def run(variables, images):
            outputs = network.apply(variables, images, train=train)
            return outputs._replace(features=tuple(rule(f) for f in outputs.features))

        return (jax.checkpoint(run) if checkpoint else run)(variables, images)

    return Network(network.init, apply)


def methods(target):
    """l2t in every mode; its first step is a real step of length 0, so that it can be varied."""
    keep = optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda updates, state, params=None: (jax.tree.map(jnp.zeros_like, updates), updates),
    )
    rate = optax.sgd(lambda count: jnp.where(count == 0, 0.0, 0.5))
    source = small.network((4, 3), classes=4)
    options = {"optimizer": rate, "meta_optimizer": keep}
    pairs = [(0, 1), (1, 0)]
    made = [l2t_jax.l2t(source, target, pairs, meta_gradient=mode, **options) for mode in MODES]
    variables = source.init(jax.random.key(0), small.batch(0).images)
    state = made[0].init(jax.random.key(1), variables, small.batch(0))
    draw = random_like(state.meta_params, 2)
    moved = jax.tree.map(lambda p, d: p + 0.1 * d, state.meta_params, draw)
    return made, variables, state._replace(meta_params=moved)


@pytest.mark.parametrize("name", ["reversal", "clipped", "custom_jvp"])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_step_of_l2t_in_all_modes(name, checkpoint):
    target = with_rule(small.network((6, 4)), RULES[name], checkpoint)
    made, variables, state = methods(target)
    batch, outer = small.batch(3), small.batch(4)

    @jax.jit
    def found(meta_params):
        before = state._replace(meta_params=meta_params)
        return [method.step(before, variables, batch, outer) for method in made]

    (reverse, _), *others = found(state.meta_params)
    for after, _ in others:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13),
            after.meta_opt_state,
            reverse.meta_opt_state,
        )
    direction = random_like(state.meta_params, 5)
    numeric = finite_difference(
        lambda meta: found(meta)[0][1].outer_loss, state.meta_params, direction, 1e-5
    )
    assert dot(reverse.meta_opt_state, direction) == pytest.approx(numeric, rel=1e-5)


def test_checkpoint_around_the_network_changes_nothing():
    plain = small.network((6, 4))
    made, variables, state = methods(plain)
    wrapped, _, _ = methods(with_rule(plain, lambda x: x, checkpoint=True))
    batch = small.batch(3)
    steps = jax.jit(lambda: [method.step(state, variables, batch) for method in (*made, *wrapped)])
    first, *others = steps()
    for other in others:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13), other, first
        )


def count(function, *args):
    return sum(1 for _ in equations(jax.make_jaxpr(function)(*args).jaxpr))


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize(
    "activation", [jax.nn.relu, jax.nn.relu6, jax.nn.gelu, jax.nn.silu, jax.nn.softmax]
)
def test_without_such_rules_nothing_is_paid(mode, activation):
    """The same equations as by the symmetry alone; rules of JAX itself are derivatives."""
    params, weights, losses, outer = problem(activation)
    sgd = optax.sgd(0.1, 0.9)

    def gradient(params, weights):
        return mode(outer, losses, sgd, params, sgd.init(params), weights)

    found = count(gradient, params, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adjoint, "has_handwritten_rules", lambda *args: False)
        assert found == count(gradient, params, weights)
    assert not has_handwritten_rules(losses[0], params, weights)


def test_a_rule_in_the_outer_loss_alone_leaves_the_sweep_as_it_is():
    params, weights, losses, outer = problem(jnp.tanh)

    def ruled(params, weights):
        return outer(jax.tree.map(reversal, params), weights)

    sgd = optax.sgd(0.2)
    arguments = (losses, sgd, params, sgd.init(params), weights)
    (_, reverse), *others = [mode(ruled, *arguments) for mode in MODES]
    for _, gradient in others:
        np.testing.assert_allclose(gradient, reverse, rtol=1e-10, atol=1e-14)
