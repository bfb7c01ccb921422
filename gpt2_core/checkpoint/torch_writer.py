"""pytorch_model.bin written without torch: a zip of raw numbers and of the pickle that names them.

torch.load reads it with weights_only=True. Source: the format notes in torch/serialization.py, PyTorch 2.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from .tensor import Tensor, in_order

_ROOT = "pytorch_model"
_TYPES = {
    "float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage", "bfloat16": "BFloat16Storage",
}  # fmt: skip
_ALIGNMENT = 64  # bytes, as torch has it, so that the numbers can be mapped into memory
_LOCAL_HEADER = 30
_PADDING = b"FB"  # the kind of the extra field that torch fills up with
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that zip has: the same weights make the same file
_LARGE = 2**31  # bytes, from which on a member is announced with 64 bits


def write_torch(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a state_dict in its order, a piece of a tensor in memory at a time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _write(archive, "data.pkl", _pickle(tensors))
        _write(archive, "byteorder", b"little")
        values = in_order(tensors.values())
        for number, (tensor, pieces) in enumerate(zip(tensors.values(), values, strict=True)):
            with _member(archive, f"data/{number}", tensor.nbytes) as member:
                for piece in pieces:
                    member.write(piece.view(np.uint8).data)
        _write(archive, "version", b"3\n")


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    with _member(archive, name, len(data)) as member:
        member.write(data)


def _member(archive: zipfile.ZipFile, name: str, size: int) -> IO[bytes]:
    """Returns a new member to write `size` bytes to, aligned as torch has it."""
    info = zipfile.ZipInfo(f"{_ROOT}/{name}", _DATE)
    info.file_size = size
    large = size >= _LARGE
    start = archive.fp.tell() + _LOCAL_HEADER + len(info.filename) + 4 + (20 if large else 0)  # type: ignore[union-attr]
    info.extra = _PADDING + struct.pack("<H", -start % _ALIGNMENT) + b"Z" * (-start % _ALIGNMENT)
    return archive.open(info, "w", force_zip64=large)


def _pickle(tensors: Mapping[str, Tensor]) -> bytes:
    """Returns the pickle, in protocol 2, of an OrderedDict of tensors whose numbers lie in data/0, data/1, …"""
    empty = b"ccollections\nOrderedDict\n)R"
    entries = b"".join(part for i, item in enumerate(tensors.items()) for part in _entry(i, *item, empty))
    return b"\x80\x02" + empty + b"(" + entries + b"u."


def _entry(number: int, name: str, tensor: Tensor, hooks: bytes) -> Iterator[bytes]:
    strides = [math.prod(tensor.shape[i + 1 :]) for i in range(len(tensor.shape))]
    yield _text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
    storage_type = f"ctorch\n{_TYPES[tensor.dtype]}\n".encode()
    storage = [_text("storage"), storage_type, _text(str(number)), _text("cpu"), _int(math.prod(tensor.shape))]
    yield b"(" + b"".join(storage) + b"tQ"
    yield _int(0) + _ints(tensor.shape) + _ints(strides)
    yield b"\x89" + hooks + b"tR"  # requires no gradient


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _int(value: int) -> bytes:
    """Returns BININT, or LONG1 where that is too short."""
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def _ints(values) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"
