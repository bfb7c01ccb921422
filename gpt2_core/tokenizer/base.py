"""What both tokenizers share: everything but how a plain text becomes ids."""

from __future__ import annotations

import gc
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..assets import packaged
from ..atomic import Replacement, settle
from ..errors import GPT2Error
from ..hub import repository, split_options
from . import byte_level, files
from .added_tokens import AddedToken, Piece
from .batch import Tokens, one_of
from .calling import SIDES, Call, Options, pad_encoded, samples_of
from .encoding import BatchEncoding
from .files import CONFIG_FILE, JSON_FILE, SPECIAL_FILE, Saved
from .tokens import END_OF_TEXT, EXTRA, NAMES, TokenTable
from .training import train_vocabulary
from .vocabulary import (
    MERGES_FILE,
    PUBLISHED,
    VOCAB_FILE,
    Vocabulary,
    published_vocabulary,
    read_vocabulary,
    write_text,
    write_vocabulary,
)


class BaseTokenizer(TokenTable):
    """Byte-level BPE: any string becomes ids, and `decode` gives back exactly that string."""

    is_fast = False
    model_input_names = ("input_ids", "attention_mask")

    def __init__(
        self,
        vocabulary: Vocabulary | str | Path,
        merges_file: str | Path | None = None,
        *,
        unk_token: Any = END_OF_TEXT,
        bos_token: Any = END_OF_TEXT,
        eos_token: Any = END_OF_TEXT,
        pad_token: Any = None,
        sep_token: Any = None,
        cls_token: Any = None,
        mask_token: Any = None,
        additional_special_tokens: Iterable[Any] = (),
        errors: str = "replace",
        add_prefix_space: bool = False,
        add_bos_token: bool = False,
        model_max_length: int = 1024,
        padding_side: str = "right",
        truncation_side: str = "right",
        added_tokens: Mapping[AddedToken, int] | None = None,
    ):
        """Makes a tokenizer of a vocabulary, or of the paths of a vocab.json and a merges.txt.

        A special token that the vocabulary lacks gets the next id; `<|endoftext|>` does not, and is then none.
        errors: what bytes that are no UTF-8, and lone surrogates, become; as in bytes.decode. add_prefix_space: a
        space goes before each text that has none, so that its first word is written as those within.
        add_bos_token: bos_token goes before each text. model_max_length: tokens that a model takes.
        added_tokens: tokens beside the vocabulary's, with their ids.
        """
        if not isinstance(vocabulary, Vocabulary):
            if merges_file is None:
                raise GPT2Error(f"a tokenizer is made of two files, {VOCAB_FILE} and {MERGES_FILE}: one path is given")
            vocabulary = read_vocabulary(vocabulary, merges_file)
        given = (unk_token, bos_token, eos_token, pad_token, sep_token, cls_token, mask_token)
        special = {**dict(zip(NAMES, given, strict=True)), EXTRA: list(additional_special_tokens)}
        super().__init__(vocabulary, errors, added_tokens or {}, special)
        self.add_prefix_space, self.add_bos_token = add_prefix_space, add_bos_token
        self.model_max_length = model_max_length
        self.padding_side = one_of("padding_side", padding_side, SIDES)
        self.truncation_side = one_of("truncation_side", truncation_side, SIDES)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **settings):
        """Returns the tokenizer of a folder, a file or a hub id; "gpt2" and the other published names need no network.

        A file: a tokenizer.json, a .tiktoken, or a checkpoint that the tokenizer lies beside.
        settings: arguments of the constructor, which win; for a hub id also `revision`, `token`, `cache_dir` and
        `local_files_only`.
        """
        options, settings = split_options(settings)
        if str(folder) in PUBLISHED and not Path(folder).exists():
            return cls(published_vocabulary(), **settings)
        path = packaged(folder)
        remote = repository(path, options)
        if remote is not None:
            path = files.fetch_tokenizer(remote)
        read = files.reader(path)
        if read is None and path.is_file():
            path = path.parent  # a checkpoint file: its tokenizer lies beside it
        if read is None:
            if not path.is_dir():
                needed = f"{VOCAB_FILE} and {MERGES_FILE}"
                raise GPT2Error(f"no folder {str(folder)!r}: give a folder with {needed}, or 'gpt2'")
            settle(path)
        saved: Saved = (read or files.read_folder)(path)
        return cls(saved.vocabulary, added_tokens=saved.added, **{**saved.settings, **settings})

    def save_pretrained(self, folder: str | Path) -> list[Path]:
        """Writes the vocabulary and the settings into `folder`, as transformers and tokenizers read them."""
        with Replacement(folder) as new:
            self.write_files(new)
        return [Path(folder) / name for name in (VOCAB_FILE, MERGES_FILE, JSON_FILE, CONFIG_FILE, SPECIAL_FILE)]

    def save_vocabulary(self, folder: str | Path, filename_prefix: str | None = None) -> tuple[str, str]:
        """Writes [prefix-]vocab.json and [prefix-]merges.txt; returns their paths."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        with Replacement(folder) as new:
            write_vocabulary(self.vocabulary, new.path(prefix + VOCAB_FILE), new.path(prefix + MERGES_FILE))
        return str(Path(folder) / (prefix + VOCAB_FILE)), str(Path(folder) / (prefix + MERGES_FILE))

    def save_tiktoken(self, file: str | Path) -> None:
        """Writes the ranks as tiktoken reads them, which takes special tokens and the pattern from who makes it."""
        path = Path(file).expanduser()
        with Replacement(path.parent) as new:
            files.write_ranks(self.vocabulary, new.path(path.name), self.all_special_tokens)

    def write_files(self, new: Replacement) -> None:
        """Writes the tokenizer's files to the paths that `new.path(name)` gives."""
        write_vocabulary(self.vocabulary, new.path(VOCAB_FILE), new.path(MERGES_FILE))
        added = dict(self._added.values())
        bos = (self.bos_token, *self._bos()) if self.add_bos_token else None
        write_text(new.path(JSON_FILE), files.tokenizer_json(self.vocabulary, added, self.add_prefix_space, bos))
        decoder = {i: files.entry(token) for i, token in self.added_tokens_decoder.items()}
        named = {**dict.fromkeys(NAMES[:4]), **self.special_tokens_map}
        settings = {**named, **self._settings(), "added_tokens_decoder": decoder, "tokenizer_class": "GPT2Tokenizer"}
        write_text(new.path(CONFIG_FILE), json.dumps(settings, indent=2, ensure_ascii=False))
        write_text(new.path(SPECIAL_FILE), json.dumps(self.special_tokens_map, indent=2, ensure_ascii=False))

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in files.SETTINGS}

    def __reduce__(self):
        return type(self).from_dict, (self.to_dict(),)

    def to_dict(self) -> dict[str, Any]:
        """Returns what makes the tokenizer again, in values that JSON has; GPT-2's own vocabulary does not travel."""
        ids, merges = self.vocabulary
        vocabulary = None if self.vocabulary is published_vocabulary() else {"ids": dict(ids), "merges": list(merges)}
        added = {str(i): files.entry(token) for i, token in self.added_tokens_decoder.items()}
        special = {**self._named, EXTRA: list(self.additional_special_tokens)}
        return {**self._settings(), **special, "vocabulary": vocabulary, "added_tokens": added}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]):
        """Returns the tokenizer that `to_dict` told of."""
        settings = {**values, "added_tokens": {AddedToken.of(t): int(i) for i, t in values["added_tokens"].items()}}
        vocabulary = settings.pop("vocabulary")
        if vocabulary is None:
            return cls(published_vocabulary(), **settings)
        return cls(Vocabulary(vocabulary["ids"], tuple(map(tuple, vocabulary["merges"]))), **settings)

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """Returns the tokens of a text; added and special ones in it are kept whole."""
        ids = self.encode(text, pair, add_special_tokens=add_special_tokens, verbose=False)
        return self.convert_ids_to_tokens(ids)

    def encode(self, text: Any, text_pair: Any = None, **options) -> Any:
        """Returns the ids of a text: `input_ids` of a call with the same options."""
        if type(text) is str and text_pair is None and not options and not self.add_bos_token:
            ids = self._ids_of(text, False, self.add_prefix_space)
            self._warn_if_long(len(ids))
            return ids.tolist()
        return self(text, text_pair, **options)["input_ids"]

    def __call__(self, text: Any, text_pair: Any = None, **options) -> BatchEncoding:
        """Returns input_ids and attention_mask, and what else the options of `calling.Options` ask for.

        text: one text, a list of them, or of pairs (tuples); text_pair: a second text for each.

        >>> from gpt2_core import GPT2Tokenizer
        >>> tokenizer = GPT2Tokenizer.from_pretrained("gpt2", pad_token="<|endoftext|>")
        >>> tokenizer(["hello", "hello world"], padding=True)
        {'input_ids': [[31373, 50256], [31373, 995]], 'attention_mask': [[1, 0], [1, 1]]}
        """
        chosen = Options.of(options)
        collecting = gc.isenabled()
        gc.disable()  # the collector of cycles would walk through all the new lists of ids again and again
        try:
            samples, batched = samples_of(text, text_pair, chosen.is_split_into_words)
            return Call(self, samples, chosen).encoding(single=not batched)
        finally:
            if collecting:
                gc.enable()

    encode_plus = batch_encode_plus = __call__  # transformers' older names

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Returns encoded rows filled up to one length: a dict of rows, or a list of dicts of one row each.

        attention_mask and token_type_ids are filled with 0, special_tokens_mask with 1, offset_mapping with (0, 0).
        """
        options = Options(padding=padding, max_length=max_length, pad_to_multiple_of=pad_to_multiple_of)
        side = one_of("padding_side", padding_side or self.padding_side, SIDES)
        return pad_encoded(self, encoded_inputs, options, side == "left", return_attention_mask, return_tensors)

    def train_new_from_iterator(self, texts: Iterable[str], vocab_size: int):
        """Returns a tokenizer with this one's settings and a vocabulary learnt from texts."""
        special: dict[str, Any] = {**self._named, EXTRA: self.additional_special_tokens}
        return type(self)(train_vocabulary(texts, vocab_size), **self._settings(), **special)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Returns how many tokens are put beside those of a text, or of two."""
        return len(self._bos()) * (2 if pair else 1)

    def build_inputs_with_special_tokens(self, first: Sequence[int], second: Sequence[int] | None = None) -> list[int]:
        """Returns the ids of one text, or of two, with bos_token before each where add_bos_token is set."""
        return [*self._bos(), *first, *([] if second is None else [*self._bos(), *second])]

    def _plain_ids(self, text: str) -> np.ndarray:
        """Returns the ids of a text without added tokens, (n,)."""
        raise NotImplementedError

    def _plain_ids_of_all(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """As _plain_ids, of many texts."""
        return map(self._plain_ids, texts)

    def _plain_sizes(self, text: str, ids: np.ndarray) -> np.ndarray:
        """Returns how many bytes of a text each of its tokens has, (n,)."""
        table = self._bytes
        return np.fromiter((len(table[i]) for i in ids.tolist()), np.int64, len(ids))  # type: ignore[arg-type]

    def _bos(self) -> list[int]:
        if not self.add_bos_token:
            return []
        if self.bos_token_id is None:
            raise GPT2Error("add_bos_token is set, and there is no bos_token: pass bos_token=, or add_bos_token=False")
        return [self.bos_token_id]

    def _pad_id(self) -> int:
        if self.pad_token_id is None:
            raise GPT2Error("padding needs a pad_token, and GPT-2 has none: tokenizer.pad_token = tokenizer.eos_token")
        return self.pad_token_id

    def _warn_if_long(self, length: int) -> None:
        if length > self.model_max_length:
            takes = f"the model takes {self.model_max_length}"
            self._warn_once("long", f"{length} tokens, and {takes}: pass truncation=True, or cut the text")

    def _pieces(self, text: str, split_special: bool) -> list[Piece]:
        splitter = self._splitters[split_special]
        if splitter.holds(text):
            return splitter.split(text)
        return [Piece(0, len(text))] if text else []

    def _ids_of(self, text: str, split_special: bool, prefix: bool) -> np.ndarray:
        """Returns the ids of a text, (n,). `prefix`: a space goes before what has none."""
        if not self._splitters[split_special].holds(text):
            return self._plain_ids(" " + text if prefix and text and text[0] != " " else text)
        parts = [np.zeros(0, np.int64)]
        for piece in self._pieces(text, split_special):
            if piece.id is None:
                part = text[piece.start : piece.stop]
                parts.append(self._plain_ids(" " + part if prefix and part[0] != " " else part))
            else:
                parts.append(np.array([piece.id]))
        return np.concatenate(parts)

    def _ids_of_all(self, texts: Sequence[str], split_special: bool) -> Iterator[np.ndarray]:
        holds = self._splitters[split_special].holds
        if self.add_prefix_space or any(map(holds, texts)):
            return (self._ids_of(text, split_special, self.add_prefix_space) for text in texts)
        return self._plain_ids_of_all(texts)

    def _ids_of_words(self, words: Sequence[str], split_special: bool) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int64), *(self._ids_of(word, split_special, True) for word in words)])

    def _tokens_of(self, text: Any, split_special: bool, with_words: bool) -> Tokens:
        """Returns the tokens of a text, or of a list of words, and where in it each comes from.

        Without `with_words` all words are 0: a text must be split once more for them.
        """
        if isinstance(text, str):
            found, start = [], 0
            for piece in self._pieces(text, split_special):
                tokens = self._tokens_of_piece(text, piece, self.add_prefix_space, with_words)
                found.append(tokens._replace(words=tokens.words + start))
                start += 1 + int(tokens.words.max(initial=-1))
        else:
            found = [
                tokens._replace(words=np.full_like(tokens.words, number))
                for number, word in enumerate(text)
                for piece in self._pieces(word, split_special)
                for tokens in (self._tokens_of_piece(word, piece, True, False),)
            ]
        empty = Tokens(np.zeros(0, np.int64), np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
        return Tokens(*map(np.concatenate, zip(empty, *found, strict=True)))

    def _tokens_of_piece(self, text: str, piece: Piece, prefix: bool, with_words: bool) -> Tokens:
        """Returns a piece's tokens; words are counted from its own first one."""
        if piece.id is not None:
            return Tokens(np.array([piece.id]), np.array([[piece.start, piece.stop]]), np.zeros(1, np.int64))
        part = text[piece.start : piece.stop]
        prefix = prefix and part[0] != " "
        whole = " " + part if prefix else part
        ids = self._plain_ids(whole)
        sizes = self._plain_sizes(whole, ids)
        ends = sizes.cumsum()
        # the character of each byte; the space that was put before is of the first one
        character = byte_level.characters(part, self.errors)
        if prefix:
            character = np.concatenate([[0], character])
        spans = np.stack([character[ends - sizes], character[ends - 1] + 1], axis=1) + piece.start
        if not with_words:
            return Tokens(ids, spans, np.zeros(len(ids), np.int64))
        words = [len(word) for word in byte_level.pre_tokens(whole, self.errors)]
        begins = np.fromiter(itertools.accumulate(words, initial=0), np.int64, len(words) + 1)[:-1]
        return Tokens(ids, spans, np.searchsorted(begins, ends - sizes, side="right") - 1)
