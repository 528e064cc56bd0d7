"""Linear probing: a frozen network with a new classifier on its pooled features."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2t_jax import Network, Variables

from ..data.dataset import Images
from ..system.devices import Devices
from .evaluation import compile_evaluation, confusion, predict
from .loop import Result
from .snapshot import Epoch

# scikit-learn's C, the inverse of the strength of the squared penalty.
INVERSE_STRENGTHS = tuple(float(10.0**power) for power in np.arange(-4, 1.1, 0.5))


class Split(NamedTuple):
    """Features of images, ``[N, width]``, and their labels, ``[N]``."""

    features: np.ndarray
    labels: np.ndarray


class Head(NamedTuple):
    """A classifier: kernel ``[width, classes]`` and bias ``[classes]``."""

    kernel: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Logits, ``[N, classes]``."""
        return features.astype(self.kernel.dtype) @ self.kernel + self.bias


class Compiled(NamedTuple):
    """A kind of network, ready to be probed with any weights.

    Attributes:
      make: builds the network for a number of classes.
      images: shape of an image, as a batch of one.
      width: number of features that the network's classifier sees.
      devices: where it runs.
      features: ``(variables, uint8 images) -> features``, of a network whose classifier is the
        identity.
    """

    make: Callable[[int], Network]
    images: jax.ShapeDtypeStruct
    width: int
    devices: Devices
    features: Callable[[Variables, Any], Any]


def compile_probe(
    make: Callable[[int], Network], image_shape: tuple[int, ...], devices: Devices
) -> Compiled:
    """Prepares a kind of network for `train`. It compiles at its first use."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    width = head_width(make, images)
    # With the identity as its classifier, a network's logits are what its classifier sees.
    features = compile_evaluation(make(width), devices, read=lambda logits: logits)
    return Compiled(make, images, width, devices, features)


def train(compiled: Compiled, variables: Variables, splits: Sequence[Images]) -> Result:
    """Logistic regression on the features that a network's classifier sees.

    The images are not augmented. Features are standardised. The strength of the penalty is the one
    with the highest validation accuracy; of equals, the stronger one.

    Args:
      compiled: the network, from `compile_probe`.
      variables: the trained network's variables, for any number of classes.
      splits: the images to train on, to choose the strength on, and to test on.

    Returns:
      The result of one epoch. Its variables are the network's, with the new classifier.

    Raises:
      ValueError: an image cannot be read.
    """
    begin = time.perf_counter()
    make, images, width, devices, features = compiled
    seeing = with_head(make, variables, images, Head(np.eye(width), np.zeros(width)))
    placed = devices.replicate(seeing)
    fitting, validation, test = (
        Split(np.asarray(predict(features, devices, placed, part), np.float64), part.labels)
        for part in splits
    )
    classes = len(splits[0].classes)
    heads = [fit(fitting, classes, inverse_strength) for inverse_strength in INVERSE_STRENGTHS]
    accuracies = [accuracy(head, validation) for head in heads]
    best = int(np.argmax(accuracies))
    seconds, loss = time.perf_counter() - begin, cross_entropy(heads[best], fitting)
    info = {
        **dict.fromkeys(("loss", "task_loss"), loss),
        "penalties": {},
        "accuracy": accuracy(heads[best], fitting),
        "inverse_strength": INVERSE_STRENGTHS[best],
    }
    epoch = Epoch(1, 0.0, seconds, info, accuracies[best])
    trained = with_head(make, variables, images, heads[best])
    predictions = heads[best].logits(test.features).argmax(axis=1)
    matrix = confusion(test.labels, predictions, classes)
    return Result([epoch], epoch, matrix, trained, None, 0, seconds)


def fit(split: Split, classes: int, inverse_strength: float) -> Head:
    """Logistic regression on standardised features, as a classifier of the features themselves.

    Of two classes it is the binary one, whose penalty counts one vector instead of two.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    mean, scale = split.features.mean(axis=0), split.features.std(axis=0)
    # What varies by less is rounding. Divided by, it would get an enormous kernel.
    scale = np.where(scale > 1e-5 * np.abs(mean), scale, 1.0)
    standard = (split.features - mean) / scale
    found = LogisticRegression(C=inverse_strength, max_iter=10_000).fit(standard, split.labels)
    if not np.array_equal(found.classes_, np.arange(classes)):
        raise ValueError(
            f"every one of the {classes} classes must have a training image (got images of "
            f"{found.classes_.tolist()})"
        )
    kernel, bias = found.coef_.T / scale[:, None], found.intercept_
    bias = bias - mean @ kernel
    if classes == 2:  # scikit-learn has the second class's logit alone; the first one's is 0
        kernel, bias = np.insert(kernel, 0, 0.0, axis=1), np.insert(bias, 0, 0.0)
    # As they are saved, so that the accuracies are those of the saved classifier.
    return Head(kernel.astype(np.float32), bias.astype(np.float32))


def accuracy(head: Head, split: Split) -> float:
    """Share that is classified correctly, from 0 to 1."""
    return float(np.mean(head.logits(split.features).argmax(axis=1) == split.labels))


def cross_entropy(head: Head, split: Split) -> float:
    """Mean cross-entropy."""
    found = head.logits(split.features)
    right = np.take_along_axis(found, split.labels[:, None].astype(int), axis=1)[:, 0]
    return float(np.mean(np.logaddexp.reduce(found, axis=1) - right))


def head_width(make: Callable[[int], Network], images: jax.ShapeDtypeStruct) -> int:
    """Number of features that the classifier of a network sees."""
    return next(leaf.shape[0] for leaf in _head(make, 1, images).values() if leaf.ndim == 2)


def with_head(
    make: Callable[[int], Network],
    variables: Variables,
    images: jax.ShapeDtypeStruct,
    head: Head,
) -> Variables:
    """A network's variables with another classifier, for as many classes as that one has."""
    found = _head(make, len(head.bias), images)
    given = dict(jax.tree_util.tree_leaves_with_path(variables))
    like = _shapes(make, len(head.bias), images)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            jnp.asarray(head.kernel if leaf.ndim == 2 else head.bias, leaf.dtype)
            if path in found
            else given[path]
        ),
        like,
    )


def _shapes(make: Callable[[int], Network], classes: int, images: Any) -> Variables:
    return jax.eval_shape(make(classes).init, jax.random.key(0), images)


def _head(make: Callable[[int], Network], classes: int, images: Any) -> dict[Any, Any]:
    """Kernel and bias of the classifier: the leaves whose shape follows from the classes."""
    leaves = dict(jax.tree_util.tree_leaves_with_path(_shapes(make, classes, images)))
    more = dict(jax.tree_util.tree_leaves_with_path(_shapes(make, classes + 1, images)))
    return {path: leaf for path, leaf in leaves.items() if leaf.shape != more[path].shape}
