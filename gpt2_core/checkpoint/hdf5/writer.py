"""HDF5 files in the oldest layout, which every HDF5 library reads: what Keras 2 expects of a `tf_model.h5`.

A file is written front to back in one pass: the superblock, the values of all datasets, then everything that
names them, each part after those that it points to. Source: HDF5 File Format Specification, version 3.0.
"""

import math
import struct
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from ...errors import GPT2Error
from .groups import LONGEST_NAME
from .messages import ATTRIBUTE, DATASPACE, DATATYPE, FILL, IEEE, LAYOUT, SYMBOL_TABLE
from .reader import SIGNATURE
from .source import UNDEFINED
from .texts import VARIABLE_TEXT, HeapText, text_heap

# shape, type, how to get the values: arrays that follow each other in the file
Declared = tuple[tuple[int, ...], np.dtype, Callable[[], Iterable[np.ndarray]]]

_LEAF, _NODE = 8, 32  # HDF5's defaults: symbols in a symbol table node, children of a B-tree node
_SUPERBLOCK = 96  # bytes
_LARGEST_MESSAGE = 65528  # its size has 16 bits, and is a multiple of 8


class _Member(NamedTuple):
    """Where a group or dataset was put; a group also has a B-tree and a heap of names."""

    header: int
    tree: int | None = None
    heap: int | None = None

    def symbol(self, name: int) -> bytes:
        """Returns the symbol table entry (III.C) under the name at that offset of the parent's heap."""
        if self.tree is None:
            return struct.pack("<QQ24x", name, self.header)
        return struct.pack("<QQI4xQQ", name, self.header, 1, self.tree, self.heap)


class _Metadata:
    """The bytes that follow the values: `add` returns the address in the file that a part gets."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.data = bytearray()
        self.texts: dict[str, HeapText] = {}

    @property
    def end(self) -> int:
        """The address of what is added next."""
        return self.start + len(self.data)

    def add(self, part: bytes | bytearray) -> int:
        """Returns the address of `part`, which is filled up to 8 bytes."""
        address = self.end
        self.data += _padded(part)
        return address

    def text(self, text: str, what: str) -> HeapText:
        """Returns where a text of variable length is, which is stored once."""
        if text not in self.texts:
            encoded = _encoded(text, what)
            self.texts[text] = HeapText(len(encoded), self.add(text_heap(encoded)))
        return self.texts[text]


def write_hdf5(
    file: BinaryIO,
    groups: Mapping[str, Mapping[str, object]],
    datasets: Mapping[str, Declared],
    notes: Mapping[str, Mapping[str, str]] = types.MappingProxyType({}),
) -> None:
    """Writes groups (path -> attributes; "" is the root) and datasets (path -> shape, type, values).

    A dataset's values are asked for once, in order, and each array is let go before the next one. Groups on the way to
    a path need not be listed. An attribute is a str, a list of str (of one length in the file, as Keras'
    `weight_names`), a number or an array of numbers. GPT2Error when values are not as declared, and when an attribute
    takes over 64 kB: split it, as Keras does (`weight_names0`, ...). notes: short texts as attributes
    of datasets, path -> name -> text, which h5py gives back as str.
    """
    members = _members(groups, datasets)
    offsets, end = {}, _SUPERBLOCK
    for path, (shape, dtype, _) in datasets.items():
        size = math.prod(shape) * dtype.itemsize
        offsets[path] = end if size else UNDEFINED
        end += size + -size % 8
    metadata = _Metadata(end)
    placed = {
        path: _Member(_add_dataset(metadata, path, shape, dtype, offsets[path], notes.get(path, {})))
        for path, (shape, dtype, _) in datasets.items()
    }
    for path in sorted(members, key=_depth, reverse=True):  # members before their group
        children = {name: placed[child] for name, child in members[path].items()}
        placed[path] = _add_group(metadata, path, children, groups.get(path, {}))

    file.seek(0)
    file.write(_superblock(placed[""], metadata.end))
    for path, declared in datasets.items():
        _write_values(file, path, *declared)
    file.write(metadata.data)


def _members(groups: Mapping[str, object], datasets: Mapping[str, object]) -> dict[str, dict[bytes, str]]:
    """Returns path -> name -> member's path of every group, those that are only on the way included."""
    members: dict[str, dict[bytes, str]] = {path: {} for path in ("", *groups)}
    for path in (*groups, *datasets):
        parent = ""
        for name in path.split("/") if path else ():
            encoded = _encoded(name, f"the path {path!r}")
            if name in ("", ".") or len(encoded) > LONGEST_NAME:
                raise GPT2Error(f"{path!r}: no part may be empty, '.' or more than {LONGEST_NAME} bytes long")
            child = f"{parent}/{name}" if parent else name
            members.setdefault(parent, {})[encoded] = child
            parent = child
    for path in datasets:
        if path in members:
            raise GPT2Error(f"{path!r} is to be a dataset and a group at once: give one another name")
    return members


