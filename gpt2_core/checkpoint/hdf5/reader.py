"""HDF5 files as Keras writes them: which groups and datasets they hold, and where in the file the values lie.

Only the subset that weights files use: contiguous datasets, groups, attributes. Nothing here needs h5py, and
no dataset's values are read. Source: HDF5 File Format Specification, version 3.0.
"""

import math
from bisect import bisect_left
from typing import NamedTuple

import numpy as np

from .attributes import AttributeReader
from .groups import members
from .messages import (
    ATTRIBUTE,
    ATTRIBUTE_INFO,
    DATASPACE,
    DATATYPE,
    EXTERNAL_FILES,
    FILTERS,
    LAYOUT,
    LINK_INFO,
    SYMBOL_TABLE,
    Message,
    extent,
    read_dataspace,
    read_datatype,
    read_header,
    read_layout,
)
from .source import UNDEFINED, Fields, Readable, Source

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_DEPTH = 64  # of groups in groups; Keras' own files need about ten


class Dataset(NamedTuple):
    """An array in the file: prod(shape) * dtype.itemsize bytes at `offset`, in C order."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    attributes: dict[str, object]

    @property
    def nbytes(self) -> int:
        """Bytes that the values take."""
        return math.prod(self.shape) * self.dtype.itemsize


class Hdf5File:
    """What an HDF5 file holds: `groups` maps a path to its attributes, `datasets` maps a path to a Dataset.

    Paths have no leading slash; the root group's is "". The order is that of a walk that visits the members
    of a group by name, or as they were made if the file tells. An attribute is a str, list of str or array.
    """

    def __init__(self, file: Readable, name: str) -> None:
        """Reads the metadata of a seekable binary file, which errors call `name`; GPT2Error if it cannot."""
        self.groups: dict[str, dict[str, object]] = {}
        self.datasets: dict[str, Dataset] = {}
        self._source = Source(file, name)
        self._compact: set[str] = set()  # paths of datasets whose values lie among the metadata
        self._attributes = AttributeReader(self._source)
        self._walk(_read_superblock(self._source))
        self._check_overlaps()

    def _walk(self, root: int) -> None:
        """Fills `groups` and `datasets`, a group before its members."""
        stack = [("", root)]
        seen = set()
        while stack:
            path, address = stack.pop()
            what = repr(path) if path else "the root group"
            messages = read_header(self._source, address, what)
            kinds = {message.kind for message in messages}
            if LAYOUT in kinds:
                self.datasets[path] = self._dataset(path, messages)
                continue
            if not kinds & {SYMBOL_TABLE, LINK_INFO}:
                raise self._source.refused(f"has {what}, which is neither a group nor a dataset")
            if address in seen:
                raise self._source.damaged(f"{what} is a group that is also reached by another path")
            seen.add(address)
            self.groups[path] = self._read_attributes(messages, what)
            if path.count("/") >= _MAX_DEPTH:
                raise self._source.refused(f"has groups more than {_MAX_DEPTH} deep: {path[:80]!r}...")
            prefix = path + "/" if path else ""
            for name, header in reversed(members(self._source, messages, what)):
                self._source.spend(512 + len(prefix) + len(name))
                stack.append((prefix + name, header))

    def _read_attributes(self, messages: list[Message], what: str) -> dict[str, object]:
        """Returns the attributes among an object's messages."""
        attributes: dict[str, object] = {}
        for kind, fields in messages:
            if kind == ATTRIBUTE_INFO:
                fields.version(0)
                fields.take(2 * (fields.uint(1) & 1))  # the next creation order
                if fields.uint(8) != UNDEFINED:
                    raise self._source.refused(
                        f"has more than eight attributes at {what}, or long ones: "
                        "they stand in a heap, which is not read here"
                    )
            elif kind == ATTRIBUTE:
                name, value = self._attributes.read(fields)
                if name in attributes:
                    raise self._source.damaged(f"{what} has two attributes named {name!r}")
                attributes[name] = value
        return attributes

    def _dataset(self, path: str, messages: list[Message]) -> Dataset:
        """Returns the dataset that the messages describe, once its bytes are known to lie in the file."""
        source, what = self._source, f"dataset {path!r}"
        found = {message.kind: message.fields for message in messages}
        if EXTERNAL_FILES in found:
            raise source.refused(f"keeps the values of {what} in another file, which is not read")
        if not {DATASPACE, DATATYPE} <= found.keys():
            raise source.damaged(f"{what} has no shape or no type")
        offset, stored, compact = read_layout(found[LAYOUT], path)
        self._compact |= {path} if compact else set()
        if FILTERS in found:
            raise source.damaged(f"{what} is compressed and not in chunks")
        dtype = read_datatype(found[DATATYPE]).dtype
        if dtype is None:
            raise source.refused(f"has {what} of strings of variable length, which are not read here")
        shape = read_dataspace(found[DATASPACE])
        shape = (0,) if shape is None else shape  # a dataset with a type and no values
        size = extent(found[DATASPACE], shape, dtype.itemsize)
        if size == 0:
            offset = 0
        elif offset == UNDEFINED:
            raise source.refused(f"has {what} whose values were never written: save the model again")
        elif stored not in (size, None) or offset + size > source.end:
            raise source.damaged(
                f"{what} of shape {shape} takes {size} bytes; {stored} are stored, at byte {offset} of {source.end}"
            )
        return Dataset(shape, dtype, offset, self._read_attributes(messages, what))

    def check_byte_order(self) -> None:
        """GPT2Error where floats of both byte orders are mixed, as one flipped bit does and no program."""
        floats = {path: dataset.dtype for path, dataset in self.datasets.items() if dataset.dtype.kind == "f"}
        orders = {dtype.newbyteorder("<") == dtype: path for path, dtype in floats.items()}
        if len(orders) > 1:
            raise self._source.damaged(f"the bytes of {orders[True]!r} and {orders[False]!r} are in opposite orders")

    def _check_overlaps(self) -> None:
        """GPT2Error when two datasets claim the same bytes, or one those that describe the file."""
        end, owner = 0, ""
        stored = sorted((dataset.offset, dataset.nbytes, path) for path, dataset in self.datasets.items())
        for offset, nbytes, path in stored:
            if nbytes and offset < end:
                raise self._source.damaged(f"datasets {owner!r} and {path!r} share bytes")
            end, owner = offset + nbytes, path
        described = _joined(self._source.taken)
        for offset, nbytes, path in stored:
            before = bisect_left(described, (offset + nbytes,)) - 1
            if nbytes and path not in self._compact and before >= 0 and described[before][1] > offset:
                raise self._source.damaged(f"dataset {path!r} lies where the file describes what it holds")


