"""Attributes of HDF5 objects: names with small arrays or text (specification IV.A.2.m; text heap: III.E)."""

import numpy as np

from .messages import Datatype, extent, read_dataspace, read_datatype
from .source import Fields, Source


class AttributeReader:
    """Reads attribute messages of one file, and remembers the heaps of strings that it met."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.heaps: dict[int, dict[int, bytes]] = {}  # address -> index -> object

    def read(self, fields: Fields) -> tuple[str, object]:
        """Returns name and value: a str or list of str for text, else a numpy array (rank 0 for a scalar)."""
        version = fields.version(1, 2, 3)
        if fields.uint(1) and version > 1:
            raise self.source.refused(f"shares the type of an attribute between objects ({fields.what})")
        sizes = [fields.uint(2) for _ in range(3)]
        fields.take(version == 3)  # the name's character set; UTF-8 includes the other one
        # version 1 fills each part up to 8 bytes
        parts = [fields.part(size + (-size % 8 if version == 1 else 0)) for size in sizes]
        name = parts[0].data.split(b"\0")[0].decode("utf-8", "replace")
        what = parts[1].what = parts[2].what = f"attribute {name!r} in {fields.what}"
        return name, self._value(read_datatype(parts[1]), read_dataspace(parts[2]), fields, what)

    def _value(self, datatype: Datatype, shape: tuple[int, ...] | None, fields: Fields, what: str) -> object:
        is_text = datatype.dtype is None or datatype.padding is not None
        if shape is None:  # an attribute with a type and no value
            return "" if is_text else np.empty(0, datatype.dtype)
        data = fields.take(extent(fields, shape, datatype.size))
        if not is_text:
            return np.ndarray(shape, datatype.dtype, data).copy() if data else np.empty(shape, datatype.dtype)
        if len(shape) > 1:
            raise self.source.refused(f"has text in {len(shape)} dimensions, not read here, in {what}")
        items = [data[i : i + datatype.size] for i in range(0, len(data), datatype.size)]
        texts = [self._text(item, datatype, what) for item in items]
        return texts if shape else texts[0]

    def _text(self, item: bytes, datatype: Datatype, what: str) -> str:
        self.source.spend(64)
        if datatype.dtype is None:
            item = self._heap_object(Fields(self.source, item, what))
        if datatype.padding == 1:
            item = item.rstrip(b"\0")
        elif datatype.padding == 2:
            item = item.rstrip(b" ")
        else:
            item = item.split(b"\0", 1)[0]
        return item.decode("utf-8", "replace")

    def _heap_object(self, reference: Fields) -> bytes:
        """Returns the bytes that a string of variable length refers to."""
        length, address, index = reference.uint(4), reference.uint(8), reference.uint(4)
        if not length:
            return b""
        if address not in self.heaps:
            self.heaps[address] = self._read_heap(address, reference.what)
        data = self.heaps[address].get(index, b"")
        if length > len(data):
            raise self.source.damaged(f"{reference.what} has {length} bytes, its heap object {len(data)}")
        self.source.spend(length)  # many strings may refer to one object
        return data[:length]

    def _read_heap(self, address: int, what: str) -> dict[int, bytes]:
        """Returns index -> object of the global heap collection at `address` (III.E)."""
        what = f"the text heap of {what}"
        head = self.source.fields(address, 16, what, b"GCOL")
        head.version(1)
        head.take(3)
        size = head.uint(8)
        body = self.source.fields(address + 16, max(size - 16, 0), what)
        objects = {}
        while body.left >= 16:
            self.source.spend(64)
            index = body.uint(2)
            body.take(6)  # reference count, unused
            size = body.uint(8)
            if index == 0:  # the free space at the end
                break
            objects[index] = body.take(size)
            body.take(min(-size % 8, body.left))
        return objects
