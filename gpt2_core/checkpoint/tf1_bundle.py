"""TensorFlow's V2 checkpoints, as OpenAI published GPT-2: `model.ckpt.index` and its `.data-0000i-of-0000n` files.

The index is a sorted table of blocks, in which each name leads to a BundleEntryProto: type, shape, file, offset, size
and a checksum. Source: tensorflow/core/protobuf/tensor_bundle.proto; the table format of LevelDB's documentation.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import GPT2Error
from .crc32c import crc32c
from .protobuf import fields, varint
from .tensor import STORAGE, Tensor, TensorFile

INDEX_SUFFIX = ".index"
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")  # how the index ends
_FOOTER = 48  # bytes
_TRAILER = 5  # of each block: how it is compressed, and a checksum
_LONGEST_NAME = 4096  # bytes; rows that each lengthen the one before could fill any memory
_MAX_INDEX = 5_000_000  # bytes; that of XL has 50,000, and its optimizer's as many
_DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 9: "int64", 10: "bool", 14: "bfloat16",
    17: "uint16", 19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip


class Entry(NamedTuple):
    """What the index says of one tensor."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool


def read_index(file: TensorFile) -> tuple[int, dict[str, Entry]]:
    """Returns the number of data files, and name -> Entry, of an open `model.ckpt.index`."""
    if file.size > _MAX_INDEX:
        raise GPT2Error(f"{file.path} has {file.size} bytes; {_MAX_INDEX} are read of an index at most")
    data = file.bytes_at(0, file.size)
    if len(data) < _FOOTER or data[-len(MAGIC) :] != MAGIC:
        raise file.damaged("it does not end as an index does")
    try:
        return _entries(file.path, list(_table(data)))
    except GPT2Error:
        raise
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise file.damaged(f"its table cannot be read ({error})") from None


def data_files(index: Path, count: int) -> list[Path]:
    """Returns the paths of the data files that belong to an index."""
    stem = index.name.removesuffix(INDEX_SUFFIX)
    return [index.with_name(f"{stem}.data-{i:05d}-of-{count:05d}") for i in range(count)]


def bundle_tensor(file: TensorFile, name: str, entry: Entry) -> Tensor | None:
    """Returns the tensor that lies in an open data file, None where it holds no numbers (text, say)."""
    dtype = _DTYPES.get(entry.dtype)
    if dtype is None or entry.sliced:
        return None
    count = 1
    for length in entry.shape:
        count *= length
    if count * STORAGE[dtype].itemsize != entry.size or entry.offset + entry.size > file.size:
        raise file.damaged(f"{name!r} of shape {entry.shape} takes bytes {entry.offset} to {entry.offset + entry.size}")
    stored = file.tensor(dtype, entry.shape, entry.offset)

    @functools.cache
    def check() -> None:
        if _masked(crc32c(stored.pieces())) != entry.checksum:
            raise file.damaged(f"{name!r} does not match its checksum")

    return dataclasses.replace(stored, check=check)


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields key and value of every row of the table."""
    _, position = varint(data, len(data) - _FOOTER)  # the block of blocks about blocks, which is empty
    _, position = varint(data, position)
    left = len(data)
    for _, handle in _block(data, *_handle(data, position)):
        offset, size = _handle(handle, 0)
        left -= size
        if left < 0:
            raise ValueError("its blocks overlap")
        yield from _block(data, offset, size)


def _handle(data: bytes, position: int) -> tuple[int, int]:
    offset, position = varint(data, position)
    return offset, varint(data, position)[0]


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields key and value of each row; of a key only what differs from the one before is stored."""
    block, trailer = data[offset : offset + size], data[offset + size : offset + size + _TRAILER]
    if len(block) < size or len(trailer) < _TRAILER:
        raise ValueError(f"a block at byte {offset} does not end")
    if _masked(crc32c([np.frombuffer(block + trailer[:1], np.uint8)])) != int.from_bytes(trailer[1:], "little"):
        raise ValueError(f"a block at byte {offset} does not match its checksum")
    if trailer[0] != 0:
        raise ValueError(f"a block at byte {offset} is compressed, which TensorFlow's are not")
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")  # the places where keys are stored whole
    position, key = 0, b""
    while position < end:
        shared, position = varint(block, position)
        unshared, position = varint(block, position)
        length, position = varint(block, position)
        if shared + unshared > _LONGEST_NAME:
            raise ValueError(f"a row at byte {offset + position} has a name of {shared + unshared} bytes")
        if shared > len(key) or position + unshared + length > end:
            raise ValueError(f"a row at byte {offset + position} does not end")
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _entries(path: Path, rows: list[tuple[bytes, bytes]]) -> tuple[int, dict[str, Entry]]:
    table = dict(rows)
    if len(table) != len(rows):
        raise ValueError("a name stands in it twice")
    header = dict(fields(table.pop(b"", b"")))
    count = header.get(1, 0)
    if not isinstance(count, int) or not 0 < count < 100_000:
        raise ValueError(f"it says that it has {count!r} data files")
    if header.get(2, 0) != 0:
        raise GPT2Error(f"{path} was written on a machine with the other byte order, which is not read here")
    return count, {name.decode(): _entry(value) for name, value in table.items()}


def _entry(data: bytes) -> Entry:
    found = {1: 0, 2: b"", 3: 0, 4: 0, 5: 0, 6: 0, 7: None} | dict(fields(data))
    shape = []
    for number, dimension in fields(_as_bytes(found[2])):
        if number == 2:
            shape.append(_as_int(dict(fields(_as_bytes(dimension))).get(1, 0)))
    dtype, shard, offset, size, checksum = (_as_int(found[i]) for i in (1, 3, 4, 5, 6))
    if len(shape) > 32 or any(n >= 2**63 for n in (*shape, shard, offset, size)):
        raise ValueError("a tensor has a size below 0")
    return Entry(dtype, tuple(shape), shard, offset, size, checksum, sliced=found[7] is not None)


def _as_int(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError("a number is missing")
    return value


def _as_bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a message is missing")
    return value


def _masked(checksum: int) -> int:
    """Returns a checksum as it is stored, so that a checksum of what holds checksums is no trivial one."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
