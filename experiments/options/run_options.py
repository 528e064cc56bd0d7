"""The options that all training commands share: data, SGD, the run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import arg

from ..data import class_folders
from ..data.load import check_exists
from ..data.public_sets import is_public
from ..system import precision
from ..system.extra import is_installed
from .checks import at_least, check_ranges, finite, flag
from .descriptions import CROP_SHARE, CROP_SHARE_DEFAULT, DATA, IMAGE_SIZE, DataDir

# Options that the figures do not depend on: where files are, what it runs on, how it is kept. A
# preset's values count, not its name.
PLACES = {
    "preset",
    "config",
    *("run_dir", "data_dir", "coordinator", "processes", "process", "workers"),
    *("resume", "checkpoint_minutes", "log"),
}
# What --log may name: the module that it needs, and how that is installed.
LOGS = {
    "tensorboard": ("tensorboardX", 'pip install "l2t_jax[tensorboard]"'),
    "wandb": ("wandb", "pip install wandb"),
}
DATA_HELP = f"""Training images. Public sets have test images of their own. So has a folder
that has train/ and test/ (and val/), each with one folder a class.
{DATA}"""


@dataclass(frozen=True)
class RunOptions(ABC):
    """What to train on, how long and how fast, and where the results go."""

    IMAGES: ClassVar[tuple[str, ...]] = ("data", "test_data")

    data: Annotated[str, arg(metavar="DATA", help=DATA_HELP)] = "digits"
    data_dir: DataDir = Path("data")
    #: Test images, as a file or folder. Classes are matched by name.
    test_data: Annotated[
        str | None,
        arg(
            metavar="FILE.npz|FOLDER",
            help_behavior_hint="(default: a part of --data, see --test-fraction)",
        ),
    ] = None
    image_size: Annotated[int, arg(metavar="PIXELS", help=IMAGE_SIZE)] = 32
    #: Share of each class that is held out to test, unless there are test images.
    test_fraction: float = 0.2
    #: Share of each class's other images that is held out to choose the best epoch.
    val_fraction: float = 0.1
    #: Number of training images to take of each class.
    per_class: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all)")] = None
    #: How training images are augmented.
    #: - none: not at all.
    #: - crop-flip: pad by 4 pixels, crop back at random, mirror at random.
    #: - resized-crop: crop 8 to 100 % of a folder's image, scale to --image-size, mirror at random.
    #: - auto: resized-crop where workers decode, none for the digits, else crop-flip.
    augment: Literal["auto", "none", "crop-flip", "resized-crop"] = "auto"
    #: When images are decoded.
    #: - memory: all before training. The training images then stay on the device.
    #: - workers: when they are needed, for a folder's images. Worker processes decode the training
    #: images.
    #: - auto: as --augment needs it. Else workers for a folder from --image-size 128 on, or if the
    #: decoded training images take over 2 GiB. Else memory.
    loader: Literal["auto", "memory", "workers"] = "auto"
    #: Number of processes that decode training images. With 0, a thread of this process does.
    workers: Annotated[int, arg(metavar="N")] = 4
    crop_share: Annotated[
        float | None,
        arg(metavar="FLOAT", help=CROP_SHARE, help_behavior_hint=CROP_SHARE_DEFAULT),
    ] = None

    #: Passes over the training images.
    epochs: Annotated[int, arg(metavar="N")] = 200
    #: End after this number of epochs without a better validation accuracy. The learning rate falls
    #: as if all epochs followed.
    patience: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: train all epochs)")
    ] = None
    #: Images in one step. They are divided over all devices. The last batch of an epoch is filled
    #: up with images from the epoch's beginning.
    batch_size: Annotated[int, arg(metavar="N")] = 128
    #: Learning rate of SGD at the start. It is constant in an epoch.
    lr: float = 0.1
    #: Momentum of SGD.
    momentum: float = 0.9
    #: Weight decay of SGD. It is coupled, which means that it is added to the gradients.
    weight_decay: float = 1e-4
    #: Type that the operands of products are rounded to.
    #: - float32: not at all, on every device.
    #: - tensorfloat32: to 10 bits on a GPU; as exact or better elsewhere. An H100 takes less than
    #: half of the time.
    #: - bfloat16: to 7 bits, in the networks' convolutions. All else is as with float32. For TPUs:
    #: an H100 takes as long as with tensorfloat32.
    precision: precision.Name = "float32"
    #: Seed of the initialisation, the batches, the augmentation and the held-out parts.
    seed: int = 0
    #: Folder for config, metrics, checkpoints, weights and pictures. It must be new or empty, or
    #: have the same run, unfinished or finished.
    run_dir: Annotated[
        Path | None, arg(metavar="FOLDER", help_behavior_hint="(default: runs/WHAT-DATA-SEED)")
    ] = None

    #: File with options, in JSON or YAML: a run's config.json, or one written by hand. Options that
    #: are typed win. Of a run's file, --run-dir is left out.
    config: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: none)")] = None

    #: What to do if the folder has an unfinished run.
    #: - auto: resume it if it has the same options.
    #: - never: stop. The folder must be new or empty.
    resume: Literal["auto", "never"] = "auto"
    #: Minutes between two checkpoints within an epoch. There is one after each epoch too, at most
    #: one in a second.
    checkpoint_minutes: float = 5.0
    #: Tools that show the figures of each epoch, beside metrics.jsonl in the run's folder.
    #: - tensorboard: a file of events in the run's folder.
    #: - wandb: Weights & Biases, in the environment that wandb is set up for.
    log: Annotated[
        tuple[Literal["tensorboard", "wandb"], ...],
        arg(metavar="TOOL ...", help_behavior_hint="(default: none)"),
    ] = ()
    #: Number of batches that may be dropped because their loss or gradient is infinite or NaN. The
    #: next such batch ends the run.
    skip_nonfinite: Annotated[int, arg(metavar="N")] = 0

    #: To train with several processes, on one machine or on many, start this command in each.
    #: - HOST:PORT: the address of process 0, which writes the files. Give --processes and --process
    #: too.
    #: - auto: JAX finds the other processes itself, as under Slurm and on TPU pods.
    coordinator: Annotated[
        str | None,
        arg(metavar="HOST:PORT|auto", help_behavior_hint="(default: this process alone)"),
    ] = None
    #: Number of processes, with --coordinator HOST:PORT.
    processes: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: none)")] = None
    #: Number of this process, counted from 0, with --coordinator HOST:PORT.
    process: Annotated[int | None, arg(metavar="I", help_behavior_hint="(default: none)")] = None

    @property
    def takes_steps(self) -> bool:
        """Whether it trains in steps, each on a batch."""
        return True

    def check(self) -> None:
        """Raises a ValueError for values outside their range, before anything is read."""
        share = self.crop_share
        check_ranges(
            self,
            *at_least(8, self, ("image_size",)),
            *at_least(1, self, ("per_class", "epochs", "patience", "batch_size")),
            *at_least(0, self, ("workers", "skip_nonfinite")),
            ("test_fraction", 0 < self.test_fraction < 1, "between 0 and 1"),
            ("val_fraction", 0 < self.val_fraction < 1, "between 0 and 1"),
            ("momentum", 0 <= self.momentum < 1, "at least 0 and below 1"),
            ("crop_share", share is None or 0.01 <= share <= 1, "0.01 to 1"),
            ("seed", 0 <= self.seed < 2**32, "0 to 4294967295"),
            ("checkpoint_minutes", 0 < self.checkpoint_minutes < math.inf, "above 0 and finite"),
            *finite(self, ("lr", "weight_decay")),
        )
        fitting = {"workers": "resized-crop or none", "memory": "crop-flip or none"}
        if (self.loader, self.augment) in (("workers", "crop-flip"), ("memory", "resized-crop")):
            raise ValueError(
                f"--augment must be {fitting[self.loader]} with --loader {self.loader} (got "
                f"{self.augment})"
            )
        for name in self.log:
            module, install = LOGS[name]
            if not is_installed(module):
                raise ValueError(
                    f"--log {name} needs {module}, which is not installed; install it: {install}"
                )
        self._check_processes()

    def check_files(self) -> None:
        """Raises an error for the first option whose file does not exist, or is in the way.

        Raises:
          FileNotFoundError: a file does not exist.
          ValueError: the run's folder would be among the images.
        """
        self.check_data()
        self.check_apart()

    def check_data(self) -> None:
        """Raises a FileNotFoundError if the data or the test data do not exist."""
        for source in self.image_sources().values():
            check_exists(source)

    def check_apart(self) -> None:
        """Raises a ValueError if the run's folder lies in a folder of images.

        The run's pictures would become images, and its folder a class.
        """
        folder = self.folder()
        for name, source in self.image_sources().items():
            roots = class_folders.parts_of(source).values() or [Path(source)]
            if any(class_folders.looks_into(root, folder) for root in roots):
                raise ValueError(
                    f"--run-dir must not lie in {flag(name)} {source} (got {folder}), or its files "
                    "would be taken for images; give a folder elsewhere"
                )

    def image_sources(self) -> dict[str, str]:
        """The files and folders that options name as images, by the options' names."""
        given = {name: getattr(self, name) for name in self.IMAGES}
        return {k: v for k, v in given.items() if v is not None and not is_public(v)}

    def _check_processes(self) -> None:
        """Raises a ValueError unless the options for several processes belong together."""
        numbers = {"--processes": self.processes, "--process": self.process}
        words = ", ".join(f"{name} {value}" for name, value in numbers.items() if value is not None)
        if self.coordinator == "auto" and words:
            raise ValueError(
                f"--coordinator auto must be given alone (got {words}); leave that out"
            )
        if self.coordinator is None and words:
            raise ValueError(f"--coordinator must be given with {words} (got none)")
        if self.coordinator in (None, "auto"):
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"--coordinator must be HOST:PORT or auto (got {self.coordinator})")
        if self.processes is None or self.process is None:
            raise ValueError(
                "--processes and --process must be given with --coordinator "
                f"{self.coordinator} (got {words or 'neither'})"
            )
        if not 0 <= self.process < self.processes:
            raise ValueError(
                "--process must be at least 0 and below --processes "
                f"{self.processes} (got {self.process})"
            )

    @abstractmethod
    def name(self) -> str:
        """The name of the run's folder where none is given."""

    def folder(self) -> Path:
        """The run's folder."""
        return Path("runs") / self.name() if self.run_dir is None else self.run_dir
