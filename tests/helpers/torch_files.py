"""Writes PyTorch's file formats without PyTorch, for tests of the readers."""

import io
import json
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from contextlib import contextmanager

import numpy as np

NAMES = {"float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


class Tensor:
    """A tensor that pickles as PyTorch's do."""

    def __init__(self, values: np.ndarray, strides: tuple[int, ...] | None = None) -> None:
        self.values = np.ascontiguousarray(values)
        self.strides = strides or tuple(s // values.itemsize for s in self.values.strides)

    def __reduce__(self):
        arguments = (Storage(self.values), 0, self.values.shape, self.strides, False, OrderedDict())
        return sys.modules["torch._utils"]._rebuild_tensor_v2, arguments


class Storage:
    def __init__(self, values: np.ndarray) -> None:
        self.values = values


class Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.storages: dict[str, np.ndarray] = {}

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        key = str(len(self.storages))
        self.storages[key] = obj.values.ravel()
        kind = getattr(sys.modules["torch"], NAMES[obj.values.dtype.name])
        return ("storage", kind, key, "cpu", obj.values.size)


@contextmanager
def pretended_torch():
    """Modules whose names pickle as PyTorch's."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        raise AssertionError

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = (
        utils.__name__,
        "_rebuild_tensor_v2",
    )
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in NAMES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    sys.modules |= {"torch": torch, "torch._utils": utils}
    try:
        yield
    finally:
        del sys.modules["torch"], sys.modules["torch._utils"]


def legacy(tree: object) -> bytes:
    """The stream that PyTorch wrote before 1.6."""
    file = io.BytesIO()
    for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(header, file, protocol=2)
    with pretended_torch():
        pickler = Pickler(file)
        pickler.dump(tree)
    pickle.dump(sorted(pickler.storages), file, protocol=2)
    for key in sorted(pickler.storages):
        values = pickler.storages[key]
        file.write(struct.pack("<q", values.size) + values.tobytes())
    return file.getvalue()


def zipped(tree: object, compression: int = zipfile.ZIP_STORED) -> bytes:
    """The zip file that PyTorch writes since 1.6."""
    pickled, file = io.BytesIO(), io.BytesIO()
    with pretended_torch():
        pickler = Pickler(pickled)
        pickler.dump(tree)
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, values in pickler.storages.items():
            archive.writestr(f"archive/data/{key}", values.tobytes())
    return file.getvalue()


def safetensors(arrays: dict[str, np.ndarray], kind: str) -> bytes:
    """The format of Hugging Face, with all arrays of one of its types."""
    header, end = {}, 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for a in arrays.values())
