"""Image sets that TensorFlow Datasets (TFDS) has prepared, read without TensorFlow.

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
# TensorFlow Datasets needs more than itself to prepare a set.
INSTALL = 'pip install "l2t_jax[prepare]"'


class Published(NamedTuple):
    """How the published index lists find their images, which TFDS has shuffled.

    Attributes:
      lists: the set's name among them.
      feature: of an image, what sorts them as in the official order; None where there is none.
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
    """The encoded images of a part of a prepared set, by their position in it.

    Attributes:
      folder: of the prepared set.
      part: its name there.
      feature: the images' name in a record.
    """

    folder: Path
    part: str
    feature: str

    def open(self, position: int) -> io.BytesIO:
        """The encoded image; its file is opened in each process at the first call."""
        read = reader(self.folder, self.part, (self.feature,))
        return io.BytesIO(read(int(position))[self.feature])


def read(
    name: str, data_dir: Path, size: int, crop_share: float | None
) -> tuple[ImageFiles, ImageFiles]:
    """The training and the test part of a prepared set; its validation part where it has no test.

    Args:
      name: as in TFDS, ``NAME``, ``NAME/CONFIG``, and with ``:VERSION``; without one the highest.
      data_dir: the folder that holds it.
      size: side in pixels that images are brought to.
      crop_share: of the shorter side, how much the centre crop keeps, see
        `class_folders.list_folder`.

    Returns:
      Both: sets with published lists in their official order, others as they are stored.

    Raises:
      FileNotFoundError: it has not been prepared; says how it is.
      ValueError: TFDS is not installed, or the set is not one of images with classes.
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
    wanted = PUBLISHED.get(name.partition(":")[0])
    classes = tuple(info.features[label].names)
    share = crops.share_for(size, crop_share)
    parts = []
    for part in ("train", test):
        count = info.splits[part].num_examples
        key = wanted.feature if wanted else None
        get = reader(folder, part, (label, *([key] if key else [])))
        records = [get(i) for i in range(count)]
        labels = np.array([record[label] for record in records], np.int32)
        if not count or labels.min() < 0 or labels.max() >= len(classes):
            got = f"{labels.min()} to {labels.max()}" if count else "no image"
            raise ValueError(
                f"{folder}: labels of the part {part} must be 0 to {len(classes) - 1} (got {got})"
            )
        order = np.arange(count)
        if wanted:
            order = official_order(part, [record[key] for record in records] if key else count)
        files = ImageFiles(Records(folder, part, image), order, labels[order], classes, size, share)
        parts.append(files)
    return parts[0], parts[1]


def official_order(part: str, names: list[bytes] | int) -> np.ndarray:
    """Positions among the stored images, ``[N]``, of the first, second, … official one.

    Args:
      part: its name.
      names: of the stored images, or their number where they have no names. TFDS knew them by
        their official number then, and sorted them by a hash of part and number.
    """
    if not isinstance(names, int):
        paths = [name.decode().split("/")[-2:] for name in names]
        return np.array(sorted(range(len(paths)), key=paths.__getitem__))
    from tensorflow_datasets.core.hashing import Hasher

    stored = sorted(range(names), key=Hasher(part).hash_key)
    return np.argsort(stored)


def image_and_label(folder: Path, info: Any) -> tuple[str, str]:
    """Names of the image and of its class in a record; a ValueError where there are none."""
    keys, features = info.supervised_keys, tfds().features
    wanted = (features.Image, features.ClassLabel)
    if (
        keys is None
        or len(keys) != 2
        or any(key not in info.features for key in keys)
        or not all(isinstance(info.features[k], kind) for k, kind in zip(keys, wanted, strict=True))
        or np.dtype(info.features[keys[0]].np_dtype).kind != "u"  # others are no real PNG
    ):
        raise ValueError(
            f"{folder}: the set's supervised keys must be an image of whole numbers and its class "
            f"(got {keys} among {', '.join(info.features)})"
        )
    return keys


@cache
def reader(folder: Path, part: str, names: tuple[str, ...]) -> Callable[[int], dict[str, Any]]:
    """``position -> {name: value}`` of these features alone; images stay encoded."""
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
      FileNotFoundError: there is none; says how it is prepared.
      ValueError: TFDS knows no set of that name, or is not installed.
    """
    if not re.fullmatch(r"\w+(/[\w.-]+)?(:\d+\.\d+\.\d+)?", name):
        raise ValueError(
            f"{PREFIX}NAME must be a name such as {PREFIX}cifar100, with /CONFIG or :VERSION "
            f"behind it where the set has several (got {PREFIX}{name})"
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
            f"{root} (got neither)"
        ) from None
    archives = sorted({info.filename for info in builder.url_infos.values() if info.filename})
    by_hand = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    raise FileNotFoundError(
        f"{PREFIX}{name} must be prepared in {root} (got no such folder); run: {INSTALL} && "
        f"{command(name, data_dir)} (it downloads what is not in {data_dir}/downloads/manual: "
        f"{', '.join(archives) or by_hand or 'its archives'})"
    )


def command(name: str, data_dir: Path) -> str:
    """The command line that prepares a set; TFDS' own wants Apache Beam to start at all."""
    return f"python -c {shlex.quote(preparation(name, data_dir))}"


def preparation(name: str, data_dir: Path) -> str:
    """The Python code that prepares a set."""
    where = json.dumps(str(data_dir))
    return (
        f'import tensorflow_datasets as tfds; tfds.builder("{name}", data_dir={where}, '
        'file_format="array_record").download_and_prepare()'
    )


def tfds() -> Any:
    """TensorFlow Datasets, which imports TensorFlow only where it prepares.

    Raises:
      ValueError: it is not installed.
    """
    try:
        import tensorflow_datasets
        import tensorflow_datasets.public_api  # the former only logs what it lacks
    except ImportError as error:
        raise ValueError(
            f"{PREFIX}NAME needs TensorFlow Datasets, which cannot be imported ({error}); run: "
            f"{extra.INSTALL}"
        ) from None
    return tensorflow_datasets
