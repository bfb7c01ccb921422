"""A call of a tokenizer: its options, and the rows, masks and tensors that they ask for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import GPT2Error, nearest
from ..plain import is_int, plain
from .batch import Row, filled, one_of, row_of, width_of, windows
from .encoding import BatchEncoding, stacked, tensor_maker

if TYPE_CHECKING:
    from .base import BaseTokenizer

SIDES = ("left", "right")
_ONE = np.ones((), np.int64)
_Rows = Sequence[np.ndarray] | np.ndarray
_PADDINGS = {True: "longest", False: "do_not_pad", None: "do_not_pad"}
_TRUNCATIONS = {True: "longest_first", False: "do_not_truncate", None: "do_not_truncate"}


@dataclasses.dataclass(frozen=True)
class Options:
    """What a call may be asked for.

    add_special_tokens: bos_token, where add_bos_token is set. padding: True or "longest", "max_length"; needs a
    pad_token. truncation: True or "longest_first", "only_first", "only_second", to max_length, by default
    model_max_length; None cuts where max_length is given and no padding. With return_overflowing_tokens, what is cut
    off makes more rows, which begin with `stride` tokens of the row before; overflow_to_sample_mapping says which text
    they are of. is_split_into_words: a text is a list of words; a space goes before each that has none.
    split_special_tokens: special tokens in a text are plain text. return_tensors: "np", "pt" or "tf".
    offset_mapping: (start, end) characters of each token, the space before a word included; (0, 0) of special ones.
    """

    add_special_tokens: bool = True
    padding: bool | str | None = False
    truncation: bool | str | None = None
    max_length: int | None = None
    stride: int = 0
    is_split_into_words: bool = False
    pad_to_multiple_of: int | None = None
    padding_side: str | None = None
    truncation_side: str | None = None
    return_tensors: str | None = None
    return_token_type_ids: bool = False
    return_attention_mask: bool | None = None
    return_overflowing_tokens: bool = False
    return_special_tokens_mask: bool = False
    return_offsets_mapping: bool = False
    return_length: bool = False
    split_special_tokens: bool = False
    verbose: bool = True

    def __post_init__(self) -> None:
        one_of("padding", self.fill, ("longest", "max_length", "do_not_pad"))
        one_of("truncation", self.strategy, ("longest_first", "only_first", "only_second", "do_not_truncate"))
        for name in ("padding_side", "truncation_side"):
            one_of(name, getattr(self, name) or "right", SIDES)
        for name, least in (("max_length", 0), ("stride", 0), ("pad_to_multiple_of", 1)):
            value = getattr(self, name)
            if value is not None and (not is_int(value) or value < least):
                raise GPT2Error(f"{name}={value!r}: it must be a whole number from {least}")
        multiple = self.pad_to_multiple_of or 1
        cut_and_padded = "do_not_pad" != self.fill and "do_not_truncate" != self.strategy
        if cut_and_padded and self.max_length is not None and self.max_length % multiple:
            raise GPT2Error(
                f"max_length={self.max_length} is no multiple of pad_to_multiple_of={multiple}: padding would make "
                "rows longer than they are cut to"
            )

    @property
    def fill(self) -> str:
        """`padding` by its name."""
        return _PADDINGS.get(self.padding, self.padding)  # type: ignore[arg-type, return-value]

    @property
    def strategy(self) -> str:
        """`truncation` by its name."""
        if self.max_length is not None and self.truncation is None and self.fill == "do_not_pad":
            return "longest_first"
        return _TRUNCATIONS.get(self.truncation, self.truncation)  # type: ignore[arg-type, return-value]

    @classmethod
    def of(cls, given: dict[str, Any]) -> Options:
        """Returns the options of a call; one that there is not raises."""
        for name in given:
            if name not in cls.__dataclass_fields__:
                hint = nearest(name, cls.__dataclass_fields__)
                raise GPT2Error(f"{name!r} is no option of a tokenizer's call.{hint}")
        return cls(**given)


class Sample(NamedTuple):
    """One input: a text, or a list of words, and a second one where there is a pair."""

    first: Any
    second: Any = None


def samples_of(text: Any, pair: Any, words: bool) -> tuple[list[Sample], bool]:
    """Returns the inputs of a call, and whether they came as a list. `words`: each is a list of words."""
    text, pair = _listed(text), _listed(pair)
    if isinstance(text, list) and pair is None and not words and {*map(type, text)} == {str}:
        return list(map(Sample, text)), True  # as below, for what is given most
    depth = (lambda value: isinstance(value, list)) if words else (lambda value: isinstance(value, str))
    one = depth(text) and not (words and text and isinstance(text[0], list))
    if one:
        if pair is not None and not depth(pair):
            raise GPT2Error(f"text_pair must be as text is: one text; a {type(pair).__name__} is not")
        samples = [Sample(text, pair)]
    elif not isinstance(text, list):
        raise _wrong(text, words)
    elif pair is None:
        pairs = not words and bool(text) and all(isinstance(item, tuple) for item in text)
        samples = [Sample(*item) if pairs and len(item) == 2 else Sample(item) for item in text]
    elif not isinstance(pair, list) or len(pair) != len(text):
        raise GPT2Error("text_pair must be as text is: a list of as many texts")
    else:
        samples = [Sample(*item) for item in zip(text, pair, strict=True)]
    for sample in samples:
        for value in sample if sample.second is not None else sample[:1]:
            if not depth(value) or (words and not all(isinstance(word, str) for word in value)):
                raise _wrong(value, words)
    return samples, not one


def _listed(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's and pandas' rows of texts
        value = value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _wrong(value: Any, words: bool) -> GPT2Error:
    allowed = "a list of words, or a list of those" if words else "a str, a list of them, or of pairs (tuples) of them"
    hint = ""
    if isinstance(value, bytes):
        hint = ": decode it first"
    elif isinstance(value, list) and not words:
        hint = ": pass is_split_into_words=True where texts are lists of words"
    return GPT2Error(f"text must be {allowed}; a {type(value).__name__} is not{hint}")


class Call:
    """The rows of one call: ids, and what else is known of their tokens where that is asked for."""

    def __init__(self, tokenizer: BaseTokenizer, samples: Sequence[Sample], options: Options):
        self.tokenizer, self.samples, self.options = tokenizer, samples, options
        self.strategy = options.strategy
        if options.truncation is None and self.strategy != "do_not_truncate":
            tokenizer._warn_once("cut", "max_length has texts cut, as with truncation=True: pass that, or False")
        self.limit = tokenizer.model_max_length if options.max_length is None else options.max_length
        self.left = (options.truncation_side or tokenizer.truncation_side) == "left"
        self.pad_left = (options.padding_side or tokenizer.padding_side) == "left"
        self.bos = tokenizer._bos() if options.add_special_tokens else []
        self.pad_id = 0 if options.fill == "do_not_pad" else tokenizer._pad_id()
        self._made: dict[bool, list[Row]] = {}
        self._made_with = self._state()

    def _state(self) -> tuple:
        """What of the tokenizer, which can be changed, the ids of a text depend on."""
        return self.tokenizer._splitters, self.tokenizer.add_prefix_space, self.tokenizer.errors

    def encoding(self, single: bool) -> BatchEncoding:
        """Returns what was asked for; of a single text without the dimension of the batch, where these are lists."""
        make = tensor_maker(self.options.return_tensors)
        columns, lengths = self._columns() if make is None else self._tensors(make)
        if self.strategy == "do_not_truncate" and self.options.verbose:
            self.tokenizer._warn_if_long(max(lengths, default=0))
        if single and make is None and not self.options.return_overflowing_tokens:
            columns = {name: rows[0] for name, rows in columns.items()}
        numbers = {"length": lengths} if self.options.return_length else {}
        if self.options.return_overflowing_tokens:
            numbers["overflow_to_sample_mapping"] = [row.sample for row in self._rows()]
        columns |= {name: values if make is None else make(np.array(values)) for name, values in numbers.items()}
        return BatchEncoding(
            columns, functools.partial(self.padded_rows, with_words=True), self.tokenizer._tokens_of_ids
        )

    def padded_rows(self, with_words: bool = False) -> list[Row]:
        """Returns the rows with their padding."""
        rows = self._rows(with_words)
        width = self._width([len(row.ids) for row in rows])
        return rows if width is None else [row.padded(width, self.pad_id, self.pad_left) for row in rows]

    def _columns(self) -> tuple[dict[str, list], list[int]]:
        """Returns the columns as lists, and the rows' lengths."""
        listed = self.tokenizer._integers.list_maker()
        if self.options.fill == "do_not_pad":
            lists = list(map(listed, self._ids()))
            mask = [[1] * len(row) for row in lists] if self.options.return_attention_mask is not False else []
        else:
            rows, held = self._padded(list(self._ids()))
            lists = list(map(listed, rows))
            mask = [row.tolist() for row in held]
        columns = self._in_order(lists, mask)
        for name, rows in columns.items():
            if name == "offset_mapping":
                columns[name] = [list(zip(*row.T.tolist(), strict=True)) for row in rows]
            elif name not in ("input_ids", "attention_mask"):
                columns[name] = [row.tolist() for row in rows]
        return columns, list(map(len, lists))

    def _tensors(self, make: Callable[[np.ndarray], Any]) -> tuple[dict[str, Any], list[int]]:
        """Returns the columns as tensors, and the rows' lengths."""
        rows = list(self._ids())
        ids, mask = self._padded(rows)
        columns = self._in_order(ids, mask)
        return {name: make(stacked(name, values)) for name, values in columns.items()}, list(map(len, ids))

    def _in_order(self, ids: Any, mask: Any) -> dict[str, Any]:
        """Returns the columns that were asked for, in the order that transformers has them."""
        options, columns = self.options, {"input_ids": ids}
        if options.return_token_type_ids:
            columns["token_type_ids"] = [row.types for row in self.padded_rows()]
        if options.return_attention_mask is not False:
            columns["attention_mask"] = mask
        if options.return_special_tokens_mask:
            columns["special_tokens_mask"] = [row.special for row in self.padded_rows()]
        if options.return_offsets_mapping:
            columns["offset_mapping"] = [row.spans for row in self.padded_rows()]
        return columns

    def _ids(self) -> Iterator[np.ndarray]:
        """Yields the ids of each row, before padding."""
        options, limit = self.options, self.limit
        asked = options.return_offsets_mapping or options.return_special_tokens_mask or options.return_token_type_ids
        if self.bos or asked or options.return_overflowing_tokens or any(s.second is not None for s in self.samples):
            yield from (row.ids for row in self._rows())
            return
        texts = [sample.first for sample in self.samples]
        cut = self.strategy != "do_not_truncate"
        if options.is_split_into_words:
            found: Iterable = (self.tokenizer._ids_of_words(words, options.split_special_tokens) for words in texts)
        else:
            found = self.tokenizer._ids_of_all(texts, options.split_special_tokens)
        for row in found:
            if cut and len(row) > limit:
                self._check_cut()
                row = row[len(row) - limit :] if self.left else row[:limit]
            yield row

    def _check_cut(self) -> None:
        windows([self.limit + 1], self.limit, self.strategy, 0, self.left, False)  # raises for only_second

    def _rows(self, with_words: bool = False) -> list[Row]:
        """Returns the rows before padding; with the number of each token's word, which takes longer, or without."""
        if with_words not in self._made:
            if self._state() != self._made_with:
                raise GPT2Error("the tokenizer was changed since this text was encoded: encode it again")
            rows = [row for number in range(len(self.samples)) for row in self._rows_of(number, with_words)]
            self._made[with_words] = rows
        return self._made[with_words]

    def _rows_of(self, number: int, with_words: bool) -> list[Row]:
        options = self.options
        texts = [text for text in self.samples[number] if text is not None]
        tokens = [self.tokenizer._tokens_of(text, options.split_special_tokens, with_words) for text in texts]
        count = len(self.bos) * len(tokens)
        if self.strategy != "do_not_truncate" and self.limit < count:
            raise GPT2Error(f"max_length={self.limit}: bos_token alone takes {count}")
        places = windows(
            [len(text.ids) for text in tokens],
            None if self.strategy == "do_not_truncate" else self.limit - count,
            self.strategy,
            options.stride,
            self.left,
            options.return_overflowing_tokens,
        )
        return [row_of(tokens, self.bos, place, number) for place in places]

    def _width(self, lengths: Sequence[int]) -> int | None:
        return width_of(lengths, self.options.fill, self.limit, self.options.pad_to_multiple_of)

    def _padded(self, ids: list[np.ndarray]) -> tuple[_Rows, _Rows]:
        """Returns the rows of ids and of the mask: one array each where all have one length."""
        lengths = list(map(len, ids))
        width = self._width(lengths)
        if width is None:
            return ids, [np.broadcast_to(_ONE, length) for length in lengths]
        if max(lengths, default=0) <= width:
            return filled(ids, width, self.pad_id, self.pad_left)
        each = [filled([row], max(width, len(row)), self.pad_id, self.pad_left) for row in ids]
        return [values[0] for values, _ in each], [held[0] for _, held in each]


