"""Compile a training step for TPUs without having one, and print what it would take."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import flax
import jax
import optax
from tyro.conf import arg

from l2t_jax import Method, baselines

from .options import cli
from .options.checks import at_least, check_can_be_written, check_ranges
from .system import files, precision
from .timing import ahead_of_time, programs
from .timing.ahead_of_time import Chip, DoesNotFitError, Step

Mode = Literal["mixed", "low-memory", "reverse", "finite-difference"]
BATCHES = {"small": 128, "large": 64}
HEAD = (
    *("devices", "program", "peak, MiB", "arguments, MiB", "temporaries, MiB", "GFLOP"),
    *("GB moved", "at least, ms", "all-reduces", "MiB reduced", "other collectives"),
)


@dataclass(frozen=True)
class Options:
    """Compile a training step for TPUs without having one, and print what it would take.

    What it prints:
    - All figures are of one device, from the compiler. No program runs.
    - The compiler takes minutes, at its level O0 (or at that of JAX_OPTIMIZATION_LEVEL).
    - The exit code is 1 if a step does not fit into a device's memory.

    Example:
      l2t compile --topology v5e:2x2 --devices 1 4
    """

    #: The TPUs: v4, v5e, v5p or v6e, and how many in each direction.
    topology: Annotated[str, arg(metavar="TPU:SHAPE")] = "v5e:2x2"
    #: Numbers of devices, each at most the topology's.
    devices: Annotated[
        tuple[int, ...], arg(metavar="N ...", help_behavior_hint="(default: all)")
    ] = ()
    #: small: ResNet-32 to VGG-9-BN at 32x32. large: ResNet-34 to ResNet-18 at 224x224.
    setting: Literal["small", "large"] = "small"
    #: Images a step, on all devices together.
    batch_size: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: the paper's, 128 or 64)")
    ] = None
    #: Type of the products' operands. bfloat16: of the networks' convolutions.
    precision: precision.Name = "float32"
    #: Meta-gradients. A plain step of the target comes before them.
    modes: Annotated[tuple[Mode, ...], arg(metavar="MODE ...")] = ("mixed",)
    #: Virtual matching steps.
    unroll_steps: Annotated[int, arg(metavar="T")] = 2
    #: File to write all figures to.
    json: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: none)")] = None


def check(options: Options, batch_size: int) -> Chip:
    """Checks what can be checked before the compiler is there, and returns the chip."""
    check_ranges(options, *at_least(1, options, ("batch_size", "unroll_steps")))
    if any(number < 1 for number in options.devices):
        raise ValueError(f"--devices must be at least 1 (got {min(options.devices)})")
    check_divisible(batch_size, options.devices)
    check_can_be_written("json", options.json)
    return ahead_of_time.chip(options.topology)


def check_divisible(batch_size: int, numbers: Sequence[int]) -> None:
    """Raises a ValueError unless a batch can be divided over each number of devices."""
    for number in numbers:
        if batch_size % number:
            raise ValueError(
                f"--batch-size must be a multiple of each number of devices (got {batch_size} for "
                f"{number} devices)"
            )


def main(options: Options) -> int:
    """Compiles each program for each number of devices, and prints a line of the table for it."""
    batch_size = options.batch_size or BATCHES[options.setting]
    chip = check(options, batch_size)
    ahead_of_time.require_compiler()
    everything = ahead_of_time.described(options.topology)
    numbers = options.devices or (len(everything),)
    if max(numbers) > len(everything):
        raise ValueError(
            f"--devices must be at most {len(everything)} with --topology {options.topology} (got "
            f"{max(numbers)})"
        )
    check_divisible(batch_size, numbers)
    chosen = programs.setting(options.setting, options.precision)
    pairs = len(chosen.pairs)
    methods: dict[str, tuple[Method, bool]] = {
        programs.PLAIN: (baselines.scratch(chosen.target, optimizer=programs.SGD), False)
    }
    for mode in options.modes:
        name = programs.iteration(mode, options.unroll_steps, pairs)
        methods[name] = programs.l2t(chosen, mode, options.unroll_steps, pairs), True
    level = ahead_of_time.optimization_level()
    print(
        f"{chosen.words}, {chosen.side}x{chosen.side}, {pairs} pairs, batch {batch_size}, "
        f"{options.precision}; {options.topology}, compiled at {level}, not run; "
        f"jax {jax.__version__}, flax {flax.__version__}, optax {optax.__version__}\n"
    )
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    rows: list[dict[str, Any]] = []
    for number in numbers:
        for name, (method, sources) in methods.items():
            told(f"compiling: {name}, {number} device{'s' * (number > 1)}")
            begin = time.perf_counter()
            row: dict[str, Any] = {"devices": number, "program": name}
            try:
                step = ahead_of_time.compile_step(
                    method, chosen, batch_size, sources=sources, on=everything[:number]
                )
            except DoesNotFitError as error:
                rows.append(row | {"fits": False, "memory": str(error)})
                cells = [f"does not fit: {error}", *[""] * (len(HEAD) - 3)]
            else:
                least = ahead_of_time.least_seconds(step, chip, options.precision)
                rows.append(row | {"fits": True, "least_seconds": least} | fields(step))
                cells = shown(step, least)
            print(f"| {number} | {name} | {' | '.join(cells)} |", flush=True)
            told(f"compiled in {time.perf_counter() - begin:.0f} seconds")
    if options.json is not None:
        summary = {"topology": options.topology, "setting": options.setting, "batch": batch_size}
        files.write_json(options.json, summary | {"precision": options.precision, "programs": rows})
    return int(not all(row["fits"] for row in rows))


def fields(step: Step) -> dict[str, Any]:
    """All figures of a step by name."""
    return step._asdict() | {"operations": step.operations._asdict()}


def shown(step: Step, least: float) -> list[str]:
    """The cells of a step's row, after its devices and name."""
    counts = dict(step.operations.collectives)
    reduces = counts.pop("all-reduce", 0)
    others = ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
    memory = [f"{size / 2**20:.0f}" for size in (step.peak, step.arguments, step.temporaries)]
    return [
        *memory,
        f"{step.gflop:.0f}",
        f"{step.moved / 1e9:.2f}",
        f"{1e3 * least:.1f}",
        str(reduces),
        f"{step.operations.collective_bytes / 2**20:.1f}",
        others,
    ]


def told(text: str) -> None:
    """Prints the progress of a long compilation."""
    print(text, file=sys.stderr, flush=True)


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t compile", args=words)


if __name__ == "__main__":
    sys.exit(command())
