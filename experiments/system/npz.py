"""Reading npz files whose content nobody vouches for."""

from __future__ import annotations

import math
import re
import struct
import zipfile
from pathlib import Path

import numpy as np

# What an npz file's arrays may take together: so many times the file's own size, or so many bytes
# where that is more. Deflation reaches a thousand times; pictures stay far below ten.
EXPANSION, ALWAYS = 50, 128 * 2**20

# How arrays may be compressed, and how many bytes are unpacked at once. For LZMA zipfile does not
# limit what becomes of them, up to 7,000 of one; of bzip2 it could be a million: not read.
PIECES = {zipfile.ZIP_STORED: 2**20, zipfile.ZIP_DEFLATED: 2**20, zipfile.ZIP_LZMA: 2**12}
# The header of an array of numbers or texts, as NumPy writes it; of no more bytes than it reads.
HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[biufcSU]\d{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \(([\dL, ]*)\),? ?\} *\n?"
)
MAX_HEADER = 10_000


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an npz file, without unpickling anything.

    Every array is read whole, so that its checksum is compared, and none takes more memory than
    the archive's members declare (see `EXPANSION`).

    Raises:
      ValueError: the file is no npz file of plain arrays, or is damaged.
      OSError: it cannot be read.
    """
    try:
        with path.open("rb") as raw, zipfile.ZipFile(raw) as archive:
            check_members(archive.infolist(), path.stat().st_size)
            return {
                member.filename.removesuffix(".npy"): array_of(content(archive, member))
                for member in archive.infolist()
            }
    except (OSError, MemoryError):
        raise
    # A damaged archive can fail in any way; it ran nothing, so all of them mean the same.
    except Exception as error:
        reason = f"{error or type(error).__name__}"
        raise ValueError(f"{path} is no npz file of plain arrays: {reason:.300}") from None


def check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    """Raises a ValueError unless an archive of so many bytes can be what its members declare."""
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise ValueError("two of its arrays have the same name")
    for member in members:
        if member.compress_type not in PIECES:
            raise ValueError(f"{member.filename:.40} is compressed neither by deflate nor by LZMA")
        if member.compress_size > size or not 0 <= member.header_offset < size:
            raise ValueError(f"{member.filename:.40} lies outside the file of {size} bytes")
    total, limit = sum(member.file_size for member in members), max(EXPANSION * size, ALWAYS)
    if total > limit:
        raise ValueError(
            f"arrays of {total} bytes came in a file of {size}; wanted at most {limit} (without "
            "compression there is no limit: np.savez)"
        )


def content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytearray:
    """The bytes of an archive's member, as many as it declares."""
    whole, read = bytearray(member.file_size), 0
    with archive.open(member) as stream:
        # In pieces: zipfile asks the file for as many bytes as it is asked for.
        while piece := stream.read(PIECES[member.compress_type]):
            whole[read : read + len(piece)] = piece
            read += len(piece)
    if read != member.file_size:
        raise ValueError(f"{member.filename:.40} is of another length than announced")
    return whole


def array_of(npy: bytearray) -> np.ndarray:
    """The array in an npy file, which takes all of it; a view of its bytes."""
    version = {b"\x01": "<H", b"\x02": "<I", b"\x03": "<I"}.get(bytes(npy[6:7]))
    if npy[:6] != b"\x93NUMPY" or version is None or len(npy) < 12:
        raise ValueError("a member came that is no array")
    (length,) = struct.unpack_from(version, npy, 8)
    begin = 8 + struct.calcsize(version) + length
    header = bytes(npy[begin - length : begin]) if length <= MAX_HEADER else b""
    if (match := HEADER.fullmatch(header)) is None:
        raise ValueError(f"an array of the form {header[:80]!r} came; wanted numbers or texts")
    dtype = np.dtype(match[1].decode())
    shape = tuple(int(digits) for digits in re.findall(rb"\d+", match[3]))
    if not dtype.itemsize or math.prod(shape) * dtype.itemsize != len(npy) - begin:
        raise ValueError(f"an array of the form {header[:80]!r} came with {len(npy) - begin} bytes")
    return np.ndarray(
        shape, dtype, buffer=npy, offset=begin, order="F" if match[2] == b"True" else "C"
    )
