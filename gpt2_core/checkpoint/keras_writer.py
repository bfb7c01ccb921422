"""Keras 3's `model.weights.h5`, which a `gpt2_tf` model's `load_weights` reads: written without Keras."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ..weights import TRUNK
from .hdf5 import write_hdf5
from .tensor import STORAGE, Tensor, in_order
from .tf_h5 import MODEL_NAMES

# A layer that is an attribute of a model lies under the name of its class, one of a layer under that of the attribute
_CLASSES = {
    "wte": "layers/embedding",
    "wpe": "layers/embedding_1",
    "ln_f": "layers/layer_norm",
    "lm_head": "layers/linear",
    "score": "layers/linear",
    "classifier": "classifier",  # attributes are walked by name, and this one comes before `layers`
    "qa_outputs": "layers/linear",
    "multiple_choice_head": "layers/sequence_summary",
}
_TRUNK = "layers/tfgpt2_model"
_BFLOAT16 = np.dtype("V2")  # two bytes of which HDF5 knows no more; an attribute tells Keras what they are
_NUMBERS = {"weight": 0, "bias": 1}


def write_keras_h5(path: Path, tensors: Mapping[str, Tensor], head: str) -> None:
    """Writes the weights of a whole model, names as in its weight table, a piece in memory at a time."""
    groups: dict[str, dict] = {"vars": {"name": MODEL_NAMES[head]}}
    datasets, notes = {}, {}
    values = in_order(tensors.values())
    for name, tensor in tensors.items():
        *layers, leaf = name.removeprefix(TRUNK).split(".")
        place, called = _places(layers, inside=head != "model" and name.startswith(TRUNK))
        for group, layer in zip(place, called, strict=True):
            groups[f"{group}/vars"] = {"name": layer}
        where = f"{place[-1]}/vars/{_NUMBERS[leaf]}"
        datasets[where] = (tensor.shape, STORAGE[tensor.dtype], functools.partial(next, values))
        if tensor.dtype == "bfloat16":
            datasets[where] = (tensor.shape, _BFLOAT16, functools.partial(_next_as_bytes, values))
            notes[where] = {"dtype": "bfloat16"}
    with open(path, "wb") as file:
        write_hdf5(file, groups, datasets, notes)


def _next_as_bytes(values: Iterator[Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
    return (piece.view(_BFLOAT16) for piece in next(values))


def _places(layers: list[str], inside: bool) -> tuple[list[str], list[str]]:
    """Returns the groups of a layer and of those around it, and their names: `h`, `0`, `attn` lie in h/block/attn.

    inside: they are the trunk's, which a head has as its `transformer`.
    """
    groups, names = ([_TRUNK], ["transformer"]) if inside else ([], [])
    around = f"{_TRUNK}/" if inside else ""
    if layers[0] == "h":
        groups.append(f"{around}h/block" + ("" if layers[1] == "0" else f"_{layers[1]}"))
        names.append(f"h.{layers[1]}")
        rest = layers[2:]
    else:
        groups.append(around + _CLASSES[layers[0]])
        names.append(layers[0])
        rest = layers[1:]
    for layer in rest:
        groups.append(f"{groups[-1]}/{layer}")
        names.append(layer)
    return groups, names
