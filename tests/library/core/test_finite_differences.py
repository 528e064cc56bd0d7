"""The approximate meta-gradient: its error falls with the step as it must, down to rounding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_unroll import OPTIMIZERS, regression

from l2t_jax import (
    finite_difference_meta_gradient,
    mixed_meta_gradient,
    reverse_meta_gradient,
    unroll,
)


def error(found, exact) -> float:
    difference = optax.tree.norm(jax.tree.map(jnp.subtract, found, exact))
    return float(difference / optax.tree.norm(exact))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_error_is_of_first_order_or_of_second_if_central(name):
    params, meta, losses, outer = regression()
    optimizer = OPTIMIZERS[name]
    params, state = unroll(losses[:1], optimizer, params, optimizer.init(params), meta)
    given = outer, losses, optimizer, params, state, meta
    value, exact = reverse_meta_gradient(*given)
    for central, order in ((False, 1), (True, 2)):
        mode = partial(finite_difference_meta_gradient, central=central)
        errors = []
        for step in (1e-2, 1e-3):
            same, found = mode(*given, step=step)
            assert float(same) == pytest.approx(float(value), rel=1e-12)
            errors.append(error(found, exact))
        assert errors[1] < 0.02
        # Below that, rounding over the step is what is left.
        assert errors[1] < 1e-9 or errors[0] / errors[1] == pytest.approx(10**order, rel=0.3)


def test_of_a_quadratic_loss_central_differences_are_exact():
    """Also where the parameters are 0, or nothing flows back."""
    rng = np.random.default_rng(0)
    matrix, target = jnp.asarray(rng.standard_normal((5, 4))), jnp.asarray(rng.standard_normal(5))

    def inner(params, meta):
        return jnp.sum(jnp.exp(meta) * jnp.square(matrix @ params["w"] - target))

    optimizer, meta = optax.sgd(0.01, momentum=0.9), jnp.asarray(rng.standard_normal(5))
    params = {"w": jnp.zeros(4), "idle": jnp.zeros(2)}
    for outer in (lambda params, meta: jnp.sum(params["w"] ** 3), lambda params, meta: meta @ meta):
        given = outer, [inner] * 3, optimizer, params, optimizer.init(params), meta
        _, exact = reverse_meta_gradient(*given)
        _, found = jax.jit(
            partial(finite_difference_meta_gradient, *given[:3], central=True, step=0.1)
        )(*given[3:])
        np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-12)


def test_it_sees_the_kink_that_the_exact_derivative_misses():
    """φ |θ − 1| just before its kink: over the difference the slope is −1, then 1, on average 0."""

    def inner(params, meta):
        return meta * jnp.abs(params - 1.0)

    def outer(params, meta):
        del meta
        return -params

    params, meta, optimizer = jnp.array(1.0 - 5e-4), jnp.array(2.0), optax.sgd(1.0)
    given = outer, [inner], optimizer, params, optimizer.init(params), meta
    assert float(reverse_meta_gradient(*given)[1]) == -1.0
    assert float(finite_difference_meta_gradient(*given, step=1e-3)[1]) == pytest.approx(
        0, abs=1e-3
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1.0, 1e18, 1e25])
def test_the_scale_of_a_loss_makes_no_difference(scale):
    """Although the squares of its gradient cannot be represented."""
    optimizer, params = optax.sgd(0.1), jnp.array([1.0, -2.0, 3.0], jnp.float32)
    given = [lambda params, meta: jnp.sum(meta * params**2)], optimizer, params
    given += optimizer.init(params), jnp.array([0.1, 0.2, 0.3], jnp.float32)
    _, found = finite_difference_meta_gradient(
        lambda params, meta: scale * jnp.sum(params**2), *given, central=True
    )
    _, expected = mixed_meta_gradient(lambda params, meta: jnp.sum(params**2), *given)
    np.testing.assert_allclose(found / scale, expected, rtol=1e-3)


def test_parameters_may_be_tiny():
    """Those of float32 whose squares are zero; the loss changes over as short lengths."""
    optimizer, params = optax.sgd(0.1), jnp.full(3, 1e-25, jnp.float32)
    given = [lambda params, meta: jnp.sum(meta * params)], optimizer, params
    given += optimizer.init(params), jnp.array([1e-25, 2e-25, 3e-25], jnp.float32)

    def outer(params, meta):
        return jnp.sum(params / 1e-25)

    _, found = finite_difference_meta_gradient(outer, *given)
    np.testing.assert_allclose(found, mixed_meta_gradient(outer, *given)[1], rtol=1e-2)


def test_what_cannot_be_is_refused():
    loss, optimizer = (lambda params, meta: meta * params**2), optax.sgd(0.1)
    params, meta = jnp.array(1.0), jnp.array(1.0)
    call = partial(finite_difference_meta_gradient, loss, [loss], optimizer)
    with pytest.raises(ValueError, match=r"step must be above 0 .*got 0"):
        call(params, optimizer.init(params), meta, step=0.0)
    narrow = params.astype(jnp.bfloat16)
    with pytest.raises(ValueError, match=r"float32 or wider .*got bfloat16"):
        call(narrow, optimizer.init(narrow), meta)
    with pytest.raises(ValueError, match=r"meta must be float32 or wider .*got int32 at \['n'\]"):
        call(params, optimizer.init(params), {"n": jnp.arange(3, dtype=jnp.int32)})
    with pytest.raises(ValueError, match=r"meta must be float32 or wider .*got float16 at \['a'\]"):
        call(params, optimizer.init(params), {"a": meta.astype(jnp.float16)})
