"""The interfaces of all parts: networks, batches, losses, training methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from l2t_jax._typing import Array, PyTree

TaskLoss = Callable[[Array, PyTree], Array]
Score = Callable[[Array, PyTree], Array]


class Variables(NamedTuple):
    """Everything a network remembers.

    Attributes:
      params: pytree of trainable arrays.
      model_state: pytree of what a forward pass moves without a gradient, such as running batch
        statistics or a dropout key. An empty dict where there is nothing of the kind.
    """

    params: PyTree
    model_state: PyTree


class Outputs(NamedTuple):
    """What a forward pass gives; ``B`` denotes the batch dimension.

    Attributes:
      logits: predictions, shape ``[B, ...]``; ``[B, classes]`` for a classifier.
      features: feature maps from the input side to the output side, each ``[B, H, W, C]`` with
        sizes of its own.
      model_state: the model state after this pass; the one that came in where ``train`` is false.
    """

    logits: Array
    features: tuple[Array, ...]
    model_state: PyTree


@runtime_checkable
class Apply(Protocol):
    def __call__(self, variables: Variables, images: Array, *, train: bool) -> Outputs:
        """Runs the network.

        Args:
          variables: the network's parameters and model state.
          images: inputs, shape ``[B, H, W, channels]``.
          train: whether the pass is one of training (batch norm with the batch's own statistics,
            dropout on) or of evaluation.

        Returns:
          Logits, feature maps and the model state after the pass.
        """


class Network(NamedTuple):
    """A network as a pair of pure functions.

    Anything that can be written this way takes part in the transfer: bundled and foreign Linen
    modules (`l2t_jax.adapters.from_linen`), hand-written functions, other libraries.

    Attributes:
      init: ``(key, images) -> Variables``.
      apply: ``(variables, images, *, train) -> Outputs``; see `Apply`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> def init(key, images):
      ...     width = images.shape[-1]
      ...     return Variables({"w": jax.random.normal(key, (width, 3))}, {})
      >>> def apply(variables, images, *, train):
      ...     maps = jax.nn.relu(images @ variables.params["w"])
      ...     return Outputs(maps.mean((1, 2)), (maps,), variables.model_state)
      >>> network = Network(init, apply)
      >>> variables = network.init(jax.random.key(0), jnp.ones((2, 8, 8, 1)))
      >>> network.apply(variables, jnp.ones((2, 8, 8, 1)), train=False).logits.shape
      (2, 3)
    """

    init: Callable[[Array, Array], Variables]
    apply: Apply


class Batch(NamedTuple):
    """Samples that one step trains on.

    Attributes:
      images: ``[B, H, W, channels]``, real.
      labels: what the task's loss compares the logits with; class numbers ``[B]`` for the default
        `cross_entropy`, else any pytree of arrays ``[B, ...]``.
    """

    images: Array
    labels: PyTree


class Inner(NamedTuple):
    """Everything the inner optimiser moves.

    Attributes:
      params: the target network's parameters.
      extra: what the method trains along with them, such as the projections; () for nothing.
    """

    params: PyTree
    extra: PyTree


@runtime_checkable
class InnerState(Protocol):
    """What every method's state has at least."""

    @property
    def inner(self) -> Inner: ...

    @property
    def model_state(self) -> PyTree: ...


@runtime_checkable
class Init(Protocol):
    def __call__(self, key: Array, source_variables: Any, batch: Batch) -> Any:
        """The state that training starts from.

        Args:
          key: a PRNG key; what is drawn depends on it alone.
          source_variables: the source's `Variables`; None where the method has no source.
          batch: a batch, of which only shapes and dtypes matter.

        Returns:
          The method's own state, a NamedTuple that has ``inner`` and ``model_state`` at least.
        """


@runtime_checkable
class Step(Protocol):
    def __call__(self, state: Any, source_variables: Any, batch: Batch) -> tuple[Any, Any]:
        """One iteration on one batch.

        Args:
          state: the state after the last iteration, or that of ``init``.
          source_variables: the source's `Variables`, which no step changes.
          batch: the samples to train on.

        Returns:
          The state after the iteration, of the same structure, and a NamedTuple of figures that
          the iteration saw.
        """


class Method(NamedTuple):
    """A training method as a pair of pure functions.

    Attributes:
      init: ``(key, source_variables, batch) -> state``; see `Init`.
      step: ``(state, source_variables, batch) -> (state, info)``; see `Step`.
    """

    init: Init
    step: Step


def target_variables(state: InnerState) -> Variables:
    """The target network's variables in a method's state, to evaluate it or to save it.

    Args:
      state: the state of any `Method`.

    Returns:
      Parameters and model state, for the target network's ``apply``.

    Example:
      >>> import optax
      >>> from l2t_jax import baselines, models
      >>> target = models.cifar_resnet(8, classes=3)
      >>> method = baselines.scratch(target, optimizer=optax.sgd(0.1))
      >>> batch = Batch(jnp.ones((2, 8, 8, 3)), jnp.array([0, 2]))
      >>> state = jax.eval_shape(method.init, jax.random.key(0), None, batch)
      >>> target_variables(state).params["fc"]["kernel"].shape
      (64, 3)
    """
    return Variables(state.inner.params, state.model_state)


def check_batch(batch: Batch) -> None:
    """Raises a ValueError unless images and labels have the same number of samples, at least one.

    Args:
      batch: the batch, arrays or shapes.

    Raises:
      ValueError: no samples, or batch sizes that differ.
    """
    images = jnp.shape(batch.images)
    labels = [jnp.shape(leaf) for leaf in jax.tree.leaves(batch.labels)]
    if not images or images[0] == 0 or any(shape[:1] != images[:1] for shape in labels):
        raise ValueError(
            "images and labels must have the same number of samples, at least one (got images of "
            f"shape {images} and labels of shape {' and '.join(map(str, labels))})"
        )


def with_unlabelled(images: Array, unlabelled: Array | None) -> Array:
    """The images of a batch, and after them those without labels, as one array.

    Args:
      images: the batch's, ``[B, H, W, channels]``.
      unlabelled: ``[U, H, W, channels]``, U at least 1; None for none.

    Returns:
      ``[B + U, H, W, channels]``.

    Raises:
      ValueError: the unlabelled images are none, or have another size or dtype than the batch's.

    Example:
      >>> with_unlabelled(jnp.ones((2, 8, 8, 3)), jnp.zeros((4, 8, 8, 3))).shape
      (6, 8, 8, 3)
    """
    if unlabelled is None:
        return images
    same = unlabelled.shape[1:] == images.shape[1:] and unlabelled.dtype == images.dtype
    if not same or not len(unlabelled):
        raise ValueError(
            f"unlabelled images must be at least one, of the batch's shape and dtype (got "
            f"{unlabelled.shape} {unlabelled.dtype}, and a batch of {images.shape} {images.dtype})"
        )
    return jnp.concatenate([images, unlabelled])
