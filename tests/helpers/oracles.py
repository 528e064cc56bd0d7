"""Independent ways to the same figures: finite differences, and NumPy."""

from collections.abc import Callable

import jax
import numpy as np


def finite_difference(f: Callable, x: object, direction: object, step: float = 1e-6) -> float:
    """Central difference of a scalar function of a pytree along a direction."""
    plus = jax.tree.map(lambda a, d: a + step * d, x, direction)
    minus = jax.tree.map(lambda a, d: a - step * d, x, direction)
    return (float(f(plus)) - float(f(minus))) / (2 * step)


def random_like(tree: object, seed: int) -> object:
    """A pytree of standard normal draws with the same shapes and dtypes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda a: jax.numpy.asarray(rng.standard_normal(np.shape(a)), a.dtype), tree
    )


def dot(left: object, right: object) -> float:
    """Inner product of two pytrees."""
    products = jax.tree.map(lambda a, b: float(np.sum(np.asarray(a) * np.asarray(b))), left, right)
    return sum(jax.tree.leaves(products))


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize with half-pixel centres, edges repeated, no antialiasing: [H, W, C]."""

    def taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = np.maximum((np.arange(new) + 0.5) * old / new - 0.5, 0)
        low = np.minimum(at.astype(int), old - 1)
        return low, np.minimum(low + 1, old - 1), at - low

    low, high, share = taps(image.shape[0], height)
    image = image[low] * (1 - share)[:, None, None] + image[high] * share[:, None, None]
    low, high, share = taps(image.shape[1], width)
    return image[:, low] * (1 - share)[:, None] + image[:, high] * share[:, None]
