"""Show on the digits, in a few minutes, that what and where to transfer matters."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from tqdm import tqdm
from tyro.conf import arg

from l2t_jax import Variables, all_pairs, concatenate, join_variables
from l2t_jax.models import cifar_resnet

from .data import load
from .data.dataset import Dataset
from .data.in_memory import InMemory
from .data.splits import Splits, hold_out, per_class
from .options import builders, cli
from .options.builders import Parts
from .options.checks import at_least, check_ranges
from .options.train_options import Config
from .reporting import transfer_plots
from .system import devices
from .training import jitted, loop, probe, schedules

SIZE = 8  # pixels, the size of scikit-learn's digits
COLOURS = ("red", "green")
make_source = partial(cifar_resnet, 14)
SOURCE, TARGET = make_source(10), cifar_resnet(8, classes=10)
# Chosen on validation data: among β in {0.5, 1, 2} for both methods, and two rates for l2t-ww.
BETA, META_LR = 1.0, 3e-3
# The last layer of each stage of both sources with the last of each stage of the target.
PAIRS = all_pairs([1, 3, 5, 7, 9, 11], [0, 1, 2])
RED_PAIRS = all_pairs([1, 3, 5], [0, 1, 2])
LAYERS = {6 * i + 2 * s + 1: f"{c} {s + 1}" for i, c in enumerate(COLOURS) for s in range(3)}


@dataclass(frozen=True)
class Options:
    """Show on the digits, in a few minutes, that what and where to transfer matters.

    Every picture has a red and a green digit.
    - One source network has learned to read the red digit from many pictures.
    - Another source network has learned to read the green digit.
    - The target network learns to read the red digit from ten pictures of each class.

    The target is trained by these methods:
    - scratch: without the sources.
    - fm: matched with both sources, all pairs of layers alike.
    - l2t-ww: matched with both sources, with learned weights.
    - fm, red source: matched with the red source only, as if you knew that it helps.

    And without a new network, from the source that does better on validation pictures:
    - probe: a new classifier on the frozen source's features.
    - finetune: the source itself, trained further.
    """

    #: Folder for the table and the pictures. It replaces those of an earlier demonstration.
    out: Annotated[Path, arg(metavar="FOLDER")] = Path("demo")
    #: Number of runs of each method. Their seeds count from 0.
    seeds: Annotated[int, arg(metavar="N")] = 3
    #: Passes over the target's training pictures.
    epochs: Annotated[int, arg(metavar="N")] = 40
    #: Number of pictures of each class that the target learns from.
    per_class: Annotated[int, arg(metavar="N")] = 10


class Outcome(NamedTuple):
    """One method's runs: test accuracies, seconds, and mean λ ``[seeds, epochs, pairs]``."""

    accuracies: list[float]
    seconds: float
    pair_weights: np.ndarray | None


def main(options: Options) -> int:
    """Runs the demonstration."""
    check_ranges(options, *at_least(1, options, ("seeds", "epochs", "per_class")))
    digits, for_sources = hold_out(load.digits(SIZE), 0.5, seed=0)
    splits = [target_splits(digits, options.per_class, seed) for seed in range(options.seeds)]
    options.out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    transfer_plots.sample_pictures(options.out / "pictures.png", splits[0].train)
    sources = train_sources(for_sources)
    both, variables = concatenate([SOURCE, SOURCE]), join_variables(sources)

    def outcome(name: str, parts: Parts, variables: Variables | None) -> Outcome:
        config = Config(method=name, beta=BETA, meta_lr=META_LR)
        return run_method(config, parts, variables, splits, options)

    probed, best = run_probe(sources, splits)
    outcomes = {
        "scratch": outcome("scratch", Parts(None, TARGET), None),
        "fm": outcome("fm", Parts(both, TARGET, PAIRS), variables),
        "l2t-ww": outcome("l2t-ww", Parts(both, TARGET, PAIRS), variables),
        "fm, red source": outcome("fm", Parts(SOURCE, TARGET, RED_PAIRS), sources[0]),
        "probe": probed,
        "finetune": outcome("finetune", Parts(SOURCE, SOURCE), sources[best]),
    }
    report(options.out, options, outcomes, time.perf_counter() - begin)
    return 0


def two_digits(digits: Dataset, seed: int, copies: int = 1) -> list[Dataset]:
    """Pictures that each have a red and a green digit; each copy has every digit once in red.

    Returns:
      The same pictures twice: labelled by the red digit, and by the green one.
    """
    generator = np.random.default_rng(seed)
    red = np.tile(np.arange(len(digits.labels)), copies)
    green = np.concatenate([generator.permutation(len(digits.labels)) for _ in range(copies)])
    images = np.zeros((len(red), SIZE, SIZE, 3), np.uint8)
    for channel, digit in enumerate((red, green)):
        images[..., channel] = digits.images[digit, ..., 0]
    return [Dataset(images, digits.labels[digit], digits.classes) for digit in (red, green)]


