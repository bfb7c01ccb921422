"""One tensor of a file: its type and shape now, its values when they are asked for."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from pathlib import Path

import numpy as np

from ..ahead import ahead
from ..errors import GPT2Error

# name -> how numpy holds the stored bits; numpy has no bfloat16, so its bits travel as uint16
STORAGE: dict[str, np.dtype] = {
    "float64": np.dtype("<f8"), "float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2"),
    "int64": np.dtype("<i8"), "int32": np.dtype("<i4"), "int16": np.dtype("<i2"), "int8": np.dtype("i1"),
    "uint64": np.dtype("<u8"), "uint32": np.dtype("<u4"), "uint16": np.dtype("<u2"), "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}  # fmt: skip
FLOATS = ("float64", "float32", "bfloat16", "float16")
PIECE = 1 << 19  # numbers; enough for the disk's full speed, little beside the imports
_ALIGNED = 64
_SPLIT = 1 << 22  # bytes from which two threads read: fresh memory takes the system longer than the values
_STRIPE = 16  # rows turned at once: a cache line's worth of each column. All of them at once take three times as long
_SHORT = {"fp64": "float64", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor whose values are read only by `bits`, `array` and `pieces`, which call `check` before."""

    dtype: str  # a key of STORAGE
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]  # the stored bits, a new array at each call
    stretch: Callable[[int, int], np.ndarray] | None = None  # those from one place to another, flat and in C order
    check: Callable[[], object] | None = None  # raises unless the stored bits have their checksum
    place: object = None  # two of one type and shape at the same place are the same

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the values take."""
        return self.size * STORAGE[self.dtype].itemsize

    def bits(self, dtype: str | None = None) -> np.ndarray:
        """Returns the values in `dtype` (the stored one by default); bfloat16 as the uint16 of its bits."""
        if dtype is None or dtype == self.dtype:
            self.verify()
            return self.read()
        if self.stretch is None:
            self.verify()
            return convert(self.read(), self.dtype, dtype)
        values, start = np.empty(self.size, STORAGE[dtype]), 0
        for piece in self.converted(dtype).pieces():
            values[start : start + piece.size] = piece
            start += piece.size
        return values.reshape(self.shape)

    def pieces(self) -> Iterator[np.ndarray]:
        """Yields the stored bits in C order, flat, some megabytes at a time: those of every tensor are cut alike."""
        self.verify()
        places = [(start, min(start + PIECE, self.size)) for start in range(0, self.size, PIECE)]
        if self.stretch is None:
            whole = np.ascontiguousarray(self.read()).reshape(-1)
            if whole.size != self.size:
                raise ValueError(f"a tensor was announced with shape {self.shape} and has {whole.size} numbers")
            yield from (whole[start:stop].astype(STORAGE[self.dtype], copy=False) for start, stop in places)
        else:
            yield from (self.stretch(*place).astype(STORAGE[self.dtype], copy=False) for place in places)

    def same_bits(self, other: Tensor) -> bool:
        """Returns whether both have the same type, shape and bits, a piece of each in memory at a time."""
        if (self.dtype, self.shape) != (other.dtype, other.shape):
            return False
        if self.place is not None and self.place == other.place:
            return True
        sides = (self.pieces(), other.pieces())
        if self.size > PIECE:
            sides = (ahead(sides[0]), ahead(sides[1]))
        pairs = zip(*sides, strict=True)
        return all(np.array_equal(a.view(np.uint8), b.view(np.uint8)) for a, b in pairs)

    def converted(self, dtype: str) -> Tensor:
        """Returns the values in another type, rounded to nearest even; widening is exact."""
        if dtype == self.dtype:
            return self
        stretch = None
        if self.stretch is not None:
            own = self.stretch

            def stretch(start: int, stop: int) -> np.ndarray:
                return convert(own(start, stop), self.dtype, dtype)

        return Tensor(dtype, self.shape, lambda: convert(self.read(), self.dtype, dtype), stretch, self.check)

    def verify(self) -> None:
        """Raises GPT2Error unless the stored bits have their checksum, where the format has one."""
        if self.check is not None:
            self.check()

    def unchecked(self) -> Tensor:
        """Returns the same tensor without its check, for who calls that later."""
        return dataclasses.replace(self, check=None)

    def after(self, action: Callable[[], object]) -> Tensor:
        """Returns the same tensor, `action` being called before values are read."""

        def doing(read: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
            def do(*place: int) -> np.ndarray:
                action()
                return read(*place)

            return do

        return dataclasses.replace(self, read=doing(self.read), stretch=self.stretch and doing(self.stretch))

    def array(self) -> np.ndarray:
        """Returns the values in a type numpy has: bfloat16 is widened to float32, which is exact."""
        return self.bits("float32") if self.dtype == "bfloat16" else self.bits()

    def reshaped(self, shape: tuple[int, ...]) -> Tensor:
        """Returns the same values under another shape."""
        return Tensor(self.dtype, shape, lambda: self.read().reshape(shape), self.stretch, self.check)

    def transposed(self) -> Tensor:
        """Returns the transposed matrix, contiguous."""
        return Tensor(self.dtype, self.shape[::-1], self._read_turned, check=self.check)

    def _read_turned(self) -> np.ndarray:
        rows, columns = self.shape
        if (stretch := self.stretch) is None:
            whole = self.read().reshape(-1)
            stretch = lambda start, stop: whole[start:stop]  # noqa: E731
        turned = np.empty((columns, rows), STORAGE[self.dtype])
        for start in range(0, rows, _STRIPE):
            stop = min(start + _STRIPE, rows)
            turned[:, start:stop] = stretch(start * columns, stop * columns).reshape(-1, columns).T
        return turned

    @classmethod
    def of(cls, array: np.ndarray) -> Tensor:
        """Returns a tensor around an array of one of numpy's own types."""
        return cls(dtype_name(array.dtype), array.shape, lambda: array)


