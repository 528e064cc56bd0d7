"""Files that were made to run code, take memory or never end; none may be read."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

TEN_GB = 10 * 2**30


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


# A tuple of twice the tuple before it, and so on: a few bytes for 2**60 empty ones.
DOUBLED = b")" + b"q\x00h\x00\x86" * 60


def pickles(marker: Path) -> Iterator[tuple[str, bytes]]:
    """Pickles without their protocol; those that run something make the marker."""
    command = text(f"touch {marker}")
    code = text(f"open({str(marker)!r}, 'w')")
    for module, name, argument in [
        ("os", "system", command),
        ("posix", "system", command),
        ("nt", "system", command),
        ("subprocess", "getoutput", command),
        ("builtins", "eval", code),
        ("builtins", "exec", code),
        ("__builtin__", "eval", code),
        ("builtins", "getattr", code),
        ("collections", "OrderedDict.__init__.__globals__", code),
        ("torch", "load", code),
        ("torch._utils", "_import_dotted_name", code),
        ("numpy", "load", code),
    ]:
        named = f"c{module}\n{name}\n".encode()
        yield f"{module}.{name}", named + argument + b"\x85R."
        yield (
            f"{module}.{name} by strings",
            text(module) + text(name) + b"\x93" + argument + (b"\x85R."),
        )
        yield f"{module}.{name} as class", named + argument + b"\x85\x81."
        yield f"{module}.{name} in attributes", b"}" + text("a") + named + argument + b"\x85Rs."
    yield "INST", b"(" + command + b"ios\nsystem\n."
    yield "OBJ", b"(cos\nsystem\n" + command + b"o."
    yield "EXT", b"\x82\x01" + command + b"\x85R."
    tensor = tensor_of(4)
    state = b"N}" + text("shape") + b"J\xff\xff\xff\x7f\x85s" + text("strides") + b"K\x00\x85s\x86"
    yield "other attributes of a tensor", b"}" + text("w") + tensor + state + b"bs."
    for name in ("__code__", "__defaults__", "__dict__", "__class__"):
        changed = b"N}" + text(name) + text("x") + b"s\x86b."
        yield f"{name} of a function", b"ctorch._utils\n_rebuild_tensor_v2\n" + changed
        yield f"{name} of a class", b"ccollections\nOrderedDict\n" + changed
    yield "memo at 2**31 - 1", b"Nr\xff\xff\xff\x7f."
    yield "a string of 2**62 bytes", b"\x8d" + struct.pack("<Q", 2**62) + b"."
    yield "bytes of 2**62", b"\x8e" + struct.pack("<Q", 2**62) + b"."
    yield "a bytearray of 10 GB", b"\x96" + struct.pack("<Q", TEN_GB) + b"."
    yield "a frame of 2**62", b"\x95" + struct.pack("<Q", 2**62) + b"N."
    yield "an integer of 2 GB", b"\x8b\xff\xff\xff\x7f."
    yield "an integer of many digits", b"I" + b"9" * 200_000 + b"\n."
    yield "a key that is slow to hash", b"}" + DOUBLED + b"Ns."
    yield "a list of what is in it often", DOUBLED + b"."
    yield "an id that is slow to print", DOUBLED + b"Q."
    yield "in itself", b"]q\x00h\x00a."
    yield "deep", b"]" * 20_000 + b"a" * 19_999 + b"."
    yield "deep tuples", b")" + b"\x85" * 20_000 + b"."
    keys = b"".join(
        b"\x8a\x10" + (i * (2**61 - 1)).to_bytes(16, "little") + b"N" for i in range(50_000)
    )
    yield "keys of one hash", b"}(" + keys + b"u."
    pairs = b"](" + b"K\x01K\x02\x86" * 50_000 + b"eq\x00]("  # a list, remembered as 0
    yield "copies of a list", pairs + b"ctorch\nSize\nh\x00\x85R" * 20_000 + b"e."
    yield "many of a list", pairs + b"ccollections\nOrderedDict\nh\x00\x85R" * 20_000 + b"e."
    yield "many containers", b"](" + b"}" * 600_000 + b"e."
    yield "many steps", b"N" + b"q\x00" * 600_000 + b"."
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    yield "a storage of 10 GB", storage + b"\x8a\x05" + TEN_GB.to_bytes(5, "little") + b"tQ."


def tensor_of(size: int) -> bytes:
    """A pickled tensor of zeros, in storage 0."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    number = struct.pack("<i", size)
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"J" + number + b"tQK\x00J" + number
    ) + b"\x85K\x01\x85\x89NtR"


