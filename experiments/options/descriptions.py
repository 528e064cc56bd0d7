"""Options that several commands have: each with its type and its help text, once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ..data.public_sets import SETS
from ..networks import weight_files, zoo

DATA = f"""
- digits: scikit-learn's 1,797 handwritten digits.
- FILE.npz: an npz file with uint8 images [N,H,W,3] and labels [N].
- FOLDER: a folder with one folder of images for each class.
- {", ".join(SETS)}: a public set. Its unpacked official archive is in --data-dir.
- tfds:NAME: a set that TensorFlow Datasets has prepared in --data-dir.
""".strip()

NETWORKS = zoo.NAMES

WEIGHTS = f"a .pth, .pth.tar or .safetensors file, or {weight_files.FORM} on the Hugging Face Hub"

IMAGE_SIZE = "Side in pixels that the digits and the images of a folder are scaled to."

CROP_SHARE = (
    "Share of the shorter side that the centre crop keeps. It applies to a folder's images, "
    "but not to those that --augment resized-crop crops at random."
)
CROP_SHARE_DEFAULT = "(default: 0.875 from --image-size 128 on, else 1)"

DataDir = Annotated[
    Path,
    arg(
        metavar="FOLDER",
        help="Folder of the public sets' unpacked archives, or TensorFlow Datasets' own folder.",
    ),
]
RUN = arg(
    metavar="RUN",
    help="Folder of a run of l2t train or l2t pretrain. Of an unfinished one, the best epoch so "
    "far is taken.",
)
AnyRun = Positional[Annotated[Path, RUN]]
FinishedRun = Positional[
    Annotated[
        Path, arg(metavar="RUN", help="Folder of a finished run of l2t train or l2t pretrain.")
    ]
]
ForwardBatch = Annotated[
    int | None,
    arg(
        metavar="N",
        help="Images in one forward pass. They are divided over all devices.",
        help_behavior_hint="(default: 500, fewer above 128x128 pixels)",
    ),
]