def _depth(path: str) -> int:
    return len(path.split("/")) if path else 0


def _superblock(root: _Member, end: int) -> bytes:
    """Returns the superblock (II.A) of version 0."""
    versions_and_widths = bytes([0, 0, 0, 0, 0, 8, 8, 0])
    sizes = struct.pack("<HHI", _LEAF // 2, _NODE // 2, 0)
    addresses = struct.pack("<QQQQ", 0, UNDEFINED, end, UNDEFINED)
    return SIGNATURE + versions_and_widths + sizes + addresses + root.symbol(0)


def _write_values(
    file: BinaryIO, path: str, shape: tuple[int, ...], dtype: np.dtype, values: Callable[[], Iterable[np.ndarray]]
) -> None:
    left = math.prod(shape)
    for array in values():
        left -= array.size
        if array.dtype != dtype or left < 0:
            raise GPT2Error(f"{path!r} was declared as {dtype} {tuple(shape)} and has other values: {array.dtype}")
        # as bytes, because a memoryview of big-endian numbers has no buffer that files take
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b"")
    if left:
        raise GPT2Error(f"{path!r} was declared as {dtype} {tuple(shape)} and has {left} values too few")
    file.write(bytes(-math.prod(shape) * dtype.itemsize % 8))


def _add_group(
    metadata: _Metadata, path: str, children: Mapping[bytes, _Member], attributes: Mapping[str, object]
) -> _Member:
    """Adds names, symbol table nodes, B-tree and object header of a group."""
    names = bytearray(8)  # offset 0 holds the empty name, which is below all others
    symbols = []
    for name in sorted(children):
        symbols.append((len(names), children[name].symbol(len(names))))
        names += _padded(name + b"\0")
    no_free_space = 1
    segment = metadata.add(names)
    heap = metadata.add(b"HEAP" + struct.pack("<4xQQQ", len(names), no_free_space, segment))
    leaves = []
    for i in range(0, len(symbols), _LEAF):
        node = symbols[i : i + _LEAF]
        head = b"SNOD" + struct.pack("<BxH", 1, len(node))
        content = head + b"".join(symbol for _, symbol in node)
        leaves.append((node[-1][0], metadata.add(content.ljust(8 + 40 * _LEAF, b"\0"))))
    tree = _add_tree(metadata, leaves)
    messages = [_message(SYMBOL_TABLE, struct.pack("<QQ", tree, heap))]
    messages += [_attribute(path, name, value) for name, value in attributes.items()]
    return _Member(metadata.add(_header(messages)), tree, heap)


def _add_tree(metadata: _Metadata, children: list[tuple[int, int]]) -> int:
    """Returns the address of a B-tree (III.A.1) over children, each a last name and an address."""
    level = 0
    while level == 0 or len(children) > 1:
        children = _add_nodes(metadata, level, children)
        level += 1
    return children[0][1]


