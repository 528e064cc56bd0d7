"""Measure what one iteration costs, as ratios measured in one run.

It needs only jax, flax, optax, numpy and this project, so that it runs wherever they do.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import flax
import jax
import numpy as np
import optax

from .options.checks import check_can_be_written
from .system import precision
from .system.files import write_json
from .timing import loop_rate, programs
from .timing.programs import IN_TORCH, MATRICES, MODES, PLAIN, Program, Setting, iteration


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, and writes the figures to --json."""
    options, chosen = parse(arguments)
    with precision.products(options.precision):
        return compared(options, chosen)


def compared(options: argparse.Namespace, chosen: Setting) -> int:
    """Measures under the precision that was asked for."""
    pairs = len(chosen.pairs)
    wanted = [(mode, 2, pairs) for mode in options.modes]
    wanted += [(options.sweep, steps, pairs) for steps in options.steps]
    wanted += [(options.sweep, 2, number) for number in options.pairs]
    built: dict[str, Program] = {}
    for name, program in programs.build(
        chosen, options.batch, wanted, torch=options.peer == "torch"
    ):
        told(f"compiled: {name}")
        built[name] = program
    times = measure(built, options.repeats)
    print(
        f"{chosen.words}, {pairs} pairs, batch {options.batch}, {options.precision}; "
        f"{jax.devices()[0].device_kind}, Python {platform.python_version()}, jax "
        f"{jax.__version__}, flax {flax.__version__}, optax {optax.__version__}; median of "
        f"{options.repeats} interleaved runs\n"
    )
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = table(built, times, medians)
    summary: dict[str, Any] = {
        "setting": options.setting,
        "batch": options.batch,
        "precision": options.precision,
        "programs": rows,
    }
    summary |= ratios(built, medians, pairs)
    for what, counts, names in (
        ("T", options.steps, [iteration(options.sweep, t, pairs) for t in options.steps]),
        ("pairs", options.pairs, [iteration(options.sweep, 2, p) for p in options.pairs]),
    ):
        if len(counts) > 2:
            print(line(what, counts, [rows[name]["over_plain_step"] for name in names]))
    summary |= loop_beside_step(chosen, options)
    if options.json is not None:
        write_json(options.json, summary)
    return 0


def table(
    built: dict[str, Program], times: dict[str, list[float]], medians: dict[str, float]
) -> dict[str, dict[str, Any]]:
    """Prints a row for each program, and returns the rows' figures."""
    print(
        "| program | ÷ plain step | median, ms | least to most, ms | GFLOP | of the matrix "
        "product's rate, % | temporaries, MiB |"
    )
    print("|---|---|---|---|---|---|---|")
    gflop = built[MATRICES].gflop
    best = None if gflop is None else gflop / medians[MATRICES]
    rows = {}
    for name, program in built.items():
        share = None
        if program.gflop is not None and best is not None:
            share = program.gflop / medians[name] / best
        values = [1e3 * value for value in times[name]]
        cells = [
            name,
            f"{medians[name] / medians[PLAIN]:.2f}",
            f"{1e3 * medians[name]:.1f}",
            f"{min(values):.1f}–{max(values):.1f}",
            "" if program.gflop is None else f"{program.gflop:.1f}",
            "" if share is None else f"{100 * share:.0f}",
            "" if program.temporaries is None else f"{program.temporaries / 2**20:.0f}",
        ]
        print(f"| {' | '.join(cells)} |")
        rows[name] = {
            "over_plain_step": medians[name] / medians[PLAIN],
            "milliseconds": values,
            "gflop": program.gflop,
            "share_of_matrix_rate": share,
            "temporaries": program.temporaries,
        }
    return rows


def ratios(built: dict[str, Program], medians: dict[str, float], pairs: int) -> dict[str, float]:
    """Prints and returns the ratios of the meta-gradients that were measured."""
    mixed, low, reverse, differences = (
        iteration(mode, 2, pairs)
        for mode in ("mixed", "low-memory", "reverse", "finite-difference")
    )
    found = {}
    if mixed in medians:
        found["iteration_over_plain_step"] = medians[mixed] / medians[PLAIN]
    if mixed in medians and reverse in medians:
        found["mixed_over_reverse"] = medians[mixed] / medians[reverse]
        print(f"\nmixed ÷ reverse: {found['mixed_over_reverse']:.2f}")
    if mixed in medians and low in medians:
        found["low_memory_over_mixed"] = medians[low] / medians[mixed]
        print(f"low-memory ÷ mixed: {found['low_memory_over_mixed']:.2f}")
    if mixed in medians and differences in medians:
        found["finite_difference_over_mixed"] = medians[differences] / medians[mixed]
        print(f"finite-difference ÷ mixed: {found['finite_difference_over_mixed']:.2f}")
    # PyTorch has one iteration; it stands beside that by the first of the modes.
    mode = next((mode for mode in MODES if iteration(mode, 2, pairs) in medians), None)
    for name in medians:
        if (own := name.removesuffix(IN_TORCH)) == name:
            continue
        ours = own.replace("iteration,", f"iteration, {mode},").removesuffix(", channels last")
        if ours in medians:
            found[f"pytorch_over_ours, {own}"] = medians[name] / medians[ours]
            print(f"PyTorch ÷ ours, {own}: {medians[name] / medians[ours]:.2f}")
    plain = built[PLAIN].temporaries
    if low in built and plain and (temporaries := built[low].temporaries):
        found["low_memory_temporaries_over_plain_step"] = temporaries / plain
        print(f"temporaries, low-memory ÷ plain step: {temporaries / plain:.2f}")
    return found