def in_order(tensors: Iterable[Tensor]) -> Iterator[Iterator[np.ndarray]]:
    """Yields for each tensor its pieces, which are to be used up before the next one's, and are read ahead of use."""
    tensors = list(tensors)
    pieces = ahead(piece for tensor in tensors for piece in tensor.pieces())
    for tensor in tensors:
        yield itertools.islice(pieces, -(-tensor.size // PIECE))


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns a new array as TensorFlow needs it to use it without a copy: it begins at a multiple of 64 bytes."""
    memory = np.empty(math.prod(shape) * dtype.itemsize + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + memory.size - _ALIGNED].view(dtype).reshape(shape)


class TensorFile:
    """An open checkpoint file that reads any stretch of itself into a new array."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.name = self.path.name
        self.file: BufferedReader = open(path, "rb")  # noqa: SIM115 - stays open as long as the checkpoint
        self.size = os.fstat(self.file.fileno()).st_size
        self._lock = threading.Lock()

    def tensor(self, dtype: str, shape: tuple[int, ...], offset: int, stored: np.dtype | None = None) -> Tensor:
        """Returns the tensor at `offset`, whose values are stored as `stored` (by default as STORAGE says)."""
        kind = stored or STORAGE[dtype]

        def stretch(start: int, stop: int) -> np.ndarray:
            return self._read(kind, (stop - start,), offset + start * kind.itemsize)

        return Tensor(dtype, shape, lambda: self._read(kind, shape, offset), stretch, place=(self.path, offset, kind))

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Returns `size` bytes of the file; GPT2Error where it ends before them."""
        with self._lock:
            self.file.seek(offset)
            data = self.file.read(size) if offset + size <= self.size else b""
        if len(data) != size:
            raise self.damaged(f"bytes {offset} to {offset + size} are asked for, it has {self.size}")
        return data

    def damaged(self, problem: str) -> GPT2Error:
        """Returns the error for a file that breaks its format."""
        return GPT2Error(f"{self.path} is truncated or damaged: {problem}. Copy it again from where it came from")

    def _read(self, stored: np.dtype, shape: tuple[int, ...], offset: int) -> np.ndarray:
        values = aligned(shape, stored)
        # a view of no items has no buffer to read into
        buffer = values.reshape(-1).view(np.uint8).data if values.size else memoryview(b"")
        half = values.nbytes // 2 if values.nbytes > _SPLIT else 0
        found = [0]
        other = threading.Thread(target=lambda: found.append(self._fill(buffer[:half], offset)))
        if half:
            other.start()
        found.append(self._fill(buffer[half:], offset + half))
        if half:
            other.join()
        if sum(found) != values.nbytes:
            raise GPT2Error(f"{self.path} was cut short while it was read: copy it again from where it came from")
        return values.astype(stored.newbyteorder("="), copy=False)

    def _fill(self, buffer: memoryview, offset: int) -> int:
        """Reads into a buffer from a place on; returns how many bytes there were."""
        if not hasattr(os, "preadv"):
            with self._lock:
                self.file.seek(offset)
                return self.file.readinto(buffer)
        done = 0
        while done < len(buffer) and (count := os.preadv(self.file.fileno(), [buffer[done:]], offset + done)):
            done += count
        return done

    def close(self) -> None:
        """Closes the file; tensors that were not read yet cannot be read any more."""
        self.file.close()


def float_name(dtype: object) -> str:
    """Returns the name of a floating point type, as dtype_name; any other raises."""
    name = dtype_name(dtype)
    if name not in FLOATS:
        raise GPT2Error(f"dtype={dtype!r}: it must be one of {', '.join(FLOATS)}")
    return name


def dtype_name(dtype: object) -> str:
    """Returns the name in STORAGE of a type given as name, short name, or numpy's, torch's or TensorFlow's object."""
    if isinstance(dtype, type) and issubclass(dtype, np.generic):
        dtype = np.dtype(dtype)
    name = str(getattr(dtype, "name", dtype)).removeprefix("torch.")
    name = _SHORT.get(name, name)
    if name not in STORAGE:
        raise GPT2Error(f"dtype={dtype!r}: it must be one of {', '.join(FLOATS)}, or 'auto' for the file's own")
    return name


def convert(bits: np.ndarray, source: str, target: str) -> np.ndarray:
    """Returns the bits of `source` values as `target`, rounded to nearest even; widening is exact."""
    values = _widen_bfloat16(bits) if source == "bfloat16" else bits
    if target == "bfloat16":
        return _round_to_bfloat16(values.astype(np.float32, copy=False))
    with np.errstate(over="ignore"):  # a float32 beyond float16's range becomes infinite, as in both frameworks
        return values.astype(STORAGE[target], copy=False)


def _widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _round_to_bfloat16(values: np.ndarray) -> np.ndarray:
    words = np.ascontiguousarray(values).view(np.uint32)
    rounded = words >> 16  # in place from here on, which is twice as fast
    rounded &= 1
    rounded += 0x7FFF
    rounded += words
    rounded >>= 16
    narrow = rounded.astype(np.uint16)
    narrow[np.isnan(values)] = 0x7FC0  # rounding could carry a NaN's payload over into infinity: keep it a quiet NaN
    return narrow
