"""Object headers of HDF5 files, and the messages in them that say what an object is (specification IV.A)."""

import math
from typing import NamedTuple

import numpy as np

from .source import Fields, Source

# message types (IV.A.2); the others do not change what the values are
DATASPACE, LINK_INFO, DATATYPE, FILL, LINK, EXTERNAL_FILES, LAYOUT, FILTERS = 1, 2, 3, 5, 6, 7, 8, 0xB
ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 0xC, 0x10, 0x11, 0x15
_NEWEST = 0x17
_USED = {
    DATASPACE,
    LINK_INFO,
    DATATYPE,
    LINK,
    EXTERNAL_FILES,
    LAYOUT,
    FILTERS,
    ATTRIBUTE,
    CONTINUATION,
    SYMBOL_TABLE,
    ATTRIBUTE_INFO,
}
_SHARED = 0x02  # message flag: the message stands elsewhere
_MUST_KNOW = 0x80  # message flag: who does not know the type must not open the object

_MAX_RANK = 32
_LARGEST, _LARGEST_ITEM = 2**63 - 1, 2**31 - 1  # bytes of an array, of an item, that numpy can describe
# offset, precision, exponent position and size, mantissa position and size, bias of the IEEE types (IV.A.2.d)
IEEE = {2: (0, 16, 10, 5, 0, 10, 15), 4: (0, 32, 23, 8, 0, 23, 127), 8: (0, 64, 52, 11, 0, 52, 1023)}
_INTEGER, _FLOAT, _TEXT, _OPAQUE, _ENUM, _VARIABLE = 0, 1, 3, 5, 8, 9  # classes of types


class Message(NamedTuple):
    """One message of an object header."""

    kind: int
    fields: Fields


class Datatype(NamedTuple):
    """A type of values: `dtype` is None for strings of variable length."""

    size: int
    dtype: np.dtype | None
    padding: int | None = None  # of strings: 0 ends at a NUL, 1 filled up with NULs, 2 with spaces


def read_header(source: Source, address: int, what: str) -> list[Message]:
    """Returns the messages of the object header at `address`, in order, with those of its continuations."""
    what = f"the object header of {what}"
    newer = source.read(address, 4, what) == b"OHDR"
    chunk, skip = _newer_start(source, address, what) if newer else _older_start(source, address, what)
    chunks, seen = [chunk], {address}
    messages = []
    for chunk in chunks:  # grows as continuations are met
        for message in _messages(chunk, 1 if newer else 2, skip):
            if message.kind != CONTINUATION:
                messages.append(message)
                continue
            offset, size = message.fields.uint(8), message.fields.uint(8)
            if offset in seen:
                raise source.damaged(f"{what} continues in itself")
            seen.add(offset)
            read = source.checked_fields if newer else source.fields
            chunks.append(read(offset, size, what, b"OCHK" if newer else b""))
    return messages


def _older_start(source: Source, address: int, what: str) -> tuple[Fields, int]:
    """Returns the first chunk of version 1 (IV.A.1.a), and how many unused bytes end a message's prefix."""
    prefix = source.fields(address, 16, what)
    prefix.version(1)
    prefix.take(7)  # unused, number of messages, number of links to the object
    return source.fields(address + 16, prefix.uint(4), what), 3


def _newer_start(source: Source, address: int, what: str) -> tuple[Fields, int]:
    """Returns the same of version 2 (IV.A.1.b), where one checksum covers prefix and first chunk."""
    prefix = source.fields(address, 6, what, b"OHDR")
    prefix.version(2)
    flags = prefix.uint(1)
    unused = 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)  # times; limits of compact attribute storage
    width = 1 << (flags & 3)
    size = source.fields(address + 6 + unused, width, what).uint(width)
    chunk = source.checked_fields(address, 6 + unused + width + size + 4, what, b"OHDR")
    chunk.take(2 + unused + width)
    return chunk, 2 * (flags >> 2 & 1)  # the order in which attributes were created


def _messages(chunk: Fields, kind_size: int, skip: int) -> list[Message]:
    """Returns the messages of one chunk that this package reads, and its continuations."""
    source = chunk.source
    messages = []
    while chunk.left >= kind_size + 3 + skip:  # what is shorter is a gap
        kind, size, flags = chunk.uint(kind_size), chunk.uint(2), chunk.uint(1)
        chunk.take(skip)
        body = chunk.part(size)
        source.spend(64)
        if kind in _USED:
            if flags & _SHARED:
                raise source.refused(
                    f"shares a part of {chunk.what} with other objects (message type {kind}), which is not read here"
                )
            messages.append(Message(kind, body))
        elif kind > _NEWEST and flags & _MUST_KNOW:
            raise source.refused(f"needs a newer reader: {chunk.what} has a message of type {kind}")
    return messages


