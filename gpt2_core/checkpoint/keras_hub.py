"""KerasHub's GPT-2: queries, keys and values apart, heads as an axis of their own.

Source: a preset that KerasHub 0.32 wrote.
"""

from __future__ import annotations

import math
import re

import numpy as np

from ..errors import GPT2Error
from .tensor import Tensor, TensorFile

_BLOCK = re.compile(r"transformer_layer_(\d+)")
_LAYERS = {
    "self_attention_layer_norm": "ln_1",
    "feedforward_layer_norm": "ln_2",
    "feedforward_intermediate_dense": "mlp.c_fc",
    "feedforward_output_dense": "mlp.c_proj",
    "self_attention/attention_output": "attn.c_proj",
}
_TOPS = {"token_embedding": "wte", "position_embedding": "wpe", "layer_norm": "ln_f"}
_QKV = ("query", "key", "value")
_LEAVES = {"0": "weight", "1": "bias"}


def from_keras_hub(file: TensorFile, found: dict[tuple[str, ...], Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns published name -> Tensor, and -> KerasHub's name, of variables named by their layers and a number."""
    tensors: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for (*layers, number), tensor in found.items():
        leaf = _LEAVES.get(number)
        block = _BLOCK.fullmatch(layers[0])
        inner = "/".join(layers[1:])
        if leaf and len(layers) == 1 and layers[0] in _TOPS:
            name = f"{_TOPS[layers[0]]}.{leaf}"
            tensors[name] = tensor
        elif leaf and block and inner in _LAYERS:
            shape = tensor.shape
            if inner == "self_attention/attention_output" and len(shape) == 3:
                shape = (shape[0] * shape[1], shape[2])  # (H, D, C)
            name = f"h.{block[1]}.{_LAYERS[inner]}.{leaf}"
            tensors[name] = tensor.reshaped(shape)
        elif leaf and block and inner.removeprefix("self_attention/") in _QKV:
            name = f"h.{block[1]}.attn.c_attn.{leaf}"
            parts.setdefault(name, {})[inner.removeprefix("self_attention/")] = tensor
        else:
            raise GPT2Error(
                f"{file.path} holds a variable of {'/'.join(layers)}, which is no layer of KerasHub's GPT-2"
            )
        names[name] = "/".join((*layers, number))
    return tensors | {name: _joined(file, name, three) for name, three in parts.items()}, names


def _joined(file: TensorFile, name: str, three: dict[str, Tensor]) -> Tensor:
    """Returns (C, 3C) of three kernels (C, H, D), or (3C,) of three biases (H, D)."""
    shapes, dtypes = {x.shape for x in three.values()}, {x.dtype for x in three.values()}
    if set(three) != set(_QKV) or len(shapes) > 1 or len(dtypes) > 1:
        raise GPT2Error(f"{file.path} lacks a part of {name}, or its parts differ in shape or type")
    (shape,), (dtype,) = shapes, dtypes
    lead = shape[:-2]
    width = math.prod(shape[-2:])

    def check() -> None:
        for part in three.values():
            part.verify()

    def read() -> np.ndarray:
        return np.concatenate([three[part].read().reshape(*lead, width) for part in _QKV], axis=-1)

    return Tensor(dtype, (*lead, 3 * width), read, check=check)
