"""tf_model.h5: TensorFlow weights as Keras 2 lays them out in HDF5, in today's spelling.

One group a top-level layer, listed in the root attribute layer_names; its attribute weight_names lists the full
variable names, and each dataset lies at group/variable name. Source: files that tf_keras 2.19 wrote.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import GPT2Error
from ..weights import TRUNK
from .contents import Contents
from .hdf5 import Hdf5File, write_hdf5
from .keras_h5 import is_keras_3, read_keras_h5
from .names import in_tf_model
from .tensor import STORAGE, Tensor, TensorFile, dtype_name, in_order

# The class name as Keras turns it into a layer name
MODEL_NAMES = {
    "model": "tfgpt2_model",
    "lm_head": "tfgpt2lm_head_model",
    "double_heads": "tfgpt2_double_heads_model",
    "sequence_classification": "tfgpt2_for_sequence_classification",
    # never in transformers' TensorFlow; named as it would have been
    "token_classification": "tfgpt2_for_token_classification",
    "question_answering": "tfgpt2_for_question_answering",
}
_KERAS_VERSION = "2.19.0"  # of the tf_keras whose layout this is


def read_hdf5(file: TensorFile) -> Contents:
    """Returns the weights of an open HDF5 file, laid out as Keras 3 does, or as Keras 2, by the datasets' paths."""
    opened = Hdf5File(file.file, str(file.path))
    opened.check_byte_order()
    if is_keras_3(opened):
        return read_keras_h5(file, opened)
    tensors = {}
    for path, dataset in opened.datasets.items():
        stored = dataset.dtype
        if stored.kind not in "fiu":
            raise GPT2Error(f"{file.path}: {path!r} holds {stored}, not numbers")
        tensors[path] = file.tensor(dtype_name(stored.newbyteorder("=")), dataset.shape, dataset.offset, stored)
    return Contents("tf-h5", tensors, era=_era(opened))


def _era(opened: Hdf5File) -> tuple[str, ...]:
    """Returns what the file tells of its time: the version of Keras, and how the word table is called."""
    version = opened.groups.get("", {}).get("keras_version")  # without a root group in what is damaged
    parts = [f"Keras {version}" if isinstance(version, str) else "shards as transformers writes them"]
    if any(path.endswith("wte/weight:0") for path in opened.datasets):
        parts.append("named as before transformers 4.30")
    if any(path.endswith("wte/embeddings:0") for path in opened.datasets):
        parts.append("named as from transformers 4.30 on")
    return tuple(parts)


def write_tf_h5(path: Path, tensors: Mapping[str, Tensor], head: str) -> None:
    """Writes the weights of a whole model, names as in its weight table, a piece in memory at a time."""
    model = MODEL_NAMES[head]
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        _check_place(name, tensor)
        found = in_tf_model(name if head != "model" else TRUNK + name, tensor, model)
        layers.setdefault(found.name.split("/")[1], {})[found.name] = found.tensor
    if "score" in layers:  # TF's classifier lists it first
        layers = {"score": layers.pop("score"), **layers}
    groups: dict[str, dict] = {
        "": {"layer_names": list(layers), "backend": "tensorflow", "keras_version": _KERAS_VERSION},
        "top_level_model_weights": {"weight_names": np.zeros(0)},
    }
    datasets = {}
    values = in_order(tensor for weights in layers.values() for tensor in weights.values())
    for layer, weights in layers.items():
        groups[layer] = {"weight_names": list(weights)}
        for name, tensor in weights.items():
            datasets[f"{layer}/{name}"] = (tensor.shape, STORAGE[tensor.dtype], functools.partial(next, values))
    with open(path, "wb") as file:
        write_hdf5(file, groups, datasets)


def _check_place(name: str, tensor: Tensor) -> None:
    if name == "lm_head.weight":
        raise GPT2Error(
            "tf_model.h5 has no place for lm_head.weight: TensorFlow's GPT-2 always ties it to wte. "
            'Save this model with format="safetensors"'
        )
    if tensor.dtype == "bfloat16":
        raise GPT2Error(
            f"tf_model.h5 has no bfloat16, and {name} is: convert the model to float32 (which is exact), "
            'or save it with format="safetensors"'
        )