def read_dataspace(fields: Fields) -> tuple[int, ...] | None:
    """Returns the shape of a dataspace message (IV.A.2.b): () for a scalar, None where there is no value."""
    version = fields.version(1, 2)
    rank = fields.uint(1)
    fields.take(1)  # whether largest sizes follow the sizes
    if rank > _MAX_RANK:
        raise fields.source.damaged(f"{fields.what} has {rank} dimensions, and HDF5 allows {_MAX_RANK}")
    if version == 1:
        fields.take(5)
    elif fields.uint(1) == 2:
        return None
    return tuple(fields.uint(8) for _ in range(rank))


def extent(fields: Fields, shape: tuple[int, ...], itemsize: int) -> int:
    """Returns the bytes that values of `shape` take; GPT2Error when numpy could not hold such an array."""
    if math.prod(size or 1 for size in shape) * itemsize > _LARGEST:
        raise fields.source.damaged(f"{fields.what} claims the shape {shape}")
    return math.prod(shape) * itemsize


def read_datatype(fields: Fields) -> Datatype:
    """Returns the type of a datatype message (IV.A.2.d): numbers, strings, bool, opaque bytes."""
    source = fields.source
    first, bits, size = fields.uint(1), fields.uint(3), fields.uint(4)
    kind = first & 0x0F
    if not 1 <= first >> 4 <= 5 or not 0 < size <= min(source.end, _LARGEST_ITEM):
        raise source.damaged(f"{fields.what} has a type of version {first >> 4} and {size} bytes")
    if kind == _INTEGER:
        dtype = _integer(fields, bits, size)
    elif kind == _FLOAT:
        dtype = _float(fields, bits, size)
    elif kind == _TEXT and bits & 0x0F <= 2:
        return Datatype(size, np.dtype(f"S{size}"), bits & 0x0F)
    elif kind == _OPAQUE:  # how h5py stores types that numpy does not have itself, Keras' bfloat16 among them
        dtype = np.dtype(f"V{size}")
    elif kind == _ENUM:
        dtype = _bool(fields, first >> 4) if bits & 0xFFFF == 2 else None
    elif kind == _VARIABLE and bits & 0x0F == 1 and size == 16:
        return Datatype(size, None, bits >> 4 & 0x0F)
    else:
        dtype = None
    if dtype is None:
        raise source.refused(
            f"has {fields.what} of a type that is not read here (HDF5 class {kind}, {size} "
            "bytes); known are integers, bool, float16/32/64, strings, opaque"
        )
    return Datatype(size, dtype)


def _integer(fields: Fields, bits: int, size: int) -> np.dtype | None:
    offset, precision = fields.uint(2), fields.uint(2)
    if size not in (1, 2, 4, 8) or (offset, precision) != (0, 8 * size):
        return None
    return np.dtype(f"{'>' if bits & 1 else '<'}{'i' if bits & 8 else 'u'}{size}")


def _float(fields: Fields, bits: int, size: int) -> np.dtype | None:
    layout = (fields.uint(2), fields.uint(2), *(fields.uint(1) for _ in range(4)), fields.uint(4))
    order_and_norm, sign = bits & 0x71, bits >> 8 & 0xFF
    if layout != IEEE.get(size) or order_and_norm not in (0x20, 0x21) or sign != 8 * size - 1:
        return None
    return np.dtype(f"{'>' if bits & 1 else '<'}f{size}")


def _bool(fields: Fields, version: int) -> np.dtype | None:
    """An enumeration of one byte with FALSE = 0 and TRUE = 1, in this order, is how h5py writes bool."""
    kind, size = fields.uint(1) & 0x0F, fields.part(11).data[3:7]
    names = b"FALSE\0TRUE\0" if version >= 3 else b"FALSE\0\0\0TRUE\0\0\0\0"
    found = fields.data[fields.position :]
    is_bool = kind == _INTEGER and size == b"\1\0\0\0" and found.startswith(names + b"\0\1")
    return np.dtype(bool) if is_bool else None


def read_layout(fields: Fields, path: str) -> tuple[int, int | None, bool]:
    """Returns where a dataset's values start, their size if it is said, and if they lie in this message (IV.A.2.i)."""
    version = fields.version(1, 2, 3, 4, 5)
    rank = fields.uint(1) if version < 3 else 0
    kind = fields.uint(1)
    fields.take(5 if version < 3 else 0)
    if kind not in (0, 1):
        way = {2: "in chunks (compressed or resizable)", 3: "as a view of other datasets"}.get(kind, "oddly")
        raise fields.source.refused(
            f"has dataset {path!r} stored {way}, which is not read here: save it "
            "again plainly, or run `h5repack -f NONE -l CONTI` on it"
        )
    if kind == 1:  # contiguous
        return fields.uint(8), fields.uint(8) if version >= 3 else None, False
    fields.take(4 * rank)
    size = fields.uint(2 if version >= 3 else 4)
    return fields.part(size).offset, size, True
