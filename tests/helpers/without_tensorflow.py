"""What TensorFlow Datasets asks of TensorFlow and OpenCV to prepare a set, in Python and Pillow.

Its builders take from them how files are opened and listed and how PNGs are written and read. All
else that prepares a set (archives, examples, features, their order, records) is its own code.
"""

import importlib.util
import io
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO

import numpy as np
from PIL import Image


class OpenFile(io.FileIO):
    """A file that is read after its block has ended, too; so are TensorFlow's."""

    def __exit__(self, *error: object) -> None:
        pass


def open_file(name: str | os.PathLike, mode: str = "r") -> IO:
    return Path(name).open(encoding="utf-8") if mode == "r" else OpenFile(os.fspath(name), mode)


class Encoded(bytes):
    """An image's bytes, which TensorFlow hands out through a method."""

    def numpy(self) -> bytes:
        return bytes(self)


def encode_png(image: np.ndarray) -> Encoded:
    """The PNG of an image of whole numbers, ``[H, W, 1]`` or ``[H, W, 3]``."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return Encoded(file.getvalue())


def decode_grey(encoded: np.ndarray, flags: int) -> np.ndarray:
    """The grey picture ``[H, W]`` of a file's bytes."""
    assert flags == 0, "0 means grey"
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("L"))


def tensorflow() -> ModuleType:
    files = SimpleNamespace(
        GFile=open_file, exists=os.path.exists, listdir=os.listdir, remove=os.remove, walk=os.walk
    )
    module = ModuleType("tensorflow")
    module.__version__ = "2.21"
    module.executing_eagerly = lambda: True
    module.io = SimpleNamespace(gfile=files)
    module.image = SimpleNamespace(encode_png=encode_png)
    module.compat = SimpleNamespace(as_text=str)
    # Only named: where errors are caught, and where a value might be one of TensorFlow's.
    module.errors = SimpleNamespace(ResourceExhaustedError=OSError, UnimplementedError=OSError)
    module.Tensor = type("Tensor", (), {})
    module.dtypes = SimpleNamespace(DType=type("DType", (), {}))
    return module


def opencv() -> ModuleType:
    module = ModuleType("cv2")
    module.imdecode = decode_grey
    return module


STAND_INS: dict[str, Callable[[], ModuleType]] = {"tensorflow": tensorflow, "cv2": opencv}


def fill_in() -> None:
    """Puts a stand-in where one of the two is not installed."""
    for name, make in STAND_INS.items():
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = make()
            sys.modules[name].__spec__ = ModuleSpec(name, None)  # others look for it there
