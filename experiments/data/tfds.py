"""Reads image sets that TensorFlow Datasets (TFDS) has prepared, without TensorFlow.

They lie below the data folder as ``NAME[/CONFIG]/VERSION``, in files of the array_record format.
"""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..system import extra
from . import crops
from .image_files import ImageFiles

PREFIX = "tfds:"
# To prepare a set, TensorFlow Datasets needs these packages, too.
INSTALL = 'pip install "l2t_jax[prepare]"'


class Published(NamedTuple):
    """How the published index lists find their images, although TFDS has shuffled them.

    Attributes:
      lists: the set's name among them.
      feature: the feature that sorts images in the official order; None if there is none.
    """

    lists: str
    feature: str | None


PUBLISHED = {
    "cifar100": Published("cifar100", "id"),
    "stl10": Published("stl10", None),
    "caltech_birds2011": Published("cub200", "image/filename"),
    "stanford_dogs": Published("dog", "image/filename"),
}


class Records(NamedTuple):
    """The encoded images of one part of a prepared set, by their position.

    Attributes:
      folder: the prepared set's folder.
      part: the part's name there.
      feature: the image's name in a record.
    """

    folder: Path
    part: str
    feature: str

    def open(self, position: int) -> io.BytesIO:
        """The encoded image. The first call in a process opens the set's files."""
        read = reader(self.folder, self.part, (self.feature,))
        return io.BytesIO(read(int(position))[self.feature])


def read(
    name: str, data_dir: Path, size: int, crop_share: float | None
) -> tuple[ImageFiles, ImageFiles]:
    """The training and the test part of a prepared set; without a test part the validation part.

    Args:
      name: ``NAME`` or ``NAME/CONFIG`` as in TFDS. ``:VERSION`` may follow; else the highest
        version is read.
      data_dir: the folder that holds it.
      size: side in pixels that images are scaled to.
      crop_share: how much of the shorter side the centre crop keeps; None for the default, see
        `crops.share_for`.

    Returns:
      Both parts: in the official order if the set has published lists, else as stored.

    Raises:
      FileNotFoundError: the set has not been prepared; the message says how to prepare it.
      ValueError: TFDS is not installed, or the set does not consist of images with classes.
    """
    folder = find(name, data_dir)
    info = tfds().builder_from_directory(folder).info
    if info.file_format is None or info.file_format.value != "array_record":
        raise ValueError(
            f"{folder}: files must be of the format array_record (got "
            f"{info.file_format and info.file_format.value}); remove the folder, then: "
            f"{command(name, data_dir)}"
        )
    image, label = image_and_label(folder, info)
    test = "validation" if "test" not in info.splits and "validation" in info.splits else "test"
    if missing := {"train", test} - set(info.splits):
        raise ValueError(
            f"{folder}: the set must have {' and '.join(sorted(missing))} (got the parts "
            f"{', '.join(info.splits)})"
        )
    lists = PUBLISHED.get(name.partition(":")[0])
    classes = tuple(info.features[label].names)
    share = crops.share_for(size, crop_share)
    parts = []
    for part in ("train", test):
        count = info.splits[part].num_examples
        key = lists.feature if lists else None
        get = reader(folder, part, (label, *([key] if key else [])))
        records = [get(i) for i in range(count)]
        labels = np.array([record[label] for record in records], np.int32)
        if not count or labels.min() < 0 or labels.max() >= len(classes):
            got = f"{labels.min()} to {labels.max()}" if count else "no image"
            raise ValueError(
                f"{folder}: labels of the part {part} must be 0 to {len(classes) - 1} (got {got})"
            )
        order = np.arange(count)
        if lists:
            order = official_order(part, [record[key] for record in records] if key else count)
        files = ImageFiles(Records(folder, part, image), order, labels[order], classes, size, share)
        parts.append(files)
    return parts[0], parts[1]


def official_order(part: str, names: list[bytes] | int) -> np.ndarray:
    """Positions among the stored images, ``[N]``, of the first, second, … official one.

    Args:
      part: its name.
      names: names of the stored images; or their number if they have no names. Without names TFDS
        has sorted them by a hash of the part and their official number.
    """
    if not isinstance(names, int):
        paths = [name.decode().split("/")[-2:] for name in names]
        return np.array(sorted(range(len(paths)), key=paths.__getitem__))
    from tensorflow_datasets.core.hashing import Hasher

    stored = sorted(range(names), key=Hasher(part).hash_key)
    return np.argsort(stored)