def _joined(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns stretches that cover the same bytes, sorted and apart."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if joined and start <= joined[-1][1]:
            start, end = joined[-1][0], max(end, joined.pop()[1])
        joined.append((start, end))
    return joined


def _read_superblock(source: Source) -> int:
    """Returns the address of the root group's object header (II)."""
    what = "the superblock"
    start = source.read(0, min(source.end, 8), what)
    if start != SIGNATURE:
        short = f"it has {source.end} bytes" if source.end < 8 else f"it starts with {start!r}"
        raise source.refused(f"is not an HDF5 file: {short} (a user block before the data is not read here)")
    fields = source.fields(8, min(source.end - 8, 92), what)
    version = fields.version(0, 1, 2, 3)
    fields.take(4 if version < 2 else 0)  # versions of parts that exist in one version only
    widths = (fields.uint(1), fields.uint(1))
    if widths != (8, 8):
        raise source.refused(f"has addresses and lengths of {widths} bytes; known here: 8")
    root = _older_root(fields, version) if version < 2 else _newer_root(fields, version)
    source.taken = [(0, {0: 96, 1: 100}.get(version, 48))]  # it was read in one piece with what may follow
    return root


def _older_root(fields: Fields, version: int) -> int:
    fields.take(1)
    fields.source.symbols_size, fields.source.node_size = 8 + 80 * fields.uint(2), 32 + 32 * fields.uint(2)
    fields.take(4 + 4 * version)  # flags; version 1: B-tree sizes of chunks
    base, _, end, _ = (fields.uint(8) for _ in range(4))
    _check_end(fields.source, base, end)
    fields.take(8)  # the root group's name
    return fields.uint(8)


def _newer_root(fields: Fields, version: int) -> int:
    if fields.uint(1) & 1 and version == 3:
        raise fields.source.refused("was not closed by the program that wrote it: it may be incomplete")
    base, _, end, root = (fields.uint(8) for _ in range(4))
    _check_end(fields.source, base, end)
    fields.source.checked_fields(0, 48, fields.what, SIGNATURE)
    return root


def _check_end(source: Source, base: int, end: int) -> None:
    """GPT2Error unless the file starts at byte 0 and is as long as when it was written."""
    if base != 0:
        raise source.refused(f"has its data at byte {base}, behind a user block, which is not read here")
    if end > source.end:
        raise source.refused(
            f"is truncated: it was written with {end} bytes and has {source.end}. Copy it again from where it came from"
        )
    source.end = end
