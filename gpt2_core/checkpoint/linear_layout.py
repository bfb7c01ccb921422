"""Checkpoints whose projections are plain Linear layers, (out, in), as nanoGPT's and llm.c's; biases may be missing."""

from __future__ import annotations

import re

import numpy as np

from .tensor import STORAGE, Tensor

_PROJECTION = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")
_FIRST = "h.0.attn.c_attn.weight"


def is_linear(tensors: dict[str, Tensor]) -> bool:
    """Returns whether the projections are (out, in): c_attn tells, as it is three times as long as it is wide."""
    if _FIRST not in tensors or "wte.weight" not in tensors:
        return False
    width = tensors["wte.weight"].shape[-1]
    return tensors[_FIRST].shape == (3 * width, width)


def projections(tensors: dict[str, Tensor]) -> list[str]:
    """Returns the names of those that are to be turned."""
    return [name for name in tensors if _PROJECTION.fullmatch(name)]


def from_linear(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors with projections (in, out), and biases of zeros where a model was trained without."""
    turned = tensors | {name: tensors[name].transposed() for name in projections(tensors)}
    if any(name.startswith("h.") and name.endswith(".bias") for name in tensors):
        return turned
    whole = {}
    for name, tensor in turned.items():
        whole[name] = tensor
        if _PROJECTION.fullmatch(name) or re.fullmatch(r"(h\.\d+\.ln_[12]|ln_f)\.weight", name):
            whole[name.removesuffix("weight") + "bias"] = _zeros(tensor.dtype, tensor.shape[-1:])
    return whole


def _zeros(dtype: str, shape: tuple[int, ...]) -> Tensor:
    return Tensor(dtype, shape, lambda: np.zeros(shape, STORAGE[dtype]))