def line(what: str, counts: Sequence[int], values: Sequence[float]) -> str:
    """The straight line nearest to the ratios, and their largest distance from it."""
    slope, start = np.polyfit(counts, values, 1)
    residual = max(abs(start + slope * np.array(counts) - values) / values)
    return (
        f"iteration ÷ plain step: {start:.2f} + {slope:.2f} · {what}; the measured ratios are at "
        f"most {100 * residual:.0f} % from that"
    )


def loop_beside_step(chosen: Setting, options: argparse.Namespace) -> dict[str, float]:
    """Prints and returns the training loop's rate beside its bare step's."""
    in_loop, bare = loop_rate.seconds_per_step(
        chosen.target, chosen.side, options.batch, options.repeats
    )
    shares = [alone / whole for alone, whole in zip(bare, in_loop, strict=True)]
    rates = {"loop": statistics.median(in_loop), "bare step": statistics.median(bare)}
    print(
        "plain training, iterations a second: "
        + ", ".join(f"{name} {1 / seconds:.3f}" for name, seconds in rates.items())
        + f"; {100 * statistics.median(shares):.1f} % "
        f"({100 * min(shares):.1f}–{100 * max(shares):.1f}) turn by turn"
    )
    return {"loop_over_bare_step": statistics.median(shares)}


class Parser(argparse.ArgumentParser):
    """Prints errors in one line, as the other commands do."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"benchmark: error: {message} ({self.prog} --help lists all options)\n")


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Setting]:
    parser = Parser(prog="l2t benchmark", description=__doc__)
    parser.add_argument(
        "--setting", choices=["small", "large"], default="small",
        help="small: ResNet-32 to VGG-9-BN at 32x32 (default). large: ResNet-34 to ResNet-18 at "
        "224x224.",
    )  # fmt: skip
    parser.add_argument(
        "--batch", "--batch-size", type=positive, default=32, metavar="N",
        help="images in one step (default: 32)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=list(precision.PRODUCTS), default="float32",
        help="type of the products' operands; bfloat16: of convolutions (default: float32)",
    )  # fmt: skip
    parser.add_argument(
        "--repeats", type=positive, default=5, metavar="N",
        help="timed runs of each program (default: 5)",
    )  # fmt: skip
    parser.add_argument(
        "--modes", choices=MODES, nargs="*", default=list(MODES), metavar="MODE",
        help=f"meta-gradients to time: {', '.join(MODES)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=positive, nargs="*", default=[], metavar="T",
        help="also time the iteration with these numbers of virtual matching steps",
    )  # fmt: skip
    parser.add_argument(
        "--pairs", type=positive, nargs="*", default=[], metavar="P",
        help="also time the iteration with the last P pairs only",
    )  # fmt: skip
    parser.add_argument(
        "--sweep", choices=MODES, default="mixed",
        help="meta-gradient of --steps and --pairs (default: mixed)",
    )  # fmt: skip
    parser.add_argument(
        "--peer", choices=["torch"],
        help="also time the same programs in PyTorch (needs the small setting in float32)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write all figures to")
    options = parser.parse_args(arguments)
    chosen = programs.setting(options.setting, options.precision)
    if any(count > len(chosen.pairs) for count in options.pairs):
        given = " ".join(map(str, options.pairs))
        parser.error(f"--pairs must be at most {len(chosen.pairs)} (got {given})")
    if options.peer and (options.setting, options.precision) != ("small", "float32"):
        parser.error(
            "--peer torch must be given with --setting small and --precision float32 (got "
            f"{options.setting} and {options.precision})"
        )
    if options.peer and importlib.util.find_spec("torch") is None:
        parser.error("--peer torch needs PyTorch (not installed); pip install torch")
    try:
        check_can_be_written("json", options.json)
    except ValueError as error:
        parser.error(str(error))
    return options, chosen


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {value})")
    return value


def measure(built: dict[str, Program], repeats: int) -> dict[str, list[float]]:
    """Seconds of each program in each of ``repeats`` rounds, which run every program once."""
    times: dict[str, list[float]] = {name: [] for name in built}
    for program in built.values():
        program.call()
    for number in range(repeats):
        told(f"round {number + 1} of {repeats}")
        for name, program in built.items():
            begin = time.perf_counter()
            program.call()
            times[name].append(time.perf_counter() - begin)
    return times


def told(text: str) -> None:
    """Prints the progress of a long run."""
    print(text, file=sys.stderr, flush=True)


command = main


if __name__ == "__main__":
    sys.exit(command())