def target_splits(digits: Dataset, count: int, seed: int) -> Splits[Dataset]:
    """The target's data: a quarter of the digits to train, one to validate, a half to test."""
    rest, test = hold_out(digits, 0.5, seed)
    train, validation = hold_out(rest, 0.5, seed)
    train = per_class(train, count, seed)
    train, validation, test = (
        two_digits(part, seed + i)[0] for i, part in enumerate((train, validation, test))
    )
    return Splits(train, validation, test)


def train_sources(digits: Dataset) -> list[Variables]:
    """Source networks that each read the digit of one colour."""
    method = builders.scratch(Config(method="scratch"), Parts(None, SOURCE))
    device = devices.one_device()
    compiled = jitted.compile_method(method, SOURCE, device)

    def train_one(number: int, colour: str) -> Variables:
        train, test = (
            two_digits(part, seed=number, copies=copies)[number]
            for part, copies in zip(hold_out(digits, 0.2, seed=0), (3, 1), strict=True)
        )
        training = InMemory(train, device, batch_size=32, seed=number, augment=False)
        schedule = loop.Schedule(6, schedules.cosine(0.1, 6), seed=number)
        with tqdm(total=6 * training.steps, desc=f"source: {colour} digit", unit="step") as bar:
            given = compiled, None, training, test, test, schedule
            result = loop.train(*given, on_step=lambda step, info: bar.update())
        print(f"source for the {colour} digit: {100 * result.test_accuracy:.1f} % right")
        return result.variables

    return [train_one(number, colour) for number, colour in enumerate(COLOURS)]


def run_probe(sources: list[Variables], splits: list[Splits[Dataset]]) -> tuple[Outcome, int]:
    """Probes every source on each seed's pictures.

    Returns:
      The outcome with the source that does best on the validation pictures, and its number.
    """
    begin = time.perf_counter()
    compiled = probe.compile_probe(make_source, (SIZE, SIZE, 3), devices.one_device())
    results = [
        [
            probe.train(compiled, source, (parts.train, parts.validation, parts.test))
            for parts in splits
        ]
        for source in sources
    ]
    validation = [sum(result.best_epoch.val_accuracy for result in each) for each in results]
    best = int(np.argmax(validation))
    accuracies = [result.test_accuracy for result in results[best]]
    return Outcome(accuracies, time.perf_counter() - begin, None), best


def run_method(
    config: Config,
    parts: Parts,
    variables: Variables | None,
    splits: list[Splits[Dataset]],
    options: Options,
) -> Outcome:
    """Trains the target by one method, once with each seed."""
    build = config.entry().build
    assert build is not None
    device = devices.one_device()
    compiled = jitted.compile_method(build(config, parts), parts.target, device)
    batch_size = len(splits[0].train.labels) // 2
    begin, accuracies, weights = time.perf_counter(), [], []
    name = f"{config.method}, {len(parts.pairs)} pairs" if parts.pairs else config.method
    with tqdm(total=2 * options.epochs * len(splits), desc=name, unit="step") as bar:
        for seed, data in enumerate(splits):
            result = loop.train(
                compiled,
                variables,
                InMemory(data.train, device, batch_size, seed, augment=False),
                data.validation,
                data.test,
                loop.Schedule(options.epochs, schedules.cosine(config.lr, options.epochs), seed),
                on_step=lambda step, info: bar.update(),
            )
            accuracies.append(result.test_accuracy)
            weights.append([epoch.train.get("pair_weights") for epoch in result.epochs])
    known = weights[0][0] is not None
    return Outcome(accuracies, time.perf_counter() - begin, np.array(weights) if known else None)


def report(folder: Path, options: Options, outcomes: dict[str, Outcome], seconds: float) -> None:
    """Prints and writes the table, and draws the pictures."""
    lines = ["| method | test accuracy, % | seconds |", "|---|---|---|"]
    for name, outcome in outcomes.items():
        percent = 100 * np.array(outcome.accuracies)
        spread = f" ± {percent.std(ddof=1):.1f}" if len(percent) > 1 else ""
        lines.append(f"| {name} | {percent.mean():.1f}{spread} | {outcome.seconds:.0f} |")
    seeds = (
        f"mean ± standard deviation over {options.seeds} seeds" if options.seeds > 1 else "one seed"
    )
    table = "\n".join(lines) + f"\n\n{options.per_class} pictures per class; {seeds}."
    (folder / "table.md").write_text(table + "\n", encoding="utf-8")
    learned = outcomes["l2t-ww"].pair_weights
    assert learned is not None
    history = learned.mean(axis=0)
    title = "l2t-ww on two digits, mean over seeds"
    epochs = range(1, options.epochs + 1)
    names = transfer_plots.Names(LAYERS, "target")
    transfer_plots.lambda_matrices(folder / "lambda.png", PAIRS, history, epochs, title, names)
    transfer_plots.matching_diagram(folder / "matching.png", PAIRS, history, title, names)
    print(f"\n{table}\n\n{seconds:.0f} seconds. Pictures in {folder}:")
    print("  pictures.png   what the target sees")
    print("  lambda.png     how much each source layer counts for each target layer, over training")
    print("  matching.png   the same after training, as lines between the layers")


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t demo", args=words)


if __name__ == "__main__":
    sys.exit(command())
