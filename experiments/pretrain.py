"""Train a source network of your own, for l2t train to transfer from."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import sys
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from tyro.conf import arg

from l2t_jax import baselines, output_shapes

from .data.load import short_name
from .networks import zoo
from .options import builders, cli
from .options.descriptions import NETWORKS
from .options.run_options import RunOptions
from .runs import layout, recorded_training, run, tracking, trained_network
from .system import devices
from .training import jitted, schedules


@dataclass(frozen=True)
class Choice:
    """What to train; a class of its own so that --help begins with it."""

    network: Annotated[str, arg(metavar="NETWORK", help=f"Network to train: {NETWORKS}.")] = (
        "resnet32"
    )


@dataclass(frozen=True)
class Options(RunOptions, Choice):
    """Train a source network of your own, for l2t train to transfer from.

    The weights go to source.safetensors in the run's folder:
    - They are those of the epoch with the best validation accuracy.
    - Give them to l2t train as --source-weights.

    Example:
      l2t pretrain --network resnet32 --data tinyimagenet --data-dir data
    """

    #: Learning rate of SGD at the start. A tenth of it is used after half of the epochs, and a
    #: hundredth after three quarters.
    lr: float = 0.1

    def name(self) -> str:
        """The name of the run's folder where none is given."""
        return f"pretrain-{self.network}-{short_name(self.data)}-{self.seed}"


def main(options: Options) -> int:
    """Trains as configured, and writes config, metrics and weights to the run folder."""
    zoo.find(options.network, options.precision)  # before all else, for a mistyped name
    if run.is_done(options):
        return 0
    everywhere, splits = run.prepare(options)
    network = zoo.network(options.network, len(splits.train.classes), options.precision)
    images = jax.ShapeDtypeStruct((options.batch_size, *splits.train.image_shape), jnp.float32)
    # Images that the network cannot take end the command before anything is written.
    output_shapes(network, jax.eval_shape(network.init, jax.random.key(0), images), images)
    method = baselines.scratch(network, optimizer=builders.sgd(options))
    compiled = jitted.compile_method(method, network, everywhere, drop=options.skip_nonfinite > 0)
    what = f"pretraining {options.network}"
    rate = schedules.step_decay(options.lr, options.epochs)
    trained = trained_network.describe(options.network, layout.SOURCE, options, splits)
    with (
        run.opened(options, splits, everywhere, trained, what),
        tracking.opened(options) as tracked,
    ):
        result = recorded_training.train(options, compiled, None, splits, rate, tracked=tracked)
        done = options, trained, result, splits, everywhere
        devices.on_first_process(lambda: run.finish(*done))
    return 0


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t pretrain", args=words)


if __name__ == "__main__":
    sys.exit(command())
