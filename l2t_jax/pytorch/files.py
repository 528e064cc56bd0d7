"""Reads PyTorch weight files from bytes, without torch and without running what is in them.

Three formats: legacy ``.pth`` streams (before PyTorch 1.6), zip ``.pth``, and safetensors. The
pickles in the first two may name nothing but tensors, storages and `OrderedDict`; any other name
is refused, and none is looked up. No size that a file declares is believed beyond its own size.
"""

from __future__ import annotations

import io
import reprlib
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from l2t_jax.pytorch import pickles
from l2t_jax.pytorch.hugging_face import torchvision_names
from l2t_jax.pytorch.prefixes import find_container, shown, without_prefixes
from l2t_jax.pytorch.tensors import BUILDERS, Storage, arrays, refer_to

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def read(data: bytes) -> Any:
    """Reads a weight file of any of the three formats.

    Args:
      data: the whole file.

    Returns:
      What was saved, usually a mapping from names to arrays, or a dictionary that holds one (see
      `find_state_dict`). Tensors become NumPy arrays that share memory where the tensors did.

    Raises:
      ValueError: the format is none of the three, the file is damaged, or it names anything but
        tensors and plain containers.

    Example:
      >>> import safetensors.numpy
      >>> read(safetensors.numpy.save({"w": np.zeros(2, np.float32)}))["w"].tolist()
      [0.0, 0.0]
    """
    # Before the others: it begins with a length, which may look like their marks.
    if len(data) > 8 and data[8:9] == b"{":
        return _guarded(_read_safetensors, data, "safetensors")
    if data[:4] == b"PK\x03\x04":
        return _guarded(_read_zip, data, "zip .pth")
    if data[:1] == b"\x80":
        return _guarded(_read_legacy, data, "legacy .pth")
    raise ValueError(
        f"a weight file must be a PyTorch .pth or a safetensors file (got one that begins with "
        f"{data[:8]!r})"
    )


def _guarded(reader: Callable[[bytes], Any], data: bytes, kind: str) -> Any:
    try:
        return reader(data)
    except ValueError:
        raise
    except MemoryError:
        raise
    # A damaged file can fail in any way; it ran nothing, so all of them mean the same.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"damaged {kind} file ({reason:.200})") from error


def _read_legacy(data: bytes) -> Any:
    storages: dict[str, Storage] = {}
    position = 0

    def find(dtype: np.dtype, key: str, size: int, view: Any) -> Storage:
        if view is not None:
            raise ValueError("the file holds views of storages, which PyTorch wrote before 0.4")
        return _same(storages.setdefault(key, Storage(dtype, size)), dtype, key, size)

    def load(max_steps: int = 100) -> Any:
        nonlocal position
        value, position = pickles.load(data, BUILDERS, refer_to(find), position, max_steps)
        return value

    if load() != LEGACY_MAGIC:
        raise ValueError("a pickle must have PyTorch's magic number (got one without)")
    if (protocol := load()) != LEGACY_PROTOCOL:
        raise ValueError(
            f"PyTorch's protocol must be {LEGACY_PROTOCOL} (got {reprlib.repr(protocol)})"
        )
    system = load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("a PyTorch file must be little-endian (got a big-endian one)")
    tree, keys = load(pickles.MAX_STEPS), load(pickles.MAX_STEPS)
    listed = isinstance(keys, list) and all(isinstance(key, str | int) for key in keys)
    if not listed or sorted(map(str, keys)) != sorted(storages):
        raise ValueError("the file's list of storages does not fit its tensors")
    for key in keys:
        storage = storages[str(key)]
        header, begin = data[position : position + 8], position + 8
        size = struct.unpack("<q", header)[0] if len(header) == 8 else -1
        position = begin + storage.size * storage.dtype.itemsize
        if size != storage.size or position > len(data):
            raise ValueError(f"storage {key} is cut short or of another size than announced")
        storage.values = np.frombuffer(data, storage.dtype, storage.size, begin).copy()
    return arrays(tree)


