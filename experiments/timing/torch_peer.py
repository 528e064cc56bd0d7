"""The benchmark's programs in PyTorch, written as its users write them.

The iteration differentiates through its virtual steps with ``create_graph``. A test compares it
with `l2t_jax.l2t` number by number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from l2t_jax.pairs import Pair

Params = dict[str, Tensor]

MOMENTUM, DECAY, BETA, META_RATE = 0.9, 1e-4, 0.5, 1e-4
STAGES = ((0,), (4,), (8, 11), (15, 18))  # of VGG-9 but the last: its convolutions' numbers
LAST = (22, 25)


def normalised(p: Params, name: str, x: Tensor, *, train: bool) -> Tensor:
    """Batch norm, by the batch's statistics or by the running ones."""
    running = (None, None) if train else (p[f"{name}.running_mean"], p[f"{name}.running_var"])
    return functional.batch_norm(
        x, *running, p[f"{name}.weight"], p[f"{name}.bias"], training=train
    )


def convolved(p: Params, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """A convolution with a margin of half its kernel."""
    kernel = p[f"{name}.weight"]
    return functional.conv2d(x, kernel, p.get(f"{name}.bias"), stride, kernel.shape[-1] // 2)


def vgg9(p: Params, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits and feature maps of VGG-9 with batch norm, in training mode."""
    maps = []
    for stage in (*STAGES, LAST):
        for number in stage:
            x = convolved(p, f"features.{number}", x)
            x = functional.relu(normalised(p, f"features.{number + 1}", x, train=True))
        maps.append(x)
        x = functional.max_pool2d(x, 2)
    return functional.linear(x.mean((2, 3)), p["classifier.weight"], p["classifier.bias"]), maps


def cifar_resnet(p: Params, x: Tensor) -> list[Tensor]:
    """Feature maps of a ResNet of the CIFAR form, one a block, in evaluation mode."""
    x = functional.relu(normalised(p, "bn1", convolved(p, "conv1", x), train=False))
    maps = []
    for stage in range(3):
        blocks = [f"block{2 * stage + 1}"]
        while f"blocks{2 * stage + 2}.{len(blocks) - 1}.conv1.weight" in p:
            blocks.append(f"blocks{2 * stage + 2}.{len(blocks) - 1}")
        for i, name in enumerate(blocks):
            stride = 2 if stage > 0 and i == 0 else 1
            y = functional.relu(
                normalised(p, f"{name}.bn1", convolved(p, f"{name}.conv1", x, stride), train=False)
            )
            y = normalised(p, f"{name}.bn2", convolved(p, f"{name}.conv2", y), train=False)
            if f"{name}.downsample.0.weight" in p:
                x = convolved(p, f"{name}.downsample.0", x, stride)
                x = normalised(p, f"{name}.downsample.1", x, train=False)
            x = functional.relu(x + y)
            maps.append(x)
    return maps


class Meta(NamedTuple):
    """Parameters of the meta-networks, one of each for each pair.

    Attributes:
      what: kernel ``[C, C]`` and bias ``[C]``.
      where: kernel ``[1, C]`` and bias ``[1]``.
    """

    what: list[tuple[Tensor, Tensor]]
    where: list[tuple[Tensor, Tensor]]

    def leaves(self) -> list[Tensor]:
        """All of them."""
        return [leaf for layer in (*self.what, *self.where) for leaf in layer]


def error_weights(meta: Meta, source: Sequence[Tensor], pairs: Sequence[Pair]) -> list[Tensor]:
    """λ times the channel weights of each pair, ``[B, C]``."""
    found = []
    for what, where, (m, _) in zip(meta.what, meta.where, pairs, strict=True):
        pooled = source[m].mean((2, 3))
        found.append(
            functional.relu6(functional.linear(pooled, *where))
            * functional.linear(pooled, *what).softmax(1)
        )
    return found


def matching_loss(
    p: Params,
    maps: Sequence[Tensor],
    source: Sequence[Tensor],
    weights: Sequence[Tensor],
    pairs: Sequence[Pair],
) -> Tensor:
    """The weighted matching loss before β, with the projections ``r0``, ``r1``, … of the pairs."""
    total = torch.zeros((), dtype=weights[0].dtype)
    for i, ((m, n), weight) in enumerate(zip(pairs, weights, strict=True)):
        wanted, mapped = source[m], convolved(p, f"r{i}", maps[n])
        if wanted.shape[2:] != mapped.shape[2:]:
            wanted = functional.interpolate(
                wanted, mapped.shape[2:], mode="bilinear", align_corners=False
            )
        errors = (mapped - wanted).square().mean((2, 3))
        total = total + (weight * errors).sum(1).mean()
    return total


def sgd(
    p: Params, velocity: Params, gradient: Sequence[Tensor | None], rate: float
) -> tuple[Params, Params]:
    """One step of SGD with momentum and weight decay; what has no gradient has a gradient of 0."""
    moved, kept = {}, {}
    for (name, value), slope in zip(p.items(), gradient, strict=True):
        decayed = DECAY * value if slope is None else slope + DECAY * value
        kept[name] = MOMENTUM * velocity[name] + decayed
        moved[name] = value - rate * kept[name]
    return moved, kept


def meta_gradient(
    p: Params,
    velocity: Params,
    meta: Meta,
    source: Sequence[Tensor],
    images: Tensor,
    labels: Tensor,
    pairs: Sequence[Pair],
    steps: int,
    rate: float,
) -> tuple[Tensor, list[Tensor]]:
    """The outer loss after the virtual steps, and its gradient by the meta-parameters."""
    weights = error_weights(meta, source, pairs)
    p = {name: value.detach().requires_grad_() for name, value in p.items()}
    for step in range(steps + 1):
        logits, maps = vgg9(p, images)
        if step < steps:
            loss = BETA * matching_loss(p, maps, source, weights, pairs)
        else:
            loss = functional.cross_entropy(logits, labels)
        gradient = torch.autograd.grad(loss, list(p.values()), create_graph=True, allow_unused=True)
        p, velocity = sgd(p, velocity, gradient, rate)
    outer = functional.cross_entropy(vgg9(p, images)[0], labels)
    return outer, list(torch.autograd.grad(outer, meta.leaves()))


def real_step(
    p: Params,
    velocity: Params,
    images: Tensor,
    labels: Tensor,
    rate: float,
    matching: tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Pair]] | None = None,
) -> tuple[Params, Params]:
    """One step on the task's loss, and on the matching loss with source maps, weights and pairs."""
    p = {name: value.requires_grad_() for name, value in p.items()}
    logits, maps = vgg9(p, images)
    loss = functional.cross_entropy(logits, labels)
    if matching is not None:
        loss = loss + BETA * matching_loss(p, maps, *matching)
    gradient = torch.autograd.grad(loss, list(p.values()), allow_unused=True)
    with torch.no_grad():
        return sgd(p, velocity, gradient, rate)


def programs(
    batch: int,
    weights: Mapping[str, Any],
    source_weights: Mapping[str, Any],
    pairs: Sequence[Pair],
    steps: Sequence[int],
) -> Iterator[tuple[str, Any]]:
    """The programs, each a name and a function that runs it once.

    Args:
      batch: images a step.
      weights: the target's, by PyTorch's names.
      source_weights: the source's, likewise.
      pairs: the pairs of layers.
      steps: for each iteration, its number of virtual matching steps.

    Yields:
      The plain step in both memory formats, the source, the real step and the iterations.
    """
    rate, generator = 0.01, torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, 32, 32, generator=generator)
    labels = torch.arange(batch) % 10

    def tensors(arrays: Mapping[str, Any]) -> Params:
        return {name: torch.tensor(value) for name, value in arrays.items()}

    fixed, moving = tensors(source_weights), tensors(weights)
    moving = {name: value for name, value in moving.items() if "running" not in name}
    still = {name: torch.zeros_like(value) for name, value in moving.items()}
    yield "plain step", lambda: real_step(moving, still, images, labels, rate)

    def in_last(p: Params) -> Params:
        last = torch.channels_last
        return {
            name: value.detach().to(memory_format=last) if value.ndim == 4 else value.detach()
            for name, value in p.items()
        }

    moving_last, still_last = in_last(moving), in_last(still)
    images_last = images.to(memory_format=torch.channels_last)
    yield (
        "plain step, channels last",
        lambda: real_step(moving_last, still_last, images_last, labels, rate),
    )

    def features() -> list[Tensor]:
        with torch.no_grad():
            return cifar_resnet(fixed, images)

    yield "source forward", features
    maps, (_, targets) = features(), vgg9(moving, images)
    whole = dict(moving)
    meta = Meta([], [])
    for i, (m, n) in enumerate(pairs):
        channels = maps[m].shape[1]
        shape = (channels, targets[n].shape[1], 1, 1)
        whole[f"r{i}.weight"] = 0.1 * torch.randn(shape, generator=generator)
        whole[f"r{i}.bias"] = torch.zeros(channels)
        meta.what.append((torch.zeros(channels, channels), torch.zeros(channels)))
        meta.where.append((torch.zeros(1, channels), torch.ones(1)))
    velocity = {name: torch.zeros_like(value) for name, value in whole.items()}
    for leaf in meta.leaves():
        leaf.requires_grad_()
    adam = torch.optim.Adam(meta.leaves(), META_RATE, weight_decay=DECAY)

    def real() -> tuple[list[Tensor], tuple[Params, Params]]:
        found = features()
        with torch.no_grad():
            fixed_weights = error_weights(meta, found, pairs)
        matching = (found, fixed_weights, pairs)
        return found, real_step(whole, velocity, images, labels, rate, matching)

    yield "real step, with source", real

    def iteration(count: int) -> None:
        found, moved = real()
        _, slopes = meta_gradient(*moved, meta, found, images, labels, pairs, count, rate)
        for leaf, slope in zip(meta.leaves(), slopes, strict=True):
            leaf.grad = slope
        adam.step()

    for count in steps:
        yield (
            f"iteration, T={count}, {len(pairs)} pairs",
            lambda count=count: iteration(count),
        )