def image_and_label(folder: Path, info: Any) -> tuple[str, str]:
    """Names of the image and of its class in a record; a ValueError if there are none."""
    keys, features = info.supervised_keys, tfds().features
    kinds = (features.Image, features.ClassLabel)
    if (
        keys is None
        or len(keys) != 2
        or any(key not in info.features for key in keys)
        or not all(isinstance(info.features[k], kind) for k, kind in zip(keys, kinds, strict=True))
        or np.dtype(info.features[keys[0]].np_dtype).kind != "u"  # others are not PNG
    ):
        raise ValueError(
            f"{folder}: the set's supervised keys must be an image of whole numbers and its class "
            f"(got {keys} among {', '.join(info.features)})"
        )
    return keys


@cache
def reader(folder: Path, part: str, names: tuple[str, ...]) -> Callable[[int], dict[str, Any]]:
    """``position -> {name: value}`` of only these features. Images stay encoded."""
    library = tfds()
    builder = library.builder_from_directory(folder)
    features = library.features.FeaturesDict({name: builder.info.features[name] for name in names})
    encoded = {
        name: library.decode.SkipDecoding()
        for name in names
        if isinstance(features[name], library.features.Image)
    }
    method = library.decode.DeserializeMethod.RAW_BYTES
    records = builder.as_data_source(part, deserialize_method=method)
    return lambda position: features.deserialize_example_np(records[position], decoders=encoded)


def find(name: str, data_dir: Path) -> Path:
    """The folder of a prepared set.

    Raises:
      FileNotFoundError: there is none; the message says how to prepare it.
      ValueError: TFDS knows no set of this name, or is not installed.
    """
    if not re.fullmatch(r"\w+(/[\w.-]+)?(:\d+\.\d+\.\d+)?", name):
        raise ValueError(
            f"{PREFIX}NAME must be a name such as {PREFIX}cifar100, optionally with /CONFIG and "
            f":VERSION behind it (got {PREFIX}{name})"
        )
    path, _, version = name.partition(":")
    root = data_dir / path
    found = {
        tuple(int(number) for number in folder.parent.name.split(".")): folder.parent
        for folder in root.glob(f"{version or '*'}/features.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", folder.parent.name)
    }
    if found:
        return found[max(found)]
    library = tfds()
    try:
        builder = library.builder_cls(path.split("/")[0])
    except library.core.registered.DatasetNotFoundError:
        raise ValueError(
            f"{PREFIX}{name} must be a name that TensorFlow Datasets knows, or a set prepared in "
            f"{root} (got neither); check the name and --data-dir"
        ) from None
    archives = sorted({info.filename for info in builder.url_infos.values() if info.filename})
    by_hand = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    raise FileNotFoundError(
        f"{PREFIX}{name} must be prepared in {root} (got no such folder); run: {INSTALL} && "
        f"{command(name, data_dir)} (it downloads what is not in {data_dir}/downloads/manual: "
        f"{', '.join(archives) or by_hand or 'the archives of the set'})"
    )


def command(name: str, data_dir: Path) -> str:
    """The command line that prepares a set. TFDS' own command needs Apache Beam to start."""
    return f"python -c {shlex.quote(preparation(name, data_dir))}"


def preparation(name: str, data_dir: Path) -> str:
    """The Python code that prepares a set."""
    where = json.dumps(str(data_dir))
    return (
        f'import tensorflow_datasets as tfds; tfds.builder("{name}", data_dir={where}, '
        'file_format="array_record").download_and_prepare()'
    )


def tfds() -> Any:
    """The module of TensorFlow Datasets. It imports TensorFlow only to prepare a set.

    Raises:
      ValueError: TensorFlow Datasets is not installed.
    """
    try:
        import tensorflow_datasets
        import tensorflow_datasets.public_api  # the package alone only logs missing modules
    except ImportError as error:
        raise ValueError(
            f"{PREFIX}NAME needs TensorFlow Datasets, which cannot be imported ({error}); run: "
            f"{extra.INSTALL}"
        ) from None
    return tensorflow_datasets
