"""What one iteration costs, as ratios measured in one run.

Imports nothing but jax, flax, optax, numpy and this project, so that it runs wherever they do.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import optax

import l2t_jax
from l2t_jax import Batch, Method, Variables, baselines
from l2t_jax.models import cifar_resnet, vgg

SOURCE, TARGET = cifar_resnet(32, classes=200), vgg(9, classes=10)
SOURCE_LAYERS, TARGET_LAYERS = (4, 9, 14), range(5)
PAIRS = l2t_jax.all_pairs(SOURCE_LAYERS, TARGET_LAYERS)
SGD = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.01, momentum=0.9))
ADAM = optax.chain(optax.add_decayed_weights(1e-4), optax.adam(1e-4))
PLAIN, MIXED, REVERSE = "plain step", "iteration, mixed, T=2", "iteration, reverse, T=2"


class Program(NamedTuple):
    """A compiled program, ready to be timed.

    Attributes:
      call: runs it once, to the end.
      gflop: floating-point operations by the compiler's count, in 10^9; None where unknown.
      temporaries: bytes of temporary buffers; None where unknown.
    """

    call: Callable[[], Any]
    gflop: float | None = None
    temporaries: int | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, and writes it where asked."""
    options = parse(arguments)
    images = jax.random.normal(jax.random.key(0), (options.batch, 32, 32, 3), jnp.float32)
    batch = Batch(images, jnp.arange(options.batch) % 10)
    programs = build(batch, options)
    times = measure(programs, options.repeats)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {name: median / medians[PLAIN] for name, median in medians.items()}
    print(
        f"VGG-9-BN target, ResNet-32 source, {len(PAIRS)} pairs, batch {options.batch}, float32; "
        f"{jax.devices()[0].device_kind}, Python {platform.python_version()}, jax "
        f"{jax.__version__}, flax {flax.__version__}, optax {optax.__version__}; median of "
        f"{options.repeats} interleaved runs\n"
    )
    print("| program | ÷ plain step | median, ms | least to most, ms | GFLOP | temporaries, MiB |")
    print("|---|---|---|---|---|---|")
    rows = {}
    for name, program in programs.items():
        gflop = "" if program.gflop is None else f"{program.gflop:.1f}"
        memory = "" if program.temporaries is None else f"{program.temporaries / 2**20:.0f}"
        values = [1e3 * value for value in times[name]]
        print(
            f"| {name} | {ratios[name]:.2f} | {1e3 * medians[name]:.1f} | "
            f"{min(values):.1f}–{max(values):.1f} | {gflop} | {memory} |"
        )
        rows[name] = {
            "over_plain_step": ratios[name],
            "milliseconds": values,
            "gflop": program.gflop,
            "temporaries": program.temporaries,
        }
    summary: dict[str, Any] = {"batch": options.batch, "programs": rows}
    summary["iteration_over_plain_step"] = ratios[MIXED]
    if REVERSE in medians:
        summary["mixed_over_reverse"] = medians[MIXED] / medians[REVERSE]
        print(f"\nmixed ÷ reverse: {summary['mixed_over_reverse']:.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__)
    parser.add_argument("--batch", type=positive, default=32, help="images a step (default 32)")
    parser.add_argument(
        "--repeats", type=positive, default=5, help="timed runs of each program (default 5)"
    )
    parser.add_argument(
        "--steps", type=positive, nargs="*", default=[], metavar="T",
        help="also time the iteration with these numbers of virtual matching steps",
    )  # fmt: skip
    parser.add_argument(
        "--pairs", type=positive, nargs="*", default=[], metavar="P",
        help=f"also time it with only the first P of the {len(PAIRS)} pairs",
    )  # fmt: skip
    parser.add_argument("--reverse", action="store_true", help="also time plain reverse mode")
    parser.add_argument(
        "--peer", choices=["torch"], help="also time the same plain step in PyTorch"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    if any(count > len(PAIRS) for count in options.pairs):
        parser.error(f"--pairs {options.pairs} came; wanted at most {len(PAIRS)}")
    return options


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} came; wanted 1 or more")
    return value


def build(batch: Batch, options: argparse.Namespace) -> dict[str, Program]:
    """Compiles every program that the options ask for; the plain step comes first."""
    key = jax.random.key(0)
    source_variables = jax.jit(SOURCE.init)(key, batch.images)

    def step(method: Method, variables: Variables | None) -> Program:
        state = jax.jit(method.init)(key, variables, batch)
        return compiled(method.step, state, variables, batch)

    def iteration(steps: int = 2, pairs: int = len(PAIRS), **more: Any) -> Program:
        method = l2t_jax.l2t(
            SOURCE,
            TARGET,
            PAIRS[:pairs],
            optimizer=SGD,
            meta_optimizer=ADAM,
            unroll_steps=steps,
            **more,
        )
        return step(method, source_variables)

    matching = baselines.feature_matching(PAIRS)
    programs = {PLAIN: step(baselines.scratch(TARGET, optimizer=SGD), None)}
    if options.peer == "torch":
        programs["plain step in PyTorch"] = torch_step(options.batch)
    programs["source forward"] = compiled(
        lambda variables, images: SOURCE.apply(variables, images, train=False).features,
        source_variables,
        batch.images,
    )
    programs["real step, with source"] = step(
        baselines.with_penalty(SOURCE, TARGET, matching, optimizer=SGD), source_variables
    )
    programs[MIXED] = iteration()
    if options.reverse:
        programs[REVERSE] = iteration(meta_gradient=l2t_jax.reverse_meta_gradient)
    for steps in options.steps:
        programs[f"iteration, mixed, T={steps}"] = iteration(steps)
    for pairs in options.pairs:
        programs[f"iteration, mixed, T=2, {pairs} pairs"] = iteration(pairs=pairs)
    return programs


def compiled(function: Callable[..., Any], *arguments: Any) -> Program:
    """Compiles a function for its arguments."""
    program = jax.jit(function).lower(*arguments).compile()
    cost, memory = program.cost_analysis(), program.memory_analysis()
    return Program(
        lambda: jax.block_until_ready(program(*arguments)),
        cost["flops"] / 1e9 if cost and "flops" in cost else None,
        None if memory is None else memory.temp_size_in_bytes,
    )


def torch_step(size: int) -> Program:
    """The plain step of the same network in PyTorch, on the CPU with all cores."""
    import torch
    from torch import nn

    layers: list[Any] = []
    channels = 3
    for stage in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for width in stage:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    images, labels = torch.randn(size, 3, 32, 32), torch.arange(size) % 10

    def call() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return Program(call)


def measure(programs: dict[str, Program], repeats: int) -> dict[str, list[float]]:
    """Seconds of each program in ``repeats`` rounds, one run of each a round."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for program in programs.values():
        program.call()
    for _ in range(repeats):
        for name, program in programs.items():
            begin = time.perf_counter()
            program.call()
            times[name].append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    sys.exit(main())
