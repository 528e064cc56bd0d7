"""Trains a source network, whose weights `experiments.train` takes."""

from __future__ import annotations

from .system import extra  # noqa: F401 - says what is not installed, before it is imported

# isort: split
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from l2t_jax import baselines, output_shapes

from .networks import zoo
from .options import builders, cli
from .options.run_options import RunOptions
from .runs import layout, recorded_training, run
from .system import devices
from .training import jitted, schedules


@dataclass(frozen=True)
class Choice:
    """What to train; a class of its own so that --help begins with it."""

    #: Network to train: resnetN, cifar-resnetN, vggN, vggN_bn or vit_SIZE_patchN, where
    #: SIZE is micro, tiny, small or base.
    network: str = "resnet32"


@dataclass(frozen=True)
class Options(RunOptions, Choice):
    """Train a source network on a data set, for the train command to transfer from.

    The best epoch's weights (by validation accuracy) go to the run folder's source.safetensors.

    Example: l2t pretrain --network resnet32 --data tinyimagenet --data-dir data
    """

    #: Learning rate of SGD at the start; a tenth of it from half of the epochs on, a hundredth
    #: from three quarters on.
    lr: float = 0.1

    def name(self) -> str:
        """What the run is called where it is given no folder."""
        return f"pretrain-{self.network}-{Path(self.data).stem}-{self.seed}"


def main(options: Options) -> int:
    """Trains as configured, and writes config, metrics and weights to the run folder."""
    zoo.find(options.network, options.precision)  # a mistyped name is told before all else
    if run.is_done(options):
        return 0
    everywhere, splits = run.prepare(options)
    network = zoo.network(options.network, len(splits.train.classes), options.precision)
    images = jax.ShapeDtypeStruct((options.batch_size, *splits.train.image_shape), jnp.float32)
    # Images that the network cannot take are told before anything is written.
    output_shapes(network, jax.eval_shape(network.init, jax.random.key(0), images), images)
    method = baselines.scratch(network, optimizer=builders.sgd(options))
    compiled = jitted.compile_method(method, network, everywhere, drop=options.skip_nonfinite > 0)
    what = f"pretraining {options.network}"
    rate = schedules.step_decay(options.lr, options.epochs)
    with run.opened(options, splits, everywhere, what):
        result = recorded_training.train(options, compiled, None, splits, rate)
        done = options, options.network, layout.SOURCE, result, splits, everywhere
        devices.on_first_process(lambda: run.finish(*done))
    return 0


def command(words: list[str] | None = None) -> int:
    """Runs the command line; that of the process if None."""
    return cli.run(main, Options, prog="l2t pretrain", args=words)


if __name__ == "__main__":
    sys.exit(command())
