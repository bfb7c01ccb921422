"""What the tensors of a checkpoint tell of its config, where none lies beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .tensor import Tensor


def fields_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Returns the config fields that names and shapes tell; {} without a word table.

    The number of heads is not among them: no weight's shape depends on it.
    """
    if "wte.weight" not in tensors or len(tensors["wte.weight"].shape) != 2:
        return {}
    vocab_size, C = tensors["wte.weight"].shape
    blocks = [name.split(".")[1] for name in tensors if name.startswith("h.")]
    fields = {"vocab_size": vocab_size, "n_embd": C, "n_layer": len(set(blocks))}
    fields |= _length(tensors, "n_positions", "wpe.weight")
    inner = _length(tensors, "n_inner", "h.0.mlp.c_proj.weight")
    fields |= inner if inner.get("n_inner") != 4 * C else {}
    for table in ("score.weight", "classifier.weight"):
        fields |= _length(tensors, "num_labels", table)
    if any(".crossattention." in name for name in tensors):
        fields["add_cross_attention"] = True
    return fields


def _length(tensors: Mapping[str, Tensor], field: str, name: str) -> dict[str, int]:
    """Returns the length of a tensor's first axis under the name of a field, {} where there is no such tensor."""
    return {field: tensors[name].shape[0]} if name in tensors and tensors[name].shape else {}
