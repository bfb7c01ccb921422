"""safetensors files: read lazily, written in one pass.

Format: 8 bytes header length (little endian), a JSON header {name: {dtype, shape, data_offsets}}, the values.
Source: the format section of the safetensors project's README.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GPT2Error
from .contents import Contents
from .tensor import STORAGE, Tensor, TensorFile, in_order

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_CODES = {name: code for code, name in _DTYPES.items()}
_METADATA = "__metadata__"
_MAX_HEADER = 16_000_000  # bytes; XL has 60,000. The format allows more, but JSON takes thirty times as much memory
_MAX_RANK, _MOST = 32, 2**63  # what numpy can describe; beyond it, products alone can take for ever


def read_safetensors(file: TensorFile) -> Contents:
    """Returns the tensors of an open file; every offset is checked before any value is read."""
    header, start = _read_header(file)
    tensors = {name: _entry(file, name, entry, start) for name, entry in header.items() if name != _METADATA}
    _check_extents(file, header, start)
    metadata = header.get(_METADATA)
    told = metadata.get("format") if isinstance(metadata, dict) else None
    era = f"{_METADATA} says format {told!r}" if told else f"{_METADATA} says no format"
    return Contents("safetensors", tensors, era=(era,))


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors in their order, a piece in memory at a time."""
    header: dict = {_METADATA: dict(metadata)}
    position = 0
    for name, tensor in tensors.items():
        extent = [position, position + tensor.nbytes]
        header[name] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": extent}
        position += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the values are aligned
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for pieces in in_order(tensors.values()):
            for piece in pieces:
                file.write(piece.view(np.uint8).data)


def _read_header(file: TensorFile) -> tuple[dict, int]:
    file.file.seek(0)
    length = int.from_bytes(file.file.read(8), "little")
    if file.size < 8 or length > min(file.size - 8, _MAX_HEADER):
        raise GPT2Error(
            f"{file.path} is truncated or no safetensors file: it has {file.size} bytes, its header "
            f"claims {length}. Copy it again from where it came from"
        )
    try:
        header = json.loads(file.file.read(length), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise GPT2Error(f"{file.path} is damaged: its header is not valid JSON ({error})") from None
    if not isinstance(header, dict):
        raise GPT2Error(f"{file.path} is damaged: its header is not a JSON object")
    return header, 8 + length


def _unique_keys(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands in it twice")
    return result


def _entry(file: TensorFile, name: str, entry: Any, start: int) -> Tensor:
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise GPT2Error(f"{file.path} is damaged: the header entry of {name!r} is {entry!r}") from None
    if not isinstance(code, str) or code not in _DTYPES:
        raise GPT2Error(f"{file.path}: {name!r} has dtype {code!r}; this reads {', '.join(_DTYPES)}")
    if len(shape) > _MAX_RANK or not all(type(n) is int and 0 <= n < _MOST for n in (*shape, begin, end)):
        raise GPT2Error(f"{file.path} is damaged: {name!r} has shape {shape} and offsets {begin}, {end}")
    if end - begin != math.prod(shape) * STORAGE[_DTYPES[code]].itemsize:
        raise GPT2Error(f"{file.path} is damaged: {name!r} of shape {shape} ({code}) does not fill bytes {begin}-{end}")
    if start + end > file.size:
        raise GPT2Error(
            f"{file.path} is truncated: {name!r} ends at byte {start + end} of {file.size}. "
            "Copy it again from where it came from"
        )
    return file.tensor(_DTYPES[code], shape, start + begin)


def _check_extents(file: TensorFile, header: Mapping, start: int) -> None:
    """Refuses overlaps, gaps and bytes after the end: the values must fill the file exactly."""
    extents = sorted((*entry["data_offsets"], name) for name, entry in header.items() if name != _METADATA)
    position = 0
    for begin, end, name in extents:
        if begin != position:
            raise GPT2Error(
                f"{file.path} is damaged: {name!r} begins at byte {begin}, the one before ends at {position}"
            )
        position = end
    if start + position != file.size:
        raise GPT2Error(f"{file.path} is damaged: {file.size - start - position} bytes follow the last tensor")
