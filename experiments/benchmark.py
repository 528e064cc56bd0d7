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
import numpy as np
import optax

import l2t_jax
from l2t_jax import Batch, Method, Variables, baselines
from l2t_jax.models import cifar_resnet, vgg

SOURCE, TARGET = cifar_resnet(32, classes=200), vgg(9, classes=10)
SOURCE_LAYERS, TARGET_LAYERS = (4, 9, 14), range(5)
PAIRS = l2t_jax.all_pairs(SOURCE_LAYERS, TARGET_LAYERS)
SGD = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.01, momentum=0.9))
ADAM = optax.chain(optax.add_decayed_weights(1e-4), optax.adam(1e-4))
MODES = {
    "mixed": l2t_jax.mixed_meta_gradient,
    "low-memory": l2t_jax.low_memory_meta_gradient,
    "reverse": l2t_jax.reverse_meta_gradient,
}
PLAIN = "plain step"


def row(mode: str = "mixed", steps: int = 2, pairs: int = len(PAIRS)) -> str:
    """What a whole iteration is called in the table."""
    return f"iteration, {mode}, T={steps}, {pairs} pair{'s' * (pairs > 1)}"


MIXED, LOW_MEMORY, REVERSE = map(row, MODES)


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
    if MIXED in medians:
        summary["iteration_over_plain_step"] = ratios[MIXED]
    if MIXED in medians and REVERSE in medians:
        summary["mixed_over_reverse"] = medians[MIXED] / medians[REVERSE]
        print(f"\nmixed ÷ reverse: {summary['mixed_over_reverse']:.2f}")
    if MIXED in medians and LOW_MEMORY in medians:
        print(f"low-memory ÷ mixed: {medians[LOW_MEMORY] / medians[MIXED]:.2f}")
    low = programs[LOW_MEMORY].temporaries if LOW_MEMORY in programs else None
    plain = programs[PLAIN].temporaries
    if low and plain:
        summary["low_memory_temporaries_over_plain_step"] = low / plain
        print(f"temporaries, low-memory ÷ plain step: {low / plain:.2f}")
    if len(options.steps) > 2:
        print(line("T", options.steps, [ratios[row(steps=steps)] for steps in options.steps]))
    if len(options.pairs) > 2:
        print(line("pairs", options.pairs, [ratios[row(pairs=pairs)] for pairs in options.pairs]))
    if options.json is not None:
        options.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return 0


def line(what: str, counts: Sequence[int], ratios: Sequence[float]) -> str:
    """The straight line nearest to the ratios, and how far they are from it."""
    slope, start = np.polyfit(counts, ratios, 1)
    residual = max(abs(start + slope * np.array(counts) - ratios) / ratios)
    return (
        f"iteration ÷ plain step: {start:.2f} + {slope:.2f} · {what}; the measured ratios are at "
        f"most {100 * residual:.0f} % from that"
    )


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
    parser.add_argument(
        "--modes", choices=MODES, nargs="*", default=list(MODES), metavar="MODE",
        help=f"meta-gradients to time, of {', '.join(MODES)} (default: all)",
    )  # fmt: skip
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

    def iteration(mode: str = "mixed", steps: int = 2, pairs: int = len(PAIRS)) -> Program:
        method = l2t_jax.l2t(
            SOURCE,
            TARGET,
            PAIRS[:pairs],
            optimizer=SGD,
            meta_optimizer=ADAM,
            unroll_steps=steps,
            meta_gradient=MODES[mode],
        )
        return step(method, source_variables)

    penalties = {"fm": (0.5, baselines.feature_matching(PAIRS))}
    programs = {PLAIN: step(baselines.scratch(TARGET, optimizer=SGD), None)}
    if options.peer == "torch":
        programs["plain step in PyTorch"] = torch_step(options.batch)
    programs["source forward"] = compiled(
        lambda variables, images: SOURCE.apply(variables, images, train=False).features,
        source_variables,
        batch.images,
    )
    programs["real step, with source"] = step(
        baselines.with_penalties(SOURCE, TARGET, penalties, optimizer=SGD), source_variables
    )
    wanted: list[dict[str, Any]] = [{"mode": mode} for mode in options.modes]
    wanted += [{"steps": steps} for steps in options.steps]
    wanted += [{"pairs": pairs} for pairs in options.pairs]
    for more in wanted:
        if (name := row(**more)) not in programs:
            programs[name] = iteration(**more)
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
