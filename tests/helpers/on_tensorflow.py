"""Prepares miniatures by TensorFlow Datasets' own builders; a process of its own, for TensorFlow.

python on_tensorflow.py DATA_DIR NAME ... takes the archives from DATA_DIR/downloads/manual.
"""

import sys
from pathlib import Path


def prepare(name: str, data_dir: Path) -> None:
    """What a run advises to do; its builder would refuse archives of another checksum."""
    # Here, as pytest looks for examples in every file, also where there is no TensorFlow.
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import compute_url_info

    builder = tfds.builder_cls(name)
    builder.url_infos = {
        url: compute_url_info(tfds.core.as_path(data_dir) / "downloads/manual" / info.filename)
        for url, info in builder.url_infos.items()
    }
    exec(tfds.preparation(name, data_dir))


if __name__ == "__main__":
    for name in sys.argv[2:]:
        prepare(name, Path(sys.argv[1]))
