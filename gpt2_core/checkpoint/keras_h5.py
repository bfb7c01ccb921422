"""Keras 3's weight files of `gpt2_tf` and of KerasHub, alone or within a `.keras` archive.

A variable lies at `<path of its layer>/vars/<number>`, where paths are made of class names (`layers/embedding_1`); the
name that the layer was given is an attribute `name` of the group `vars`. Source: files that Keras 3.15 wrote.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re

import numpy as np

from ..errors import GPT2Error
from .contents import Contents
from .hdf5 import Dataset, Hdf5File
from .keras_hub import from_keras_hub
from .tensor import FLOATS, STORAGE, Tensor, TensorFile
from .zip_members import Member, check_member, member_bytes, zip_members

KERAS_FILE = "model.weights.h5"
_VARIABLE = re.compile(r"(?:(.*)/)?vars/(\d+)")
_LEAVES = ("weight", "bias")  # in the order in which the layers of gpt2_tf make them
_TOPS = re.compile(r"transformer|wte|wpe|ln_f|h\.\d+|lm_head|multiple_choice_head|score|classifier|qa_outputs")
_MAX_CONFIG = 1_000_000  # bytes


def is_keras_3(file: Hdf5File) -> bool:
    """Returns whether an HDF5 file is laid out as Keras 3 does, and not as Keras 2."""
    return any(_VARIABLE.fullmatch(path) for path in file.datasets)


def read_keras_h5(file: TensorFile, opened: Hdf5File, start: int = 0, check=None) -> Contents:
    """Returns the weights of an HDF5 file that lies at byte `start` of an open one, under the published names.

    `check` raises unless the file is as it was written; it is called before the first values are read.
    """
    tensors: dict[tuple[str, ...], Tensor] = {}
    paths: dict[tuple[str, ...], str] = {}
    skipped = []
    for path, dataset in opened.datasets.items():
        found = _VARIABLE.fullmatch(path)
        names = _names_of_layers(opened, found[1] or "") if found else []
        dtype, stored = _type(dataset)
        if found is None or not names or dtype not in FLOATS:
            skipped.append(path)  # an optimizer's, the seeds of dropout
            continue
        tensor = file.tensor(dtype, dataset.shape, start + dataset.offset, stored)
        if (*names, found[2]) in tensors:
            raise GPT2Error(f"{file.path} holds {path!r} under another path too: it is damaged")
        paths[(*names, found[2])] = path
        tensors[(*names, found[2])] = dataclasses.replace(tensor, check=check)
    if any("token_embedding" in names for names in tensors):
        published, own = from_keras_hub(file, tensors)
        return Contents("keras-hub", published, era=("KerasHub on Keras 3",), skipped=tuple(skipped), names=own)
    known = {names: _published(names) for names in tensors}
    skipped += ["/".join(names) for names, name in known.items() if name is None]
    published = {name: tensors[names] for names, name in known.items() if name is not None}
    own = {name: paths[names] for names, name in known.items() if name is not None}
    return Contents("keras", published, era=("Keras 3",), skipped=tuple(skipped), names=own)


def read_keras_archive(file: TensorFile) -> Contents:
    """Returns the weights, and the config, of an open `.keras` file."""
    members = zip_members(file)
    weights = members.get(KERAS_FILE)
    if weights is None or "config.json" not in members:
        raise GPT2Error(f"{file.path} is a zip archive, but none of Keras: it holds no {KERAS_FILE} and config.json")
    config = member_bytes(file, members["config.json"], _MAX_CONFIG)
    check = functools.cache(functools.partial(check_member, file, weights))
    opened = Hdf5File(_Part(file, weights), f"{file.path} ({KERAS_FILE})")
    opened.check_byte_order()
    contents = read_keras_h5(file, opened, weights.offset, check)
    return dataclasses.replace(contents, fields=_fields(config), era=(*contents.era, "a .keras archive"))


def _fields(config: bytes) -> dict | None:
    """Returns the GPT2Config within a model's own config, None where it is another model's."""
    try:
        whole = json.loads(config)
        fields, name = whole["config"]["config"], whole["class_name"].removeprefix("TF")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return {**fields, "architectures": [name]} if isinstance(fields, dict) else None


def _type(dataset: Dataset) -> tuple[str, np.dtype]:
    """Returns what a dataset holds, and how it is stored: bfloat16 as bytes with a note."""
    if dataset.dtype.itemsize == 2 and dataset.attributes.get("dtype") == "bfloat16":
        return "bfloat16", STORAGE["bfloat16"]
    return dataset.dtype.newbyteorder("=").name, dataset.dtype


def _names_of_layers(opened: Hdf5File, path: str) -> list[str]:
    """Returns the names of a layer and of those around it, below the model itself."""
    names = []
    for end in [i for i, c in enumerate(path + "/") if c == "/"]:
        name = opened.groups.get(f"{path[:end]}/vars", {}).get("name")
        if isinstance(name, str):
            names.append(name)
    return names


def _published(names: tuple[str, ...]) -> str | None:
    """Returns the published name of a layer's variable, None of one that is no layer of GPT-2's."""
    *layers, number = names
    tops = [i for i, name in enumerate(layers) if _TOPS.fullmatch(name)]
    return ".".join([*layers[tops[0] :], _LEAVES[int(number)]]) if tops and int(number) < len(_LEAVES) else None


class _Part:
    """A member of an archive as a file of its own, to seek in and to read."""

    def __init__(self, file: TensorFile, member: Member):
        self._file, self._member, self._position = file, member, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a place counted from the start, or with whence 2 from the end, and returns it."""
        self._position = offset + (self._member.size if whence == 2 else 0)
        return self._position

    def read(self, size: int) -> bytes:
        """Returns up to `size` bytes."""
        size = max(0, min(size, self._member.size - self._position))
        self._position += size
        return self._file.bytes_at(self._member.offset + self._position - size, size)