def weight_files(marker: Path) -> Iterator[tuple[str, bytes]]:
    """Legacy and zip files around each pickle, and safetensors with lies in their headers."""
    head = b"".join(
        pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    )
    zeros = bytes(16)
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    yield "legacy: a protocol that is slow to print", magic + b"\x80\x02" + DOUBLED[:121] + b"."
    for name, body in pickles(marker):
        tail = pickle.dumps(["0"], 2) + struct.pack("<q", 4) + zeros
        yield f"legacy: {name}", head + b"\x80\x02" + body + tail
        yield f"first: {name}", b"\x80\x02" + body
        yield f"zip: {name}", zip_of({"a/data.pkl": b"\x80\x02" + body, "a/data/0": zeros})
    repeated = b"](" + tensor_of(2**20) * 2_000 + b"e"
    yield (
        "zip: many views of a storage",
        zip_of(
            {"a/data.pkl": b"\x80\x02}" + text("w") + repeated + b"s.", "a/data/0": bytes(2**22)}
        ),
    )
    deflated = {"a/data.pkl": b"\x80\x02N."}
    yield "zip: deflated", zip_of(deflated, zipfile.ZIP_DEFLATED)
    yield "zip: nested", zip_of({"a/data.pkl": zip_of({"a/data.pkl": b"\x80\x02N."})})
    yield "zip: paths", zip_of({"../data.pkl": b"\x80\x02N.", "/etc/x": b"", "../../y": b""})
    yield "zip: bomb", bomb("a/data.pkl", b"\x80\x02N.")
    tensors = ({"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]} for size in HUGE)
    for header in ({"w": tensor} for tensor in tensors):
        yield f"safetensors: {header}", safetensors_of(json.dumps(header).encode())
    over = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    yield "safetensors: overlap", safetensors_of(json.dumps({"a": over, "b": over}).encode())
    none = {"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]}
    yield "safetensors: empty", safetensors_of(json.dumps({"fc.weight": none}).encode(), b"")
    yield "safetensors: deep", safetensors_of(b'{"a":' + b"[" * 100_000)
    for length in HUGE:
        yield f"safetensors: header of {length}", struct.pack("<Q", length) + b"{}" + zeros


HUGE = (2**31, 2**32, 2**40, 2**61, 2**63 - 1)


def safetensors_of(header: bytes, values: bytes = bytes(8)) -> bytes:
    return struct.pack("<Q", len(header)) + header + values


def zip_of(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def bomb(name: str, begin: bytes, blocks: int = 240, declared: int | None = None) -> bytes:
    """A zip file of one member, deflated: the beginning, then 16 MiB of zeros a block."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = deflate.compress(begin) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(bytes(2**24)) + deflate.flush(zlib.Z_FULL_FLUSH)
    content = first + block * blocks + deflate.flush()
    size = len(begin) + 2**24 * blocks if declared is None else declared
    sizes = struct.pack("<III", 0, len(content), size)
    common = struct.pack("<HHHHH", 20, 0, zipfile.ZIP_DEFLATED, 0, 33) + sizes
    local = b"PK\x03\x04" + common + struct.pack("<HH", len(name), 0) + name.encode() + content
    central = b"PK\x01\x02" + struct.pack("<H", 20) + common
    central += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name.encode()
    end = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + b"PK\x05\x06" + end


def npy(shape: str, kind: str = "|u1", values: bytes = b"") -> bytes:
    """An npy file with any text as its shape."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values


def image_files(marker: Path) -> Iterator[tuple[str, bytes]]:
    """npz files."""
    labels = npy("(2,)", values=b"\x00\x01")
    objects = io.BytesIO()
    np.save(objects, np.array([Calls(print), None]), allow_pickle=True)
    start = objects.getvalue()[: objects.getvalue().index(b"\x80")]
    for name, body in pickles(marker):
        for member in ("images", "labels"):
            files = {"images.npy": npy("(2, 1, 1)", values=bytes(2)), "labels.npy": labels}
            content = start + b"\x80\x02" + body
            yield f"objects as {member}: {name}", zip_of({**files, f"{member}.npy": content})
    for size, kind in itertools.product((*HUGE, 2**64, 10**400), ("|u1", "<U1", "<U0", "|S0")):
        for member in ("images", "labels", "classes"):
            files = {"images.npy": npy("(2, 1, 1)", values=bytes(2)), "labels.npy": labels}
            files[f"{member}.npy"] = npy(f"({size},)", kind)
            yield f"{member} of {size:.3g} {kind}" if size < 2**70 else member, zip_of(files)
    for shape in (
        "(" * 4000,
        "-" * 9000 + "1",
        "[" * 9000,
        "(" + "1if 1else " * 900 + "1,)",
        "a.b",
    ):
        yield f"shape {shape[:9]}", zip_of({"images.npy": npy(shape), "labels.npy": labels})
    for compression in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        images = npy("(2, 2000, 2000)", values=bytes(8_000_000))
        yield f"compressed by {compression}", zip_of({"images.npy": images}, compression)
    for blocks, declared in ((240, None), (240, 100), (240, 2**26), (1, 2**32 - 1)):
        begin = npy(f"({blocks}, 4096, 4096)")
        yield f"bomb of {blocks} declared {declared}", bomb("images.npy", begin, blocks, declared)
    named = npy(f"({2**24},)", "|S1", b"a" * 2**24)
    files = {"images.npy": npy("(2, 1, 1)", values=bytes(2)), "labels.npy": labels}
    yield "many classes", zip_of({**files, "classes.npy": named}, zipfile.ZIP_DEFLATED)
    yield "nested", zip_of({"images.npy": zip_of(files), "labels.npy": labels})
    yield "paths", zip_of({"../images.npy": labels, "/etc/labels.npy": labels})
    yield "no array", zip_of({"images": b"text", "labels": b"text"})