def _read_zip(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members, names = archive.infolist(), archive.namelist()
        roots = [name.split("/")[0] for name in names if name.split("/")[1:] == ["data.pkl"]]
        if len(roots) != 1:
            raise ValueError(
                "a zip file must be written by torch.save (got one without a data.pkl)"
            )
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("a zip file must be written by torch.save (got a compressed one)")
        # torch.save never compresses, so what the members declare is bounded by the file itself.
        if len(set(names)) < len(names) or sum(each.file_size for each in members) > len(data):
            raise ValueError("a zip file must be written by torch.save (got members that overlap)")
        order = f"{roots[0]}/byteorder"
        if order in names and archive.read(order) != b"little":
            raise ValueError("a PyTorch file must be little-endian (got a big-endian one)")
        storages: dict[str, Storage] = {}

        def find(dtype: np.dtype, key: str, size: int, _: Any) -> Storage:
            if key not in storages:
                raw = archive.read(f"{roots[0]}/data/{key}")
                if len(raw) != size * dtype.itemsize:
                    raise ValueError(
                        f"storage {key} must be {size} × {dtype} (got {len(raw)} bytes)"
                    )
                storages[key] = Storage(dtype, size)
                storages[key].values = np.frombuffer(raw, dtype).copy()
            return _same(storages[key], dtype, key, size)

        pickled = archive.read(f"{roots[0]}/data.pkl")
        return arrays(pickles.load(pickled, BUILDERS, refer_to(find)).value)


def _same(storage: Storage, dtype: np.dtype, key: str, size: int) -> Storage:
    if (storage.dtype, storage.size) != (dtype, size):
        raise ValueError(f"storage {key:.40} is described in two ways")
    return storage


def find_state_dict(tree: Any) -> dict[str, np.ndarray]:
    """Finds the mapping from parameter names to arrays in what a file holds.

    Args:
      tree: as from `read`: such a mapping, or dictionaries around one. Usual names of these, such
        as ``state_dict``, ``model`` or ``state_dict_ema``, are looked up; where there are both,
        averaged weights (``…_ema``) are not taken. Any other name is, where it is the only one.

    Returns:
      The mapping. Usual prefixes that all names share come off in any order, such as ``module.``
      (DataParallel, AveragedModel), ``_orig_mod.`` (torch.compile) and ``model.`` (Lightning).
      Names of Hugging Face's ResNets become torchvision's.

    Raises:
      ValueError: there is no such mapping.

    Example:
      >>> file = {"epoch": 3, "state_dict": {"model._orig_mod.a": np.zeros(1)}}
      >>> list(find_state_dict(file))
      ['a']
    """
    if not isinstance(tree, Mapping):
        raise ValueError(f"the file must hold a state dict (got a {type(tree).__name__})")
    found = find_container(tree, lambda value: isinstance(value, np.ndarray))
    arrays = {str(key): value for key, value in found.items() if isinstance(value, np.ndarray)}
    if not arrays:
        raise ValueError(
            "the file must hold named arrays, at its top or in one dictionary, such as state_dict "
            f"(got {shown(sorted(map(str, found)), 8) or 'nothing'})"
        )
    return torchvision_names(without_prefixes(arrays))


# safetensors' own types are those of NumPy: others are read as what ml_dtypes makes of them.
_SAFETENSORS = {
    **{f"F{8 * width}": np.dtype(f"f{width}") for width in (2, 4, 8)},
    **{f"I{8 * width}": np.dtype(f"i{width}") for width in (1, 2, 4, 8)},
    **{f"U{8 * width}": np.dtype(f"u{width}") for width in (1, 2, 4, 8)},
    "BOOL": np.dtype(bool),
    "C64": np.dtype(np.complex64),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in safetensors.deserialize(data):
        if tensor["dtype"] not in _SAFETENSORS:
            raise ValueError(
                f"tensors must be of a type that NumPy has ({name:.80} is {tensor['dtype']}). "
                "Convert them, such as to F32"
            )
        values = np.frombuffer(tensor["data"], _SAFETENSORS[tensor["dtype"]])
        arrays[name] = values.reshape(tensor["shape"])
    return arrays
