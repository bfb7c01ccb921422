"""Configs that others wrote for their GPT-2, turned into the published fields: OpenAI's, KerasHub's, nanoGPT's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import GPT2Error
from .plain import is_int

_OPENAI_FIELDS = {"n_vocab": "vocab_size", "n_ctx": "n_positions"}

_KERAS_HUB_FIELDS = {
    "vocabulary_size": "vocab_size",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "hidden_dim": "n_embd",
    "intermediate_dim": "n_inner",
    "max_sequence_length": "n_positions",
}


def published_fields(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the fields of a config.json that values of any of these kinds stand for; others as they are."""
    if "n_vocab" in values:
        return {_OPENAI_FIELDS.get(key, key): value for key, value in values.items()}
    if values.get("registered_name") == "keras_hub>GPT2Backbone":
        return _from_keras_hub(values)
    if "block_size" in values and "n_positions" not in values:
        return _from_nanogpt(values)
    return values


def _from_keras_hub(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that the config.json of a KerasHub preset stands for; its GPT-2 has gelu_new and 1e-5."""
    inner = values.get("config")
    if not isinstance(inner, Mapping) or not _KERAS_HUB_FIELDS.keys() <= inner.keys():
        raise GPT2Error(f"a config of KerasHub's GPT-2 has {', '.join(_KERAS_HUB_FIELDS)}: this one is not whole")
    dropout = inner.get("dropout", 0.1)
    drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    end = inner["vocabulary_size"] - 1 if is_int(inner["vocabulary_size"]) else None  # <|endoftext|>, as in GPT-2's
    ends = {"bos_token_id": end, "eos_token_id": end}
    return {field: inner[name] for name, field in _KERAS_HUB_FIELDS.items()} | drops | ends


def _from_nanogpt(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that nanoGPT's model_args stand for; it has the exact GELU, and no tokens of its own."""
    drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), values.get("dropout", 0.0))
    shape = {name: values[name] for name in ("vocab_size", "n_layer", "n_head", "n_embd") if name in values}
    size = values.get("vocab_size")
    has_end = isinstance(size, int) and size > 50256  # GPT-2's vocabulary, padded at times
    ends = {} if has_end else {"bos_token_id": None, "eos_token_id": None}
    return {**shape, "n_positions": values["block_size"], "activation_function": "gelu", **drops, **ends}
