"""Files of torch.save, read without torch: the zip format, and the stream of pickles that came before 1.6.

Both hold a pickle of the saved object, in which a tensor is a call of torch._utils._rebuild_tensor_v2 with a storage,
and the storages' bytes beside it. Source: the format notes in torch/serialization.py, PyTorch 2.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import GPT2Error
from .pickles import Call, Global, Persistent, read_pickle
from .tensor import STORAGE, Tensor, TensorFile
from .zip_members import check_member, member_bytes, zip_members

_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_VERSION = 1001
_MAX_PICKLE = 20_000_000  # bytes; XL with its optimizer needs under one million
_UNTYPED = "UntypedStorage"
_TYPES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", _UNTYPED: "uint8",
}  # fmt: skip
_WRAPPERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")  # what is wrapped is their first argument
_REBUILDS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")


class _Storage(NamedTuple):
    """Where the numbers of some tensors lie in the file; `check` raises unless they are as they were written."""

    offset: int
    nbytes: int
    big_endian: bool
    check: Callable[[], None]


class TorchFile:
    """What torch.save wrote into an open file: `value`, of containers and numbers, its tensors still Call records.

    `unused`: the names of storages that nothing in the pickle refers to, of which torch saves none.
    """

    def __init__(self, file: TensorFile):
        self._file = file
        zipped = file.bytes_at(0, min(4, file.size)) == b"PK\x03\x04"
        self.value, self._storage, self.unused = _read_zip(file) if zipped else _read_stream(file)
        self.era = ("a zip, PyTorch 1.6 and later" if zipped else "a stream of pickles, before PyTorch 1.6",)

    def tensor(self, name: str, value: object) -> Tensor | None:
        """Returns the Tensor that a part of `value` stands for, None where it is no tensor; `name` is for errors."""
        for _ in range(3):  # a parameter of a subclass of tensors
            value = _unwrapped(value)
        if not isinstance(value, Call) or not _names(value.function, "torch._utils", *_REBUILDS):
            return None
        try:
            return self._rebuilt(name, *value.arguments)
        except GPT2Error:
            raise
        except (TypeError, ValueError, LookupError, OverflowError):
            raise self._file.damaged(f"{name!r} is made in a way that torch does not know") from None

    def _rebuilt(
        self, name, reference, start, shape, stride, requires_grad=False, hooks=None, dtype=None, *_
    ) -> Tensor:
        key, storage_type, count, *view = _storage_key(reference)
        stored = _TYPES.get(storage_type.name)
        if isinstance(dtype, Global) and storage_type.name == _UNTYPED:
            stored = dtype.name
        if stored not in STORAGE:
            shown = dtype if isinstance(dtype, Global) else storage_type
            raise GPT2Error(f"{self._file.path}: {name!r} has type {shown}; this reads {', '.join(STORAGE)}")
        storage = self._storage(key)
        if count * STORAGE[_TYPES[storage_type.name]].itemsize != storage.nbytes:
            raise self._file.damaged(f"{name!r} is of {count} numbers, of which {storage.nbytes} bytes are stored")
        if view and view[0] is not None:  # of a storage within another one, as PyTorch 0.3 had them
            start += view[0][1]
        if not all(type(n) is int and n >= 0 for n in (start, *shape, *stride)) or len(shape) != len(stride):
            raise ValueError("no extent")
        held = storage.nbytes // STORAGE[stored].itemsize
        size = math.prod(shape)
        # no more numbers than the storage has: a tensor that repeats some is no weight, but may ask for any memory
        if size > held or (size and start + _span(shape, stride) > held):
            raise self._file.damaged(f"{name!r} of shape {tuple(shape)} lies outside of its {storage.nbytes} bytes")
        if size and _repeats(shape, stride):
            raise self._file.damaged(
                f"{name!r} of shape {tuple(shape)} has strides {tuple(stride)}, which repeat numbers"
            )
        return self._later(storage, stored, start, tuple(shape), tuple(stride))

    def _later(self, storage: _Storage, dtype: str, start: int, shape, stride) -> Tensor:
        stored = STORAGE[dtype].newbyteorder(">" if storage.big_endian else "<")
        offset = storage.offset + start * stored.itemsize
        if stride == _contiguous(shape) or math.prod(shape) < 2:
            whole = self._file.tensor(dtype, shape, offset, stored)
        else:
            flat = self._file.tensor(dtype, (_span(shape, stride),), offset, stored)
            steps = tuple(step * stored.itemsize for step in stride)
            whole = Tensor(dtype, shape, lambda: np.lib.stride_tricks.as_strided(flat.read(), shape, steps).copy())
        return dataclasses.replace(whole, check=storage.check)


def _unwrapped(value: object) -> object:
    if isinstance(value, Call) and value.arguments:
        if _names(value.function, "torch._utils", *_WRAPPERS):
            return value.arguments[0]
        if _names(value.function, "torch._tensor", "_rebuild_from_type_v2") and len(value.arguments) == 4:
            function, _, arguments, _ = value.arguments
            return Call(function, arguments) if isinstance(arguments, tuple) else None
    return value


def _read_zip(file: TensorFile) -> tuple[object, Callable[[str], _Storage], list[str]]:
    members = zip_members(file)
    roots = [name.removesuffix("data.pkl") for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise GPT2Error(f"{file.path} is a zip archive, but none of torch.save: it holds no data.pkl")
    (root,) = roots
    order = member_bytes(file, members[root + "byteorder"], 16) if root + "byteorder" in members else b"little"
    pickled = member_bytes(file, members[root + "data.pkl"], _MAX_PICKLE)

    @functools.cache
    def storage(key: str) -> _Storage:
        member = members.get(f"{root}data/{key}")
        if member is None:
            raise file.damaged(f"it lacks {root}data/{key}, the numbers of a tensor")
        check = functools.cache(functools.partial(check_member, file, member))
        return _Storage(member.offset, member.size, order == b"big", check)

    seen: list[Persistent] = []
    value = read_pickle(io.BytesIO(pickled), str(file.path), seen)
    used = {f"{root}data/{key}" for key in _types(seen)}
    storages = [name for name in members if name.startswith(f"{root}data/") and not name.endswith("/")]
    return value, storage, [name for name in storages if name not in used]


def _read_stream(file: TensorFile) -> tuple[object, Callable[[str], _Storage], list[str]]:
    """Reads a magic number, a version, facts of the machine, the object and the keys of its storages; bytes follow.

    These are little endian whatever the machine was: what the file tells of it is not needed, and torch ignores it.
    """
    file.file.seek(0)
    stream = _Start(file)
    pickles: list[Any] = []
    seen: list[Persistent] = []
    while len(pickles) < 5:
        pickles.append(read_pickle(stream, str(file.path), seen))
        if pickles[0] != _MAGIC:
            raise GPT2Error(
                f"{file.path} is a pickle, but none of torch.save: save the model's state_dict() with torch.save, "
                "or as safetensors"
            )
    _, version, _, value, keys = pickles
    if version != _STREAM_VERSION or not isinstance(keys, list):
        raise file.damaged("its first pickles are not those of torch.save")
    storages = _stream_storages(file, _types(seen), keys)

    def storage(key: str) -> _Storage:
        if key not in storages:
            raise file.damaged(f"it lacks the numbers of storage {key}")
        return storages[key]

    return value, storage, []


class _Start:
    """The first bytes of a file, as many as pickles may have: what one of them claims beyond is not read."""

    def __init__(self, file: TensorFile):
        self._file, self._end = file.file, min(file.size, _MAX_PICKLE)

    def read(self, size: int) -> bytes:
        """Returns up to `size` bytes."""
        return self._file.read(min(size, max(0, self._end - self._file.tell())))

    def readline(self) -> bytes:
        """Returns the bytes up to the end of a line."""
        return self._file.readline(max(0, self._end - self._file.tell()))


def _types(seen: list[Persistent]) -> dict[str, str | None]:
    """Returns the type of each storage that a pickle names, None of one that is not known here."""
    found: dict[str, str | None] = {}
    for reference in seen:
        with contextlib.suppress(ValueError):
            key, storage_type, *_ = _storage_key(reference)
            found[key] = _TYPES.get(storage_type.name)
    return found


def _stream_storages(file: TensorFile, types: dict[str, str | None], keys: list) -> dict[str, _Storage]:
    """Returns where each storage lies: its number of elements, in 8 bytes, stands before it."""
    found: dict[str, _Storage] = {}
    position = file.file.tell()
    for key in keys:
        dtype = types.get(key) if isinstance(key, str) else None
        if dtype is None or key in found:
            raise file.damaged("its list of storages does not fit its tensors")
        nbytes = int.from_bytes(file.bytes_at(position, 8), "little") * STORAGE[dtype].itemsize
        position += 8
        if position + nbytes > file.size:
            raise file.damaged(f"storage {key} ends at byte {position + nbytes} of {file.size}")
        found[key] = _Storage(position, nbytes, False, lambda: None)
        position += nbytes
    return found


def _storage_key(reference: object) -> tuple:
    """Returns key, type and length of a storage, and what may follow; ValueError where a reference is to none."""
    parts = reference.key if isinstance(reference, Persistent) else None
    if not isinstance(parts, tuple) or len(parts) < 5 or parts[0] != "storage":
        raise ValueError("no storage")
    _, storage_type, key, _, count, *view = parts
    if not isinstance(key, str) or not isinstance(storage_type, Global) or type(count) is not int:
        raise ValueError("no storage")
    return key, storage_type, count, *view


def _names(function: object, module: str, *names: str) -> bool:
    return type(function) is Global and function.module == module and function.name in names


def _span(shape, stride) -> int:
    """Returns how many numbers lie from the first of a tensor to its last."""
    return 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))


def _repeats(shape, stride) -> bool:
    """Returns whether some number stands at two places of a tensor."""
    reach = 0  # of all dimensions with smaller steps
    for step, n in sorted((step, n) for n, step in zip(shape, stride, strict=True) if n > 1):
        if step <= reach:
            return True
        reach += (n - 1) * step
    return False


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))