def _add_nodes(metadata: _Metadata, level: int, children: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns last name and address of the nodes of one level, at least one."""
    first, size = metadata.end, 24 + 8 * (2 * _NODE + 1)
    count = max(1, math.ceil(len(children) / _NODE))
    key, nodes = 0, []
    for i in range(count):
        part = children[i * _NODE : (i + 1) * _NODE]
        left = first + (i - 1) * size if i else UNDEFINED
        right = first + (i + 1) * size if i + 1 < count else UNDEFINED
        content = b"TREE" + struct.pack("<BBHQQQ", 0, level, len(part), left, right, key)
        for key, address in part:
            content += struct.pack("<QQ", address, key)
        nodes.append((key, metadata.add(content.ljust(size, b"\0"))))
    return nodes


def _add_dataset(
    metadata: _Metadata,
    path: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    offset: int,
    notes: Mapping[str, str],
) -> int:
    """Returns the address of a dataset's object header."""
    size = math.prod(shape) * dtype.itemsize
    messages = [
        _message(DATASPACE, _dataspace(shape)),
        _message(DATATYPE, _datatype(dtype, f"dataset {path!r}"), constant=True),
        _message(FILL, bytes([2, 2, 2, 1, 0, 0, 0, 0]), constant=True),  # the default: zeros
        _message(LAYOUT, struct.pack("<BBQQ", 3, 1, offset, size)),
    ]
    messages += [_attribute(path, name, metadata.text(text, f"{name!r} of {path!r}")) for name, text in notes.items()]
    return metadata.add(_header(messages))


def _header(messages: list[bytes]) -> bytes:
    """Returns an object header of version 1 (IV.A.1.a) in one chunk."""
    content = b"".join(messages)
    return struct.pack("<BxHII4x", 1, len(messages), 1, len(content)) + content


def _message(kind: int, body: bytes, constant: bool = False) -> bytes:
    body = _padded(body)
    return struct.pack("<HHB3x", kind, len(body), constant) + body


def _attribute(path: str, name: str, value: object) -> bytes:
    """Returns an attribute message of version 1 (IV.A.2.m)."""
    what = f"attribute {name!r} of {path!r}"
    if isinstance(value, str):
        dataspace, (datatype, data) = _dataspace(()), _texts([value], what)
    elif isinstance(value, HeapText):
        dataspace, datatype, data = _dataspace(()), VARIABLE_TEXT, value.reference()
    elif isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        dataspace, (datatype, data) = _dataspace((len(value),)), _texts(value, what)
    else:  # an empty list becomes float64, as in Keras' own files
        array = np.asarray(value)
        dataspace, datatype, data = _dataspace(array.shape), _datatype(array.dtype, what), array.tobytes()
    encoded = _encoded(name, what) + b"\0"
    head = struct.pack("<BxHHH", 1, len(encoded), len(datatype), len(dataspace))
    body = head + _padded(encoded) + _padded(datatype) + _padded(dataspace) + data
    if len(body) > _LARGEST_MESSAGE:
        raise GPT2Error(
            f"{what} takes {len(body)} bytes, and HDF5 allows {_LARGEST_MESSAGE}: split it into "
            f"{name}0, {name}1 and so on, as Keras does"
        )
    return _message(ATTRIBUTE, body)


def _texts(texts: Sequence[str], what: str) -> tuple[bytes, bytes]:
    """Returns type and values of texts stored with one length, filled up with NULs."""
    items = [_encoded(text, what) for text in texts]
    size = max(1, *map(len, items))
    utf8 = not all(item.isascii() for item in items)
    datatype = struct.pack("<BBxxI", 0x13, 1 | utf8 << 4, size)
    return datatype, b"".join(item.ljust(size, b"\0") for item in items)


def _encoded(text: str, what: str) -> bytes:
    """Returns the text in UTF-8; GPT2Error when HDF5 could not give it back."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise GPT2Error(f"{what} has text that is not Unicode: {error}") from None
    if b"\0" in encoded:
        raise GPT2Error(f"{what} has a NUL in {text!r}, where HDF5 would end the text")
    return encoded


def _dataspace(shape: tuple[int, ...]) -> bytes:
    """Returns a dataspace message of version 1 (IV.A.2.b)."""
    return struct.pack(f"<BB6x{len(shape)}Q", 1, len(shape), *shape)


def _datatype(dtype: np.dtype, what: str) -> bytes:
    """Returns a datatype message of version 1 (IV.A.2.d)."""
    size, big = dtype.itemsize, dtype.str[0] == ">"
    if dtype.kind == "f" and size in IEEE:
        head = struct.pack("<BBBxI", 0x11, 0x20 | big, 8 * size - 1, size)  # 0x20: a leading 1 is implied
        return head + struct.pack("<HHBBBBI", *IEEE[size])
    if dtype.kind in "iu":
        return struct.pack("<BBxxIHH", 0x10, big | 8 * (dtype.kind == "i"), size, 0, 8 * size)
    if dtype.kind == "V" and dtype.names is None:  # bytes of which HDF5 knows no more, as Keras has bfloat16
        return struct.pack("<BxxxI", 0x15, size)
    raise GPT2Error(f"{what} has type {dtype}; float16/32/64, integers, bytes, and str in attributes can be written")


def _padded(part: bytes | bytearray) -> bytes:
    return bytes(part) + bytes(-len(part) % 8)
