"""The meta-networks' heads against NumPy, and where they start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2t_jax import (
    Affine,
    MetaParams,
    affine_pairs,
    constant_pairs,
    error_weights,
    level_pairs,
    pool,
    softmax_channels,
    softmax_pairs,
    uniform_channels,
    uniform_pairs,
)


@pytest.fixture
def pooled():
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.standard_normal((3, c)) * 4) for c in (5, 8))


def affine(rng, inputs, outputs):
    return Affine(
        jnp.asarray(rng.standard_normal((inputs, outputs))),
        jnp.asarray(rng.standard_normal(outputs)),
    )


def test_what_is_a_softmax_and_starts_uniform(pooled):
    what = softmax_channels()
    for weights in what.apply(what.init(jax.random.key(0), pooled), pooled):
        np.testing.assert_allclose(weights, 1 / weights.shape[1], rtol=1e-15)
    rng = np.random.default_rng(1)
    params = (affine(rng, 5, 5), affine(rng, 8, 8))
    for layer, features, weights in zip(params, pooled, what.apply(params, pooled), strict=True):
        exponents = np.exp(np.asarray(features) @ np.asarray(layer.kernel) + np.asarray(layer.bias))
        np.testing.assert_allclose(weights, exponents / exponents.sum(1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize(
    ("where", "reference"),
    [
        (affine_pairs(), lambda f, k, b: np.clip(f @ k + b, 0, 6)),
        (affine_pairs(jax.nn.relu), lambda f, k, b: np.maximum(f @ k + b, 0)),
        (
            affine_pairs(jax.nn.relu, divide_by_channels=True),
            lambda f, k, b: np.maximum(f @ k / f.shape[1] + b, 0),
        ),
        (affine_pairs(jax.nn.softplus), lambda f, k, b: np.log1p(np.exp(f @ k + b))),
    ],
)
def test_where_heads(where, reference, pooled):
    rng = np.random.default_rng(2)
    params = (affine(rng, 5, 1), affine(rng, 8, 1))
    expected = np.concatenate(
        [
            reference(*(np.asarray(a) for a in (features, *layer)))
            for features, layer in zip(pooled, params, strict=True)
        ],
        axis=1,
    )
    np.testing.assert_allclose(where.apply(params, pooled), expected, rtol=1e-12, atol=1e-15)


def test_a_softmax_over_pairs_keeps_the_total(pooled):
    where, rng = softmax_pairs(), np.random.default_rng(4)
    first = where.init(jax.random.key(0), pooled)
    np.testing.assert_array_equal(where.apply(first, pooled), np.ones((3, 2)))
    params = (affine(rng, 5, 1), affine(rng, 8, 1))
    values = np.concatenate(
        [
            np.asarray(features) @ np.asarray(layer.kernel) + np.asarray(layer.bias)
            for features, layer in zip(pooled, params, strict=True)
        ],
        axis=1,
    )
    expected = 2 * np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(where.apply(params, pooled), expected, rtol=1e-12)
    assert np.std(softmax_pairs(kernel_scale=1.0).init(jax.random.key(0), pooled)[0].kernel) > 0


def test_a_level_moves_a_fixed_shape_as_a_whole(pooled):
    where = level_pairs([2.0, 0.5])
    first = where.init(jax.random.key(0), pooled)
    np.testing.assert_allclose(where.apply(first, pooled), [[2.0, 0.5]] * 3, rtol=1e-15)
    moved = where.apply(jnp.array(1.5), pooled)
    np.testing.assert_allclose(moved, np.log1p(np.exp(1.5)) * np.array([[2.0, 0.5]] * 3))
    np.testing.assert_array_equal(level_pairs().apply(first, pooled), moved * 0 + 1)
    with pytest.raises(ValueError, match=r"must have shape \(2,\).*\(3,\)"):
        level_pairs([1.0, 1.0, 1.0]).apply(first, pooled)


def test_where_starts_as_published(pooled):
    params = affine_pairs().init(jax.random.key(0), pooled)
    for layer, features in zip(params, pooled, strict=True):
        assert layer.bias.tolist() == [1.0]
        assert np.abs(layer.kernel).max() <= features.shape[1] ** -0.5
        assert np.std(layer.kernel) > 0
    constant = constant_pairs()
    weights = constant.apply(constant.init(jax.random.key(0), pooled), pooled)
    np.testing.assert_allclose(weights, np.full((3, 2), np.log(2)), rtol=1e-15)
    np.testing.assert_allclose(
        constant.apply(jnp.array([0.1, -0.2]), pooled)[0], np.log1p(np.exp([1.0, -2.0]))
    )
    exponential = constant_pairs(jnp.exp, gain=2.0)
    weights = exponential.apply(exponential.init(jax.random.key(0), pooled), pooled)
    np.testing.assert_array_equal(weights, np.ones((3, 2)))
    np.testing.assert_allclose(
        exponential.apply(jnp.array([0.1, -0.2]), pooled)[2], np.exp([0.2, -0.4]), rtol=1e-15
    )


def test_the_scale_of_wheres_kernel_goes_from_one_weight_for_all_to_the_published_start(pooled):
    drawn, half, none = (
        affine_pairs(kernel_scale=scale).init(jax.random.key(0), pooled)
        for scale in (1.0, 0.5, 0.0)
    )
    for whole, layer in zip(drawn, half, strict=True):
        np.testing.assert_array_equal(layer.kernel, whole.kernel / 2)
        np.testing.assert_array_equal(layer.bias, whole.bias)
    np.testing.assert_array_equal(affine_pairs().apply(none, pooled), np.ones((3, 2)))


def test_switched_off_weights_are_uniform():
    rng = np.random.default_rng(3)
    features = [jnp.asarray(rng.standard_normal((2, 4, 3, c))) for c in (5, 8)]
    np.testing.assert_allclose(pool(features)[0], np.asarray(features[0]).mean((1, 2)))
    weights, pair_weights = error_weights(
        uniform_channels(), uniform_pairs(), MetaParams((), ()), features, [(0, 0), (1, 0), (0, 1)]
    )
    assert [w.shape for w in weights] == [(2, 5), (2, 8), (2, 5)]
    for w in weights:
        np.testing.assert_allclose(w, 1 / w.shape[1], rtol=1e-15)
    np.testing.assert_array_equal(pair_weights, np.ones((2, 3)))


def test_pairs_outside_the_source_are_told():
    features = [jnp.ones((2, 4, 3, 5))]
    networks = (uniform_channels(), uniform_pairs(), MetaParams((), ()), features)
    for pairs, message in (([], "got none"), ([(1, 0)], r"\(1, 0\)"), ([(-1, 0)], r"\(-1, 0\)")):
        with pytest.raises(ValueError, match=message):
            error_weights(*networks, pairs)
