"""What a call of a tokenizer returns: a dict of ids and masks that knows where in the text each token comes from."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import GPT2Error
from .batch import NONE, Row

_INSTALL = {"pt": ("torch", "torch"), "tf": ("tensorflow", "tf")}


class CharSpan(NamedTuple):
    """Characters `start` to `end`, which is the first one after them."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """Tokens `start` to `end`, which is the first one after them."""

    start: int
    end: int


class BatchEncoding(dict):
    """input_ids, attention_mask, and what else was asked for: lists, or arrays and tensors as `return_tensors` said.

    The methods tell where each token comes from. `batch` is a row's number, and 0 where it is left out.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        rows: Callable[[], list[Row]] | None = None,
        tokens: Callable[[Any], list[str]] | None = None,
    ):
        """rows: makes the rows with their padding, which are asked for when a method needs them."""
        super().__init__(data)
        self._make_rows, self._tokens = rows, tokens
        self._rows: list[Row] | None = None

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}; it holds {', '.join(self)}")

    def __reduce__(self):
        return type(self), (dict(self),)  # in another process the data counts, and not where it came from

    def to(self, device: Any) -> BatchEncoding:
        """Moves PyTorch's tensors to a device, in place."""
        self.update({name: value.to(device) if hasattr(value, "to") else value for name, value in self.items()})
        return self

    def tokens(self, batch: int = 0) -> list[str]:
        """Returns the tokens of a row."""
        row = self._row(batch)
        return self._tokens(row.ids) if self._tokens else []

    def word_ids(self, batch: int = 0) -> list[int | None]:
        """Returns for each token the number of its word in the text, or in the list of words; None if it has none."""
        return _with_none(self._row(batch).words)

    def sequence_ids(self, batch: int = 0) -> list[int | None]:
        """Returns for each token whether it is of the first text (0) or the second (1); None if it is special."""
        return _with_none(self._row(batch).sequences)

    def token_to_sequence(self, batch_or_token: int, token: int | None = None) -> int | None:
        """Returns which text, 0 or 1, a token is of."""
        row, i = self._token(batch_or_token, token)
        return _with_none(row.sequences[i : i + 1])[0]

    def token_to_word(self, batch_or_token: int, token: int | None = None) -> int | None:
        """Returns the number of a token's word."""
        row, i = self._token(batch_or_token, token)
        return _with_none(row.words[i : i + 1])[0]

    def token_to_chars(self, batch_or_token: int, token: int | None = None) -> CharSpan | None:
        """Returns the characters of a token; None where it has none."""
        row, i = self._token(batch_or_token, token)
        return None if row.sequences[i] == NONE else CharSpan(*row.spans[i].tolist())

    def char_to_token(self, batch_or_char: int, char: int | None = None, sequence_index: int = 0) -> int | None:
        """Returns the first token that holds a character; None where none does."""
        batch, char = (0, batch_or_char) if char is None else (batch_or_char, char)
        row = self._row(batch)
        holds = (row.sequences == sequence_index) & (row.spans[:, 0] <= char) & (char < row.spans[:, 1])
        return int(np.argmax(holds)) if holds.any() else None

    def word_to_tokens(self, batch_or_word: int, word: int | None = None, sequence_index: int = 0) -> TokenSpan | None:
        """Returns the tokens of a word; None where it has none."""
        batch, word = (0, batch_or_word) if word is None else (batch_or_word, word)
        row = self._row(batch)
        found = np.flatnonzero((row.sequences == sequence_index) & (row.words == word))
        return TokenSpan(int(found[0]), int(found[-1]) + 1) if found.size else None

    def word_to_chars(self, batch_or_word: int, word: int | None = None, sequence_index: int = 0) -> CharSpan | None:
        """Returns the characters of a word; None where it has none."""
        batch = 0 if word is None else batch_or_word
        tokens = self.word_to_tokens(batch_or_word, word, sequence_index)
        if tokens is None:
            return None
        spans = self._row(batch).spans
        return CharSpan(int(spans[tokens.start, 0]), int(spans[tokens.end - 1, 1]))

    def char_to_word(self, batch_or_char: int, char: int | None = None, sequence_index: int = 0) -> int | None:
        """Returns the number of the word that holds a character; None where none does."""
        token = self.char_to_token(batch_or_char, char, sequence_index)
        return None if token is None else self.token_to_word(0 if char is None else batch_or_char, token)

    def _token(self, batch_or_token: int, token: int | None) -> tuple[Row, int]:
        batch, token = (0, batch_or_token) if token is None else (batch_or_token, token)
        row = self._row(batch)
        if not -len(row.ids) <= token < len(row.ids):
            raise GPT2Error(f"token {token}: row {batch} has {len(row.ids)} tokens")
        return row, token % len(row.ids)

    def _row(self, batch: int) -> Row:
        if self._rows is None:
            if self._make_rows is None:
                raise GPT2Error(
                    "where the tokens come from is not known any more: ask in the process that called the tokenizer"
                )
            self._rows = self._make_rows()
        if not -len(self._rows) <= batch < len(self._rows):
            raise GPT2Error(f"row {batch}: there are {len(self._rows)}")
        return self._rows[batch]


def tensor_maker(kind: str | None) -> Callable[[np.ndarray], Any] | None:
    """Returns what makes tensors of arrays: numpy's ("np"), PyTorch's ("pt"), TensorFlow's ("tf"); None for lists."""
    if kind is None:
        return None
    if kind == "np":
        return np.ascontiguousarray
    if kind not in _INSTALL:
        raise GPT2Error(f"return_tensors={kind!r}: it must be 'np', 'pt', 'tf' or None")
    module, extra = _INSTALL[kind]
    try:
        framework = importlib.import_module(module)
    except ImportError:
        raise GPT2Error(f'return_tensors="{kind}" needs {module}: pip install "gpt2-duo[{extra}]"') from None
    if kind == "pt":
        return framework.from_numpy
    return lambda values: framework.constant(values, framework.int32)


def stacked(name: str, rows: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Returns rows as one array; GPT2Error where they differ in length."""
    if isinstance(rows, np.ndarray):
        return rows
    if len({len(row) for row in rows}) > 1:
        raise GPT2Error(
            f"the rows of {name} differ in length, so they make no tensor: pass padding=True, and truncation=True "
            "where they may be too long"
        )
    return np.stack([np.asarray(row) for row in rows]) if rows else np.zeros((0, 0), np.int64)


def _with_none(values: np.ndarray) -> list[int | None]:
    return [None if value == NONE else value for value in values.tolist()]
