"""Prompts, however they were given, as rows of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..config import GPT2Config
from ..errors import GPT2Error
from ..inputs import check_mask
from ..plain import is_int, plain

Rows = Sequence[Sequence[int]]


def prompts(config: GPT2Config, input_ids: Any, attention_mask: Any, bos: int | None) -> list[list[int]]:
    """Returns the kept tokens of each prompt; an empty one starts from `bos`."""
    rows, masks = lists(input_ids), lists(attention_mask)
    if not isinstance(rows, list) or not all(isinstance(row, list) and all(map(is_int, row)) for row in rows):
        raise GPT2Error("input_ids must be whole numbers of shape (B, T), or a list of lists of token ids")
    if attention_mask is not None:
        if not isinstance(masks, list) or not all(isinstance(row, list) for row in masks):
            raise GPT2Error("attention_mask must have the shape of input_ids, (B, T)")
        lengths = [len(row) for row in masks]
        if lengths != [len(row) for row in rows]:
            raise GPT2Error(
                f"attention_mask covers {lengths} tokens a row, input_ids has {[len(row) for row in rows]}: "
                "they must match"
            )
        check_mask("attention_mask", np.array([keep for row in masks for keep in row]))
        rows = [[token for token, keep in zip(*pair, strict=True) if keep] for pair in zip(rows, masks, strict=True)]
    _check_ids(config, rows)
    return rows if all(rows) else [row or [_start(config, bos)] for row in rows]


def lists(given: Any) -> Any:
    """Returns prompts, or their masks, as a list of rows where they are lists at all: a flat one is one row."""
    try:
        values = [] if given is None else plain(given)
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        raise GPT2Error(
            f"generate needs values, and was given a {type(given).__name__} without: call it with the tokens "
            "themselves, outside of tf.function and of a model that is being defined"
        ) from None
    if values == [] and len(getattr(given, "shape", ())) > 1:
        raise GPT2Error("input_ids holds no prompts: give at least one; an empty one starts from bos_token_id")
    flat = isinstance(values, list) and not any(isinstance(row, list) for row in values)
    return [values] if flat else values


def _check_ids(config: GPT2Config, rows: Rows) -> None:
    last = config.vocab_size - 1
    for row in rows:
        for token in row:
            if not 0 <= token <= last:
                raise GPT2Error(f"input_ids holds {token}: ids must be from 0 to vocab_size - 1 = {last}")


def _start(config: GPT2Config, bos: int | None) -> int:
    if bos is None:
        raise GPT2Error("a prompt is empty, and the model has no bos_token_id to start from: pass bos_token_id")
    if bos >= config.vocab_size:
        raise GPT2Error(
            f"a prompt is empty, and bos_token_id={bos} is no token of the model (vocab_size={config.vocab_size}): "
            "pass bos_token_id"
        )
    return bos


def aligned(rows: Rows, fill: int, width: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns (ids, mask), int64 and bool of (B, T): every row's tokens at its right end, where text goes on.

    width: T at least.
    """
    width = max(width, *map(len, rows))
    ids = np.full((len(rows), width), fill, np.int64)
    mask = np.zeros((len(rows), width), bool)
    for r, row in enumerate(rows):
        ids[r, width - len(row) :] = row
        mask[r, width - len(row) :] = True
    return ids, mask
