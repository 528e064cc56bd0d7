"""Means and deviations of a source's channels, against NumPy on all images at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import load
from experiments.data.preprocess import normalise
from experiments.networks import zoo
from experiments.system import devices
from experiments.training import evaluation, feature_statistics
from l2t_jax import with_standard_features


@pytest.mark.usefixtures("quickly_compiled")
def test_standard_features_have_mean_0_and_deviation_1(monkeypatch):
    """Over batches of different sizes, the last one padded; a dead channel becomes 0."""
    digits = load.digits(8).take(np.arange(130))
    network = zoo.find("resnet8")(4)
    images = normalise(jnp.asarray(digits.images))
    variables = network.init(jax.random.key(0), images[:1])
    whole = network.apply(variables, images, train=False).features
    monkeypatch.setattr(
        feature_statistics,
        "batches",
        lambda devices, images: evaluation.batches(devices, images, batch_size=60),
    )
    found = feature_statistics.measure(network, variables, digits, devices.one_device())
    for feature, mean, deviation in zip(whole, *found, strict=True):
        feature = np.asarray(feature, np.float64)
        np.testing.assert_allclose(mean, feature.mean((0, 1, 2)), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(deviation, feature.std((0, 1, 2)), rtol=1e-4, atol=1e-7)
    found.deviations[0][0] = 0.0
    standard = with_standard_features(network, *found)
    scaled = standard.apply(variables, images, train=False)
    np.testing.assert_array_equal(scaled.features[0][..., 0], 0)
    np.testing.assert_allclose(scaled.features[-1].mean((0, 1, 2)), 0, atol=1e-4)
    alive = np.asarray(whole[-1]).std((0, 1, 2)) > 0
    np.testing.assert_allclose(scaled.features[-1].std((0, 1, 2)), alive, rtol=1e-4)
    np.testing.assert_array_equal(
        scaled.logits, network.apply(variables, images, train=False).logits
    )
    short = with_standard_features(network, found.means[:1], found.deviations)
    with pytest.raises(ValueError, match=r"one for each feature map, 3 \(got 1 and 3\)"):
        short.apply(variables, images, train=False)
    batch = [jnp.ones((5, 1, 1, 1))] * 3
    with pytest.raises(ValueError, match=r"one a channel \(got \(5, 1, 1, 1\)"):
        with_standard_features(network, batch, batch).apply(variables, images, train=False)
