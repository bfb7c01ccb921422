"""llm.c's `.bin` files: a header of 256 numbers and the weights, one kind after the other, each of all layers.

Source: the description in llm.c's own training script; versions 3 (float32) and 5 (bfloat16).
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import GPT2Error
from .contents import Contents
from .tensor import STORAGE, Tensor, TensorFile

MAGIC = (20240326).to_bytes(4, "little")
_HEADER = 1024  # bytes
_DTYPES = {3: "float32", 5: "bfloat16"}
_MOST = 2**31  # of any size; more cannot be a file
_PADDED_TO = 128  # rows of the word table, a multiple of which there is


def read_llm_c(file: TensorFile) -> Contents:
    """Returns the weights of an open file; the rows that pad its vocabulary are left out."""
    if file.size < _HEADER:
        raise file.damaged(f"it has {file.size} bytes, its header has {_HEADER}")
    header = np.frombuffer(file.bytes_at(0, _HEADER), "<i4")
    version, n_positions, vocab_size, n_layer, n_head, C, padded = map(int, header[1:8])
    if version not in _DTYPES:
        raise GPT2Error(f"{file.path} is of llm.c's version {version}; this reads {' and '.join(map(str, _DTYPES))}")
    sizes = (n_positions, vocab_size, n_layer, n_head, C, padded)
    if not all(0 < n < _MOST for n in sizes) or not 0 <= padded - vocab_size < _PADDED_TO:
        raise file.damaged(f"its header holds the sizes {', '.join(map(str, sizes))}")
    dtype = _DTYPES[version]
    kinds = _kinds(padded, n_positions, C)
    numbers = sum(math.prod(shape) * (n_layer if name.startswith("h.") else 1) for name, shape in kinds)
    end = _HEADER + numbers * STORAGE[dtype].itemsize
    if end > file.size:
        raise file.damaged(f"{kinds[-1][0]} ends at byte {end} of {file.size}")
    if end < file.size:
        raise file.damaged(f"{file.size - end} bytes follow the last tensor")
    tensors: dict[str, Tensor] = {}
    position = _HEADER
    for name, shape in kinds:
        layers = range(n_layer) if name.startswith("h.") else [None]
        for i in layers:
            kept = (vocab_size, C) if name == "wte.weight" else shape
            tensors[name if i is None else name.replace("h.", f"h.{i}.", 1)] = file.tensor(dtype, kept, position)
            position += math.prod(shape) * STORAGE[dtype].itemsize
    fields = {"vocab_size": vocab_size, "n_positions": n_positions, "n_layer": n_layer, "n_head": n_head, "n_embd": C}
    return Contents("llm.c", tensors, fields, era=(f"version {version}",))


def _kinds(padded: int, n_positions: int, C: int) -> list[tuple[str, tuple[int, ...]]]:
    """Returns names and shapes in the order of the file; names of blocks want a number after `h.`."""
    return [
        ("wte.weight", (padded, C)),
        ("wpe.weight", (n_positions, C)),
        ("h.ln_1.weight", (C,)),
        ("h.ln_1.bias", (C,)),
        ("h.attn.c_attn.weight", (3 * C, C)),
        ("h.attn.c_attn.bias", (3 * C,)),
        ("h.attn.c_proj.weight", (C, C)),
        ("h.attn.c_proj.bias", (C,)),
        ("h.ln_2.weight", (C,)),
        ("h.ln_2.bias", (C,)),
        ("h.mlp.c_fc.weight", (4 * C, C)),
        ("h.mlp.c_fc.bias", (4 * C,)),
        ("h.mlp.c_proj.weight", (C, 4 * C)),
        ("h.mlp.c_proj.bias", (C,)),
        ("ln_f.weight", (C,)),
        ("ln_f.bias", (C,)),
    ]
