"""The programs that the benchmark times: compiled, in the paper's two settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import l2t_jax
from l2t_jax import Batch, Method, Network, Variables, baselines
from l2t_jax.models import cifar_resnet, imagenet_resnet, vgg
from l2t_jax.pairs import Pair

from ..options.builders import decayed_adam, decayed_sgd
from ..system.precision import operands as operands_of

SGD, ADAM = decayed_sgd(0.01), decayed_adam()
MODES = {
    "mixed": l2t_jax.mixed_meta_gradient,
    "low-memory": l2t_jax.low_memory_meta_gradient,
    "reverse": l2t_jax.reverse_meta_gradient,
    "finite-difference": l2t_jax.finite_difference_meta_gradient,
}
PLAIN, REAL, SOURCE = "plain step", "real step, with source", "source forward"
IN_TORCH = ", in PyTorch"
SIDE = 4096
MATRICES = f"matrix product, {SIDE} cubed"


class Setting(NamedTuple):
    """Networks, pairs and images.

    Attributes:
      words: its description.
      source: the source network.
      target: the target network, with 10 classes.
      pairs: the pairs of layers.
      side: the images' height and width in pixels.
      operands: type to which the convolutions' operands are rounded; None for no rounding.
    """

    words: str
    source: Network
    target: Network
    pairs: tuple[Pair, ...]
    side: int
    operands: str | None


def setting(name: str, precision: str) -> Setting:
    """A setting of the paper.

    Args:
      name: ``small`` for ResNet-32 to VGG-9-BN at 32x32, ``large`` for ResNet-34 to ResNet-18 at
        224x224.
      precision: as in `experiments.system.precision`.

    Returns:
      The setting.
    """
    operands = operands_of(precision)
    if name == "small":
        return Setting(
            "VGG-9-BN target, ResNet-32 source",
            cifar_resnet(32, classes=200, operands=operands),
            vgg(9, classes=10, operands=operands),
            l2t_jax.all_pairs((4, 9, 14), range(5)),
            32,
            operands,
        )
    return Setting(
        "ResNet-18 target, ResNet-34 source",
        imagenet_resnet(34, classes=1000, operands=operands),
        imagenet_resnet(18, classes=10, operands=operands),
        l2t_jax.all_pairs(range(1, 5), range(1, 5)),
        224,
        operands,
    )


class Program(NamedTuple):
    """A compiled program, ready to be timed.

    Attributes:
      call: runs it once, to the end.
      gflop: the compiler's count of floating-point operations, in 10^9; None if unknown.
      temporaries: size of the temporary buffers in bytes; None if unknown.
    """

    call: Callable[[], Any]
    gflop: float | None = None
    temporaries: int | None = None


def iteration(mode: str, steps: int, pairs: int) -> str:
    """The name of a whole iteration in the table."""
    return f"iteration, {mode}, T={steps}, {pairs} pair{'s' * (pairs > 1)}"


def l2t(chosen: Setting, mode: str, steps: int, pairs: int) -> Method:
    """The method of a whole iteration."""
    return l2t_jax.l2t(
        chosen.source,
        chosen.target,
        chosen.pairs[-pairs:],  # with the deepest pair, so that all of the target runs
        optimizer=SGD,
        meta_optimizer=ADAM,
        unroll_steps=steps,
        meta_gradient=MODES[mode],
    )


def build(
    chosen: Setting, batch: int, iterations: list[tuple[str, int, int]], *, torch: bool
) -> Iterator[tuple[str, Program]]:
    """Compiles programs one by one, with the plain step first.

    Args:
      chosen: networks, pairs and image size.
      batch: images a step.
      iterations: for each iteration its mode, number of virtual matching steps and number of pairs.
      torch: whether to add the same programs in PyTorch. They exist only for the small setting.

    Yields:
      Each program's name, and the program.
    """
    source, target, pairs = chosen.source, chosen.target, chosen.pairs
    key = jax.random.key(0)
    images = jax.random.normal(key, (batch, chosen.side, chosen.side, 3), jnp.float32)
    samples = Batch(images, jnp.arange(batch) % 10)
    source_variables = jax.jit(source.init)(key, images)

    def step(method: Method, variables: Variables | None) -> Program:
        state = jax.jit(method.init)(key, variables, samples)
        return compiled(method.step, state, variables, samples)

    yield PLAIN, step(baselines.scratch(target, optimizer=SGD), None)
    yield MATRICES, matrix_product(chosen.operands)
    yield (
        SOURCE,
        compiled(
            lambda variables, images: source.apply(variables, images, train=False).features,
            source_variables,
            images,
        ),
    )
    penalties = {"fm": (0.5, baselines.feature_matching(pairs))}
    fm = baselines.with_penalties(source, target, penalties, optimizer=SGD)
    yield REAL, step(fm, source_variables)
    for mode, steps, number in dict.fromkeys(iterations):
        yield (
            iteration(mode, steps, number),
            step(l2t(chosen, mode, steps, number), source_variables),
        )
    if torch:
        variables = jax.jit(target.init)(key, images)
        counts = sorted({steps for _, steps, number in iterations if number == len(pairs)})
        yield from peer(batch, variables, source_variables, pairs, counts)


def compiled(function: Callable[..., Any], *arguments: Any) -> Program:
    """Compiles a function for its arguments."""
    program = jax.jit(function).lower(*arguments).compile()
    memory = program.memory_analysis()
    return Program(
        lambda: jax.block_until_ready(program(*arguments)),
        gflop(function, arguments, program, jax.default_backend()),
        None if memory is None else memory.temp_size_in_bytes,
    )


def gflop(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    program: jax.stages.Compiled,
    platform: str,
) -> float | None:
    """The compiler's count of a program's operations, in 10^9; None if it gives none.

    A GPU's compiled program calls libraries for convolutions and products, which are not counted
    there, and jax counts nothing in what is lowered for a GPU. Its operations are those of the
    program that is lowered for a CPU, before the compiler works on it.
    """
    cost = on_cpu(function, arguments) if platform == "gpu" else program.cost_analysis()
    return cost["flops"] / 1e9 if cost and "flops" in cost else None


def on_cpu(function: Callable[..., Any], arguments: Sequence[Any]) -> dict[str, float] | None:
    """The cost of a function as lowered for a CPU; None where jax may not use the CPU."""
    try:
        (cpu, *_) = jax.local_devices(backend="cpu")
    except RuntimeError:
        return None
    shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), arguments)
    with jax.default_device(cpu):
        return jax.jit(function).lower(*shapes).cost_analysis()


def matrix_product(operands: str | None) -> Program:
    """A product of two large matrices. It shows what the hardware can do at this precision."""
    matrix = jax.random.normal(jax.random.key(0), (SIDE, SIDE), operands or jnp.float32)
    return compiled(lambda x: jnp.matmul(x, x, preferred_element_type=jnp.float32), matrix)


def peer(
    batch: int,
    target: Variables,
    source: Variables,
    pairs: Sequence[Pair],
    steps: Sequence[int],
) -> Iterator[tuple[str, Program]]:
    """The same programs in PyTorch, on the CPU with all cores; arguments as of `torch_peer`."""
    from l2t_jax.pytorch import to_torch  # only this needs safetensors and PyTorch

    from . import torch_peer

    weights = to_torch(target), to_torch(source)
    for name, call in torch_peer.programs(batch, *weights, pairs, steps):
        yield f"{name}{IN_TORCH}", Program(call)