def pad_encoded(
    tokenizer: BaseTokenizer, encoded: Any, options: Options, left: bool, with_mask: bool | None, kind: str | None
) -> BatchEncoding:
    """Returns rows that were encoded before, filled up to one length; see BaseTokenizer.pad."""
    if isinstance(encoded, list | tuple) and all(isinstance(row, Mapping) for row in encoded):
        encoded = {name: [row[name] for row in encoded] for name in (encoded[0] if encoded else ("input_ids",))}
    if not isinstance(encoded, Mapping) or "input_ids" not in encoded:
        raise GPT2Error("pad takes what a call of the tokenizer returned, or a list of such: dicts with input_ids")
    columns = {name: plain(values) for name, values in encoded.items()}
    single = bool(columns["input_ids"]) and is_int(columns["input_ids"][0])
    if single:
        columns = {name: [row] for name, row in columns.items()}
    lengths = [len(row) for row in columns["input_ids"]]
    if with_mask is not False:
        columns.setdefault("attention_mask", [[1] * length for length in lengths])
    limit = tokenizer.model_max_length if options.max_length is None else options.max_length
    width = width_of(lengths, options.fill, limit, options.pad_to_multiple_of)
    pad_id = 0 if width is None else tokenizer._pad_id()
    fills: dict[str, Any] = {"input_ids": pad_id, "special_tokens_mask": 1, "offset_mapping": (0, 0)}
    make = tensor_maker(kind)
    for name, rows in columns.items():
        if width is not None and (name in fills or name in ("attention_mask", "token_type_ids")):
            spare = [[fills.get(name, 0)] * (width - len(row)) for row in rows]
            rows = [more + row if left else row + more for row, more in zip(rows, spare, strict=True)]
        columns[name] = rows if make is None else make(stacked(name, rows))
    if single and make is None:
        columns = {name: rows[0] for name, rows in columns.items()}
    return BatchEncoding(columns)
