"""The options that all training commands have: data, SGD, the run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from ..data.load import check_exists
from ..data.public_sets import SETS, is_public

# Where a run's files are, what it ran on and how it was kept, which its figures do not depend on.
PLACES = {
    *("run_dir", "data_dir", "coordinator", "processes", "process", "workers"),
    *("resume", "checkpoint_minutes"),
}
# What --data takes.
DATA = "|".join(("digits", "FILE.npz", "FOLDER", *SETS, "tfds:NAME"))


@dataclass(frozen=True)
class RunOptions(ABC):
    """What to train on, how long and how fast, and where the results go."""

    #: Training images: scikit-learn's digits, an npz file with uint8 images [N,H,W,3] and
    #: labels [N], a folder with one folder of images a class, or a public set by its name, whose
    #: unpacked official archive is below --data-dir; with tfds: before it, by its name in
    #: TensorFlow Datasets, which has prepared it there. Public sets come with their own test images
    #: and, where there is one, with the paper's split.
    data: Annotated[str, arg(metavar=DATA)] = "digits"
    #: Folder that the public sets' archives were unpacked into, or TensorFlow Datasets' own.
    data_dir: Annotated[Path, arg(metavar="FOLDER")] = Path("data")
    #: Test images of the same kind; held out from the training images if not given.
    test_data: Annotated[str | None, arg(metavar="FILE.npz|FOLDER")] = None
    #: Side in pixels that the digits and the images of a folder are brought to.
    image_size: int = 32
    #: Share of each class held out for testing, without --test-data.
    test_fraction: float = 0.2
    #: Share of each class's training images held out to choose the best epoch.
    val_fraction: float = 0.1
    #: Training images taken of each class; all of them if not given.
    per_class: int | None = None
    #: crop-flip: pad by 4 pixels, crop back at random, mirror at random. resized-crop: crop 8 to
    #: 100 % of a folder's image, scale to --image-size, mirror at random. auto: resized-crop where
    #: workers decode, none for digits, else crop-flip.
    augment: Literal["auto", "none", "crop-flip", "resized-crop"] = "auto"
    #: memory: all images are decoded first, the training images live on the device. workers: a
    #: folder's images are decoded when they are needed, the training images by processes. auto:
    #: workers for folders at --image-size 128 or more, or with over 2 GiB of decoded images.
    loader: Literal["auto", "memory", "workers"] = "auto"
    #: Processes that decode training images; 0: a thread of this one.
    workers: int = 4
    #: Of the shorter side of a folder's image, how much the centre crop keeps that is validated and
    #: tested on; 0.875 at --image-size 128 or more, else 1, if not given.
    crop_share: float | None = None

    #: Passes over the training images.
    epochs: int = 200
    #: Images a step, divided over all devices. The last batch of an epoch is filled up with images
    #: of its beginning.
    batch_size: int = 128
    #: Learning rate of SGD at the start; constant in an epoch.
    lr: float = 0.1
    #: Momentum of SGD.
    momentum: float = 0.9
    #: Coupled weight decay of SGD, added to every gradient.
    weight_decay: float = 1e-4
    #: What the operands of the networks' convolutions are rounded to; all else, such as weights,
    #: batch norms and losses, is float32. bfloat16 is faster on most accelerators.
    precision: Literal["float32", "bfloat16"] = "float32"
    #: Of initialisation, batches, augmentation and held-out parts.
    seed: int = 0
    #: Where config, metrics, checkpoints, weights and pictures go; a folder that is new, empty, or
    #: of the same run, broken off. If not given, one below runs, named after what is trained, the
    #: data and the seed.
    run_dir: Annotated[Path | None, arg(metavar="FOLDER")] = None

    #: auto: goes on with the run in its folder, if that was broken off and had the same options.
    #: never: wants a new or empty folder.
    resume: Literal["auto", "never"] = "auto"
    #: The run can be resumed from the end of every epoch, and within one from every so many
    #: minutes.
    checkpoint_minutes: float = 5.0
    #: A batch with an infinite loss or gradient, or one that is no number, ends the run. Up to so
    #: many are dropped instead.
    skip_nonfinite: Annotated[int, arg(metavar="N")] = 0

    #: To train with several processes, on one machine or on many, start this command in each with
    #: the address of the first, which writes the files. auto: jax finds the other processes by
    #: itself, as under Slurm and on TPU pods, without --processes and --process.
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT|auto")] = None
    #: Number of processes.
    processes: int | None = None
    #: Which of them this one is, from 0.
    process: int | None = None

    def check(self) -> None:
        """Raises a ValueError for values outside their range, before anything is read."""
        share = self.crop_share
        check_ranges(
            self,
            ("image_size", self.image_size >= 8, "8 or more"),
            ("test_fraction", 0 < self.test_fraction < 1, "between 0 and 1"),
            ("val_fraction", 0 < self.val_fraction < 1, "between 0 and 1"),
            ("per_class", self.per_class is None or self.per_class > 0, "1 or more"),
            ("epochs", self.epochs > 0, "1 or more"),
            ("batch_size", self.batch_size > 0, "1 or more"),
            ("momentum", 0 <= self.momentum < 1, "0 to below 1"),
            ("workers", self.workers >= 0, "0 or more"),
            ("crop_share", share is None or 0 < share <= 1, "above 0, up to 1"),
            ("seed", 0 <= self.seed < 2**32, "0 to 4294967295"),
            ("checkpoint_minutes", 0 < self.checkpoint_minutes < math.inf, "above 0, finite"),
            ("skip_nonfinite", self.skip_nonfinite >= 0, "0 or more"),
            *(finite(self, name) for name in ("lr", "weight_decay")),
        )
        if (self.loader, self.augment) in (("workers", "crop-flip"), ("memory", "resized-crop")):
            raise ValueError(
                f"--loader {self.loader} with --augment {self.augment} came; wanted resized-crop "
                "or none with workers, crop-flip or none with memory"
            )
        self._check_processes()

    def check_files(self) -> None:
        """Raises a FileNotFoundError for the first option that names a file that is not there."""
        for source in (self.data, self.test_data):
            if source is not None and not is_public(source):
                check_exists(source)

    def _check_processes(self) -> None:
        """Raises a ValueError unless the options for several processes belong together."""
        numbers = (self.processes, self.process)
        given = ", ".join(
            f"--{name} {getattr(self, name)}"
            for name in ("coordinator", "processes", "process")
            if getattr(self, name) is not None
        )
        if self.coordinator == "auto" and numbers != (None, None):
            raise ValueError(f"{given} came; wanted --coordinator auto alone")
        if self.coordinator in (None, "auto"):
            if numbers != (None, None):
                raise ValueError(f"{given} came; wanted --coordinator with them")
            return
        if self.processes is None or self.process is None:
            raise ValueError(f"{given} came; wanted --processes and --process with it")
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"--coordinator {self.coordinator} came; wanted HOST:PORT or auto")
        if not 0 <= self.process < self.processes:
            raise ValueError(f"{given} came; wanted a process from 0 to --processes less 1")

    @abstractmethod
    def name(self) -> str:
        """What the run is called where it is given no folder."""

    def folder(self) -> Path:
        """The run's folder."""
        return Path("runs") / self.name() if self.run_dir is None else self.run_dir


Range = tuple[str, bool, str]


def check_ranges(options: RunOptions, *ranges: Range) -> None:
    """Raises a ValueError for the first option whose range (name, whether kept, wanted) is left."""
    for name, kept, wanted in ranges:
        if not kept:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} {getattr(options, name)} came; wanted {wanted}")


def finite(options: RunOptions, name: str) -> Range:
    """The range of an option that is a number from 0 on."""
    return name, 0 <= getattr(options, name) < math.inf, "0 or more, finite"
