"""Feature matching against plain NumPy, and against finite differences."""

# Without the types that the tests check, and users do not.
from inspect import unwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import bilinear, dot, finite_difference, random_like

from l2t_jax import (
    Projection,
    channel_errors,
    combine_weights,
    init_projections,
    matching_loss,
    pair_losses,
    pool,
    project,
    resize,
)

PAIRS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def features(seed: int, *shapes: tuple[int, ...]) -> list[jax.Array]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


@pytest.fixture
def setting():
    """Maps of all kinds: larger and smaller sources, non-square ones, one position only."""
    source = features(0, (3, 6, 4, 5), (3, 1, 2, 7))
    target = features(1, (3, 3, 5, 2), (3, 8, 1, 4))
    projections = init_projections(jax.random.key(0), PAIRS, source, target)
    weights = tuple(features(2, (3, 5), (3, 5), (3, 7), (3, 7)))
    return source, target, projections, weights


@pytest.mark.parametrize("size", [(3, 5), (12, 8), (1, 1), (6, 4), (4, 13)])
def test_resize_is_half_pixel_bilinear_without_antialiasing(size):
    (maps,) = features(3, (2, 6, 4, 3))
    expected = np.stack([bilinear(np.asarray(image), *size) for image in maps])
    np.testing.assert_allclose(resize(maps, size), expected, atol=1e-14)


def test_errors_and_loss_agree_with_numpy(setting):
    source, target, projections, weights = setting
    errors = channel_errors(projections, source, target, PAIRS)
    total = 0.0
    for i, (m, n) in enumerate(PAIRS):
        for b in range(3):
            kernel, bias = (np.asarray(a) for a in projections[i])
            projected = np.einsum("hwc,cd->hwd", np.asarray(target[n][b]), kernel) + bias
            resized = bilinear(np.asarray(source[m][b]), *projected.shape[:2])
            expected = ((resized - projected) ** 2).mean(axis=(0, 1))
            np.testing.assert_allclose(errors[i][b], expected, rtol=1e-13)
            total += float(np.sum(expected * np.asarray(weights[i][b]))) / 3
    np.testing.assert_allclose(matching_loss(errors, weights), total, rtol=1e-13)
    np.testing.assert_allclose(pair_losses(errors, weights).sum(), total, rtol=1e-13)


def test_the_loss_differentiates_with_respect_to_everything(setting):
    source, target, projections, weights = setting

    def loss(everything):
        source, target, projections, weights = everything
        errors = channel_errors(projections, source, target, PAIRS)
        return matching_loss(errors, weights)

    everything = (source, target, projections, weights)
    direction = random_like(everything, 4)
    numeric = finite_difference(loss, everything, direction)
    assert dot(jax.grad(loss)(everything), direction) == pytest.approx(numeric, rel=1e-7)
    tangent = jax.jvp(loss, (everything,), (direction,))[1]
    assert float(tangent) == pytest.approx(numeric, rel=1e-7)


def test_weights_combine_what_and_where():
    channels, pairs = features(5, (2, 3), (2, 4)), features(6, (2, 2))[0]
    combined = combine_weights(channels, pairs)
    for i in range(2):
        np.testing.assert_array_equal(combined[i], channels[i] * pairs[:, i : i + 1])


def test_projections_start_within_pytorchs_bound():
    source, target = features(7, (1, 2, 2, 400)), features(8, (1, 2, 2, 16))
    (projection,) = init_projections(jax.random.key(1), [(0, 0)], source, target)
    for part in projection:
        assert np.abs(part).max() <= 0.25
        assert np.std(part) == pytest.approx(0.25 / np.sqrt(3), rel=0.1)


@pytest.mark.parametrize(
    ("pairs", "source", "target", "message"),
    [
        ([], [(2, 4, 4, 3)], [(2, 4, 4, 3)], "pairs must be at least one"),
        ([(1, 0)], [(2, 4, 4, 3)], [(2, 4, 4, 3)], r"source layer 0 to 0 .*got \(1, 0\)"),
        ([(0, -1)], [(2, 4, 4, 3)], [(2, 4, 4, 3)], r"got \(0, -1\)"),
        ([(0, 0)], [(2, 4, 3)], [(2, 4, 4, 3)], r"source feature map 0 must .*\(2, 4, 3\)"),
        ([(0, 0)], [(2, 4, 4, 3)], [(2, 3)], r"target feature map 0 .* rank 4.*2, 3"),
        ([(0, 0)], [(2, 4, 4, 3)], [(3, 4, 4, 3)], "the same batch size"),
    ],
)
def test_what_does_not_fit_is_told(pairs, source, target, message):
    source, target = features(0, *source), features(1, *target)
    with pytest.raises(ValueError, match=message):
        channel_errors([Projection(jnp.eye(3), jnp.zeros(3))], source, target, pairs)


def test_numbers_of_projections_and_weights_are_checked(setting):
    source, target, projections, weights = setting
    with pytest.raises(ValueError, match=r"one projection a pair, 4 \(got 3\)"):
        channel_errors(projections[:3], source, target, PAIRS)
    errors = channel_errors(projections, source, target, PAIRS)
    with pytest.raises(ValueError, match="the same shapes"):
        matching_loss(errors, weights[:3])


def test_projections_have_to_fit_their_pair():
    source, target = features(0, (2, 4, 4, 3)), features(1, (2, 4, 4, 5))
    for shapes in [((5, 1), (3,)), ((5, 3), (1,)), ((3, 3), (3,)), ((5, 4), (4,))]:
        projection = Projection(*(jnp.ones(shape) for shape in shapes))
        with pytest.raises(ValueError, match=r"must have a kernel \(5, 3\)"):
            channel_errors([projection], source, target, [(0, 0)])


def test_weights_have_to_be_of_the_same_pairs():
    with pytest.raises(ValueError, match=r"pair weights must be \[batch, 2\]"):
        combine_weights(features(0, (2, 3), (2, 4)), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"errors must .*got none"):
        pair_losses((), ())
    for weights in (jnp.ones(3), jnp.ones((2, 3)), jnp.ones((3, 3, 3))):
        with pytest.raises(ValueError, match=r"channel weights must be \[3, channels\]"):
            unwrap(combine_weights)([weights], jnp.ones((3, 1)))
    with pytest.raises(ValueError, match=r"errors must be \[batch, channels\]"):
        unwrap(pair_losses)([jnp.ones((2, 3, 4))], [jnp.ones((2, 3, 4))])


@pytest.mark.parametrize("shapes", [((4, 3), (3,)), ((5, 3), (1,)), ((5, 3, 1), (3,))])
def test_a_projection_has_to_fit_its_map(shapes):
    projection = Projection(*(jnp.ones(shape) for shape in shapes))
    with pytest.raises(ValueError, match=r"the kernel .* and the bias"):
        unwrap(project)(projection, jnp.ones((2, 4, 4, 5)))
    with pytest.raises(ValueError, match=r"got \(2, 4, 5\)"):
        unwrap(project)(Projection(jnp.ones((5, 3)), jnp.ones(3)), jnp.ones((2, 4, 5)))


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 7), (2, 3, 4, 5, 6)])
def test_what_is_no_map_is_told(shape):
    """Such as tokens, whose samples would be averaged or mixed."""
    for function in (lambda x: unwrap(pool)([x]), lambda x: unwrap(resize)(x, (2, 2))):
        with pytest.raises(ValueError, match=r"must be of rank 4.*with_token_maps"):
            function(jnp.ones(shape))
