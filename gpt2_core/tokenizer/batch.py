"""Rows of ids for a model: cut to a length, put together, filled up. The same for both tokenizers; numpy only."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import GPT2Error

NONE = -1  # the word and the text of a token that no text holds
Window = tuple[int, int]


class Tokens(NamedTuple):
    """The tokens of one text: ids (n,), the characters that each covers (n, 2), the number of its word (n,)."""

    ids: np.ndarray
    spans: np.ndarray
    words: np.ndarray


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of ids, (T,), and what is known of each token. Special ones and padding have no word and no text (-1)."""

    ids: np.ndarray
    types: np.ndarray
    special: np.ndarray
    spans: np.ndarray  # (T, 2) characters of the text
    words: np.ndarray
    sequences: np.ndarray  # which text, 0 or 1
    sample: int  # which of the inputs

    def padded(self, width: int, pad_id: int, left: bool) -> Row:
        """Returns the row with padding up to `width` tokens."""
        lack = width - len(self.ids)
        if lack <= 0:
            return self
        side = (lack, 0) if left else (0, lack)
        fills = {"ids": pad_id, "types": 0, "special": 1, "words": NONE, "sequences": NONE}
        grown = {name: np.pad(getattr(self, name), side, constant_values=fill) for name, fill in fills.items()}
        return Row(**grown, spans=np.pad(self.spans, (side, (0, 0))), sample=self.sample)


def one_of(name: str, value: object, allowed: Collection[str]) -> str:
    """Returns a value that is one of some names; any other raises."""
    if not isinstance(value, str) or value not in allowed:
        raise GPT2Error(f"{name}={value!r}: it must be one of {', '.join(allowed)}")
    return value


def windows(
    lengths: Sequence[int], limit: int | None, strategy: str, stride: int, left: bool, overflow: bool
) -> list[tuple[Window, ...]]:
    """Returns which tokens of a text, and of a second one, make each row: the kept ones, then those that overflow.

    limit: tokens that a row may have, special ones aside. stride: tokens that one row shares with the next. With two
    texts that overflow, each part of one meets each part of the other, as in the tokenizers library.
    """
    if limit is None or strategy == "do_not_truncate" or sum(lengths) <= limit:
        return [tuple((0, length) for length in lengths)]
    sizes = _sizes(lengths, limit, strategy)
    parts = [_parts(*both, stride, left, overflow) for both in zip(lengths, sizes, strict=True)]
    if len(parts) == 1:
        return [(window,) for window in parts[0]]
    (a, *more_a), (b, *more_b) = parts
    return [(a, b), *itertools.product(more_a, (b, *more_b)), *((a, other) for other in more_b)]


def _sizes(lengths: Sequence[int], limit: int, strategy: str) -> Sequence[int]:
    """Returns how many tokens of each text are kept, of those that are too many together."""
    if strategy == "only_second" and len(lengths) == 1:
        raise GPT2Error("truncation='only_second' needs a second text: pass text_pair, or truncation=True")
    if len(lengths) == 1:
        return [limit]
    first, second = lengths
    if strategy == "longest_first":
        short, long = sorted(lengths)
        if 2 * short > limit:
            short, long = limit // 2, limit - limit // 2
        else:
            long = limit - short
        return (short, long) if first <= second else (long, short)
    other = second if strategy == "only_first" else first
    if limit <= other:
        raise GPT2Error(
            f"truncation={strategy!r}: the other text alone has {other} tokens of {limit} that a row may have: raise "
            "max_length, or pass truncation=True"
        )
    return (limit - other, other) if strategy == "only_first" else (other, limit - other)


def _parts(length: int, size: int, stride: int, left: bool, overflow: bool) -> list[Window]:
    if size >= length:
        return [(0, length)]
    if not overflow:
        return [(length - size, length) if left else (0, size)]
    if size == 0:
        return [(0, 0), (0, length)]
    if stride >= size:
        raise GPT2Error(f"stride={stride}: it must be less than the {size} tokens that a row has of the text")
    step = size - stride
    count = 1 + -(-(length - size) // step)
    if left:
        return [(max(0, length - i * step - size), length - i * step) for i in range(count)]
    return [(i * step, min(length, i * step + size)) for i in range(count)]


def row_of(texts: Sequence[Tokens], bos: Sequence[int], place: Sequence[Window], sample: int) -> Row:
    """Returns the row of one text, or of two, cut to their places; the ids of `bos` go before each."""
    start = np.asarray(bos, np.int64)
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("ids", "types", "special", "spans", "words", "sequences")
    }
    for number, (text, (begin, end)) in enumerate(zip(texts, place, strict=True)):
        parts["ids"] += [start, text.ids[begin:end]]
        parts["types"].append(np.full(len(start) + end - begin, number))
        parts["special"] += [np.ones_like(start), np.zeros(end - begin, np.int64)]
        parts["spans"] += [np.zeros((len(start), 2), np.int64), text.spans[begin:end]]
        parts["words"] += [np.full_like(start, NONE), text.words[begin:end]]
        parts["sequences"] += [np.full_like(start, NONE), np.full(end - begin, number)]
    return Row(**{name: np.concatenate(values) for name, values in parts.items()}, sample=sample)


def width_of(lengths: Sequence[int], padding: str, max_length: int, multiple: int | None) -> int | None:
    """Returns the tokens that rows are filled up to; None where they stay as they are."""
    if padding == "do_not_pad":
        return None
    width = max_length if padding == "max_length" else max(lengths, default=0)
    return -(-width // multiple) * multiple if multiple else width


def filled(rows: Sequence[np.ndarray], width: int, fill: int, left: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows as one array of `width` columns, and its mask: 1 for what is of a row, 0 for padding."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))[:, None]
    column = np.arange(width)
    held = column >= width - lengths if left else column < lengths
    values = np.full(held.shape, fill, np.int64)
    if rows:
        values[held] = np.concatenate(rows)
    return values, held.astype(np.int64)
