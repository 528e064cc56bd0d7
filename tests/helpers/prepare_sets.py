"""Prepares miniatures by TensorFlow Datasets' own builders, as a process of its own.

python prepare_sets.py DATA_DIR NAME ... takes the archives from DATA_DIR/downloads/manual.
"""

import sys
from pathlib import Path

import without_tensorflow

from experiments.data.tfds import preparation


def prepare(name: str, data_dir: Path) -> None:
    """What a run advises to do; its builder would refuse archives of another checksum."""
    # Here, as pytest imports every file, and the stand-ins have to be there before.
    import tensorflow_datasets as tfds
    from etils import epath
    from tensorflow_datasets.core.download.checksums import compute_url_info

    tfds.disable_progress_bar()
    archives = epath.Path(data_dir) / "downloads" / "manual"
    builder = tfds.builder_cls(name)
    builder.url_infos = {
        url: compute_url_info(archives / info.filename) for url, info in builder.url_infos.items()
    }
    exec(preparation(name, data_dir))


if __name__ == "__main__":
    without_tensorflow.fill_in()
    for name in sys.argv[2:]:
        prepare(name, Path(sys.argv[1]))
