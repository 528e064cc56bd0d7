"""Fine-tuning: the target begins where the source ended."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from l2t_jax._typing import Array
from l2t_jax.base import Batch, Method, Network, Score, TaskLoss, Variables, target_variables
from l2t_jax.baselines.penalties import State, scratch
from l2t_jax.losses import accuracy, cross_entropy
from l2t_jax.networks import output_shapes

_SHOWN = 5


def from_source(
    source_variables: Variables, drawn: Variables, source_classes: int, target_classes: int
) -> Variables:
    """A target's first variables: the source's, but for what depends on the number of classes.

    What depends on it is told by its shape: the classifier, where the numbers differ. Where they
    are the same the classifier is taken over too. Random keys in the model state stay those drawn.

    Args:
      source_variables: the trained source's variables.
      drawn: variables drawn for the target, a network of the same architecture.
      source_classes: number of the source's logits.
      target_classes: number of the target's.

    Returns:
      Variables of the target's shapes and dtypes, in memory of their own.

    Raises:
      ValueError: the architectures differ; names the leaves.

    Example:
      >>> source = Variables({"layer": jnp.ones((2, 3)), "head": jnp.ones((3, 5))}, {})
      >>> drawn = Variables({"layer": jnp.zeros((2, 3)), "head": jnp.zeros((3, 4))}, {})
      >>> first = from_source(source, drawn, 5, 4)
      >>> float(first.params["layer"].sum()), float(first.params["head"].sum())
      (6.0, 0.0)
    """
    wanted = jax.tree_util.tree_leaves_with_path(drawn)
    given = dict(jax.tree_util.tree_leaves_with_path(source_variables))
    problems, leaves = [], []
    for path, leaf in wanted:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if path not in given:
            problems.append(f"no {name} {list(leaf.shape)}")
            continue
        value = given.pop(path)
        if value.shape == leaf.shape and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            # A copy: states may be donated, and the source's variables must outlive them.
            leaves.append(jnp.array(value, leaf.dtype))
        elif _differs_by_classes(value.shape, leaf.shape, source_classes, target_classes):
            leaves.append(leaf)
        else:
            problems.append(f"{name} of {list(value.shape)}, not {list(leaf.shape)}")
    for path, value in given.items():
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        problems.append(f"{name} {list(value.shape)}, which the target lacks")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            "the source must have the target's architecture, except for the number of classes "
            f"(got {'; '.join(problems[:_SHOWN])}{more})"
        )
    return jax.tree.unflatten(jax.tree.structure(drawn), leaves)


def _differs_by_classes(given: tuple[int, ...], wanted: tuple[int, ...], *classes: Any) -> bool:
    return len(given) == len(wanted) and all(
        sizes == classes or sizes[0] == sizes[1] for sizes in zip(given, wanted, strict=True)
    )


def finetune(
    source: Network,
    target: Network,
    *,
    optimizer: optax.GradientTransformation,
    task_loss: TaskLoss = cross_entropy,
    score: Score = accuracy,
) -> Method:
    """Training on the task's loss alone, from the source's parameters and batch statistics.

    Args:
      source: the trained network.
      target: one of the same architecture; the number of classes may differ.
      optimizer: any optax transformation that needs gradients, its state and parameters only.
      task_loss: ``(logits, labels) -> scalar``, the labels as they are in the batch.
      score: ``(logits, labels) -> scalar``, a figure for people that takes no part in training;
        by default the share that is classified right.

    Returns:
      A `l2t_jax.Method` with `State` and `Info` of `scratch`; only ``init`` looks at the source's
      variables. Images without labels are not used.

    Raises:
      ValueError: the architectures differ (when ``init`` is called or traced; see `from_source`).

    Example:
      >>> from l2t_jax.models import cifar_resnet
      >>> source, target = cifar_resnet(8, classes=10), cifar_resnet(8, classes=3)
      >>> method = finetune(source, target, optimizer=optax.sgd(0.1))
      >>> batch = Batch(jnp.ones((2, 8, 8, 3)), jnp.array([0, 2]))
      >>> variables = source.init(jax.random.key(0), batch.images)
      >>> state = method.init(jax.random.key(1), variables, batch)
      >>> first = state.inner.params["conv1"]["kernel"]
      >>> bool(jnp.all(first == variables.params["conv1"]["kernel"]))
      True
    """
    method = scratch(target, optimizer=optimizer, task_loss=task_loss, score=score)

    def init(key: Array, source_variables: Variables, batch: Batch) -> State:
        state = method.init(key, source_variables, batch)
        drawn = target_variables(state)
        first = from_source(
            source_variables,
            drawn,
            output_shapes(source, source_variables, batch.images).logits.shape[-1],
            output_shapes(target, drawn, batch.images).logits.shape[-1],
        )
        inner = state.inner._replace(params=first.params)
        return State(inner, first.model_state, optimizer.init(inner))

    return Method(init, method.step)
