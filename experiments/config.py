"""The options of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

MethodName = Literal["scratch", "fm", "l2t-w", "l2t-ww"]
WhereName = Literal["relu6", "relu", "relu-avg", "softplus", "elu", "sigmoid", "tanh", "constant"]


@dataclass(frozen=True)
class Config:
    """Train a target network on a small data set with the help of a frozen source network.

    Example: python -m experiments.train --method l2t-ww --data train.npz --test-data test.npz
    --source resnet32 --source-weights tinyimagenet200_resnet32.pth.tar --target vgg9_bn
    """

    #: scratch: the task's loss alone. fm: feature matching, all pairs and channels weighted
    #: alike. l2t-w: learns what (channel weights) to transfer on the given pairs. l2t-ww:
    #: learns what and where (pair weights).
    method: MethodName = "l2t-ww"

    #: Training images: scikit-learn's digits, an npz file with uint8 images [N,H,W,3] and
    #: labels [N], or a folder with one folder of images a class.
    data: Annotated[str, arg(metavar="digits|FILE.npz|FOLDER")] = "digits"
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

    #: Source network: resnetN, cifar-resnetN, vggN or vggN_bn.
    source: str = "resnet32"
    #: The source's trained weights: .pth, .pth.tar or .safetensors. Its number of classes is
    #: read off them. Needed by every method but scratch.
    source_weights: Annotated[Path | None, arg(metavar="FILE")] = None
    #: Target network: resnetN, cifar-resnetN, vggN or vggN_bn.
    target: str = "vgg9_bn"
    #: Pairs of source and target layers that may be matched. stages: the last layer of each
    #: map size with each such layer of the target. all: every layer with every layer.
    #: one-to-one: stages of equal map size. single: the last of those. Or a list such as
    #: 4-0,9-1 of source-target layer numbers. By default one-to-one for l2t-w, else stages.
    pairs: Annotated[str | None, arg(metavar="stages|all|one-to-one|single|M-N,...")] = None

    #: Passes over the training images.
    epochs: int = 200
    #: Images a step, divided over all devices. The last batch of an epoch is filled up with images
    #: of its beginning.
    batch_size: int = 128
    #: Learning rate of the inner SGD at the start; follows a cosine, constant in an epoch.
    lr: float = 0.1
    #: Momentum of the inner SGD.
    momentum: float = 0.9
    #: Coupled weight decay of the inner SGD, added to every gradient.
    weight_decay: float = 1e-4
    #: Factor of the matching loss.
    beta: float = 0.5
    #: T, virtual steps on the matching loss before the one on the task's loss.
    unroll_steps: int = 2
    #: Learning rate of Adam for the meta-networks.
    meta_lr: float = 1e-4
    #: Coupled weight decay of Adam for the meta-networks.
    meta_weight_decay: float = 1e-4
    #: Head of the pair weights' network; constant: one learned weight a pair.
    where: WhereName = "relu6"
    #: Bias that head starts with (but for constant).
    where_bias: float = 1.0
    #: Virtual steps. two-stage: T on the matching loss, one on the task's (the paper's).
    #: bilevel: T on the sum.
    scheme: Literal["two-stage", "bilevel"] = "two-stage"

    #: Of initialisation, batches, augmentation and held-out parts.
    seed: int = 0
    #: Where config, metrics, weights and pictures go; must be new or empty.
    #: runs/METHOD-DATA-SEED if not given.
    run_dir: Annotated[Path | None, arg(metavar="FOLDER")] = None

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
        ranges: list[tuple[str, float | None, bool, str]] = [
            ("image_size", self.image_size, self.image_size >= 8, "8 or more"),
            ("test_fraction", self.test_fraction, 0 < self.test_fraction < 1, "between 0 and 1"),
            ("val_fraction", self.val_fraction, 0 < self.val_fraction < 1, "between 0 and 1"),
            ("per_class", self.per_class or 1, (self.per_class or 1) > 0, "1 or more"),
            ("epochs", self.epochs, self.epochs > 0, "1 or more"),
            ("batch_size", self.batch_size, self.batch_size > 0, "1 or more"),
            ("unroll_steps", self.unroll_steps, self.unroll_steps >= 0, "0 or more"),
            ("momentum", self.momentum, 0 <= self.momentum < 1, "0 to below 1"),
            ("workers", self.workers, self.workers >= 0, "0 or more"),
            ("crop_share", share, share is None or 0 < share <= 1, "above 0, up to 1"),
            ("seed", self.seed, 0 <= self.seed < 2**32, "0 to 4294967295"),
        ] + [
            (name, getattr(self, name), 0 <= getattr(self, name) < math.inf, "0 or more, finite")
            for name in ("lr", "weight_decay", "beta", "meta_lr", "meta_weight_decay")
        ]
        for name, value, ok, wanted in ranges:
            if not ok:
                raise ValueError(f"--{name.replace('_', '-')} {value} came; wanted {wanted}")
        if not math.isfinite(self.where_bias):
            raise ValueError(f"--where-bias {self.where_bias} came; wanted a finite number")
        if self.method == "scratch" and self.source_weights is not None:
            raise ValueError("--method scratch with --source-weights came; it has no source")
        if self.method != "scratch" and self.source_weights is None:
            raise ValueError(
                f"--method {self.method} without --source-weights came; wanted the file with "
                f"the trained weights of {self.source}"
            )

        if (self.loader, self.augment) in (("workers", "crop-flip"), ("memory", "resized-crop")):
            raise ValueError(
                f"--loader {self.loader} with --augment {self.augment} came; wanted resized-crop "
                "or none with workers, crop-flip or none with memory"
            )
        self._check_processes()

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

    def pairs_or_default(self) -> str:
        """The pairs asked for, or the method's own choice."""
        return self.pairs or ("one-to-one" if self.method == "l2t-w" else "stages")

    def folder(self) -> Path:
        """The run's folder."""
        name = f"{self.method}-{Path(self.data).stem}-{self.seed}"
        return Path("runs") / name if self.run_dir is None else self.run_dir
