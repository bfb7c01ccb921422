"""GPT2Tokenizer: text to ids and back, in readable Python."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import regex

from ..assets import packaged
from ..atomic import Replacement, settle
from ..errors import GPT2Error
from ..hub import repository, split_options
from ..plain import is_int, plain
from . import byte_level
from .vocabulary import (
    MERGES_FILE,
    PUBLISHED,
    VOCAB_FILE,
    Vocabulary,
    fetch_tokenizer,
    published_vocabulary,
    read_vocabulary,
    write_vocabulary,
)

END_OF_TEXT = "<|endoftext|>"
CONFIG_FILE = "tokenizer_config.json"
SAVED_SETTINGS = ("unk_token", "bos_token", "eos_token", "pad_token", "errors", "add_prefix_space", "add_bos_token")
_WORDS_KEPT = 2**16  # pre-tokens whose merges are remembered


class GPT2Tokenizer:
    """Byte-level BPE: any string becomes ids, and `decode` gives back exactly that string.

    >>> tokenizer = GPT2Tokenizer.from_pretrained("gpt2")
    >>> tokenizer.encode("hello world")
    [31373, 995]
    >>> tokenizer.decode([31373, 995])
    'hello world'
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        unk_token: str | None = END_OF_TEXT,
        bos_token: str | None = END_OF_TEXT,
        eos_token: str | None = END_OF_TEXT,
        pad_token: str | None = None,
        errors: str = "replace",
        add_prefix_space: bool = False,
        add_bos_token: bool = False,
    ):
        self.vocabulary = vocabulary
        self.unk_token, self.bos_token, self.eos_token, self.pad_token = unk_token, bos_token, eos_token, pad_token
        self.errors = errors
        self.add_prefix_space = add_prefix_space
        self.add_bos_token = add_bos_token
        self._tokens = {i: token for token, i in vocabulary.ids.items()}
        self._ranks = {pair: rank for rank, pair in enumerate(vocabulary.merges)}
        self._merge = functools.lru_cache(_WORDS_KEPT)(lambda word: byte_level.merge(word, self._ranks))

    @classmethod
    def from_pretrained(cls, folder: str | Path, **settings) -> GPT2Tokenizer:
        """Returns the tokenizer of a folder or of a hub id; "gpt2" and the other published names need no network.

        settings: arguments of the constructor, which win; for a hub id also `revision`, `token`, `cache_dir` and
        `local_files_only`.
        """
        options, settings = split_options(settings)
        if str(folder) in PUBLISHED and not (Path(folder) / VOCAB_FILE).is_file():
            return cls(published_vocabulary(), **settings)
        path = packaged(folder)
        remote = repository(path, options)
        if remote is not None:
            path = fetch_tokenizer(remote)
        path = path.parent if path.is_file() else path  # a checkpoint file: its tokenizer lies beside it
        if not path.is_dir():
            raise GPT2Error(f"no folder {str(folder)!r}: give a folder with {VOCAB_FILE} and {MERGES_FILE}, or 'gpt2'")
        settle(path)
        return cls(read_vocabulary(path), **{**_read_settings(path), **settings})

    def save_pretrained(self, folder: str | Path) -> list[Path]:
        """Writes vocab.json, merges.txt and tokenizer_config.json into `folder`; returns their paths."""
        with Replacement(folder) as new:
            self.write_files(new)
        return [Path(folder) / name for name in (VOCAB_FILE, MERGES_FILE, CONFIG_FILE)]

    def save_vocabulary(self, folder: str | Path, filename_prefix: str | None = None) -> tuple[str, str]:
        """Writes [prefix-]vocab.json and [prefix-]merges.txt; returns their paths."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        with Replacement(folder) as new:
            write_vocabulary(self.vocabulary, new.path(prefix + VOCAB_FILE), new.path(prefix + MERGES_FILE))
        return str(Path(folder) / (prefix + VOCAB_FILE)), str(Path(folder) / (prefix + MERGES_FILE))

    def write_files(self, new) -> None:
        """Writes the tokenizer's files to the paths that `new.path(name)` gives."""
        write_vocabulary(self.vocabulary, new.path(VOCAB_FILE), new.path(MERGES_FILE))
        settings = {name: getattr(self, name) for name in SAVED_SETTINGS} | {"tokenizer_class": "GPT2Tokenizer"}
        new.path(CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8", newline="\n")

    def __reduce__(self):
        settings = {name: getattr(self, name) for name in SAVED_SETTINGS}
        return functools.partial(type(self), **settings), (self.vocabulary,)

    def __len__(self) -> int:
        return len(self.vocabulary.ids)

    def get_vocab(self) -> dict[str, int]:
        """Returns a copy of the vocabulary, token -> id."""
        return dict(self.vocabulary.ids)

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return len(self.vocabulary.ids)

    @property
    def bos_token_id(self) -> int | None:
        """Id of bos_token."""
        return self._id(self.bos_token)

    @property
    def eos_token_id(self) -> int | None:
        """Id of eos_token."""
        return self._id(self.eos_token)

    @property
    def pad_token_id(self) -> int | None:
        """Id of pad_token, None where none is set."""
        return self._id(self.pad_token)

    def tokenize(self, text: str) -> list[str]:
        """Returns the tokens of a text; special tokens in it are kept whole."""
        if not isinstance(text, str):
            raise GPT2Error(f"text is a {type(text).__name__}, not a str: decode bytes, or encode one string at a time")
        if self.add_prefix_space and not text.startswith((" ", *self._special)):
            text = " " + text
        tokens = []
        for piece in regex.split(self._special_pattern, text) if self._special else (text,):
            if piece in self._special:
                tokens.append(piece)
            else:
                for word in byte_level.pre_tokens(piece, self.errors):
                    tokens += self._merge(word)
        return tokens

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text; bos_token first if the tokenizer was made with add_bos_token."""
        ids = self.convert_tokens_to_ids(self.tokenize(text))
        if not self.add_bos_token:
            return ids
        if self.bos_token_id is None:
            raise GPT2Error(f"add_bos_token is set, and bos_token={self.bos_token!r} is not in the vocabulary")
        return [self.bos_token_id, *ids]

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        """Returns the text of ids; bytes that are no UTF-8 are treated as the tokenizer's `errors` says."""
        tokens = self.convert_ids_to_tokens(ids)
        if skip_special_tokens:
            tokens = [token for token in tokens if token not in self._special]
        return self.convert_tokens_to_string(tokens)

    def convert_tokens_to_ids(self, tokens: Sequence[str]) -> list[int]:
        """Returns the ids of tokens; a token outside the vocabulary becomes unk_token's."""
        ids, unknown = self.vocabulary.ids, self._id(self.unk_token)
        result = []
        for token in tokens:
            found = ids.get(token, unknown)
            if found is None:
                raise GPT2Error(f"{token!r} is not in the vocabulary, and no unk_token stands for it")
            result.append(found)
        return result

    def convert_ids_to_tokens(self, ids: Any) -> list[str]:
        """Returns the tokens of ids; an id outside the vocabulary raises."""
        ids = plain(ids)
        ids = [ids] if is_int(ids) else ids
        if not isinstance(ids, list) or not all(map(is_int, ids)):
            raise GPT2Error(f"ids must be one row of whole numbers, got {str(ids)[:80]}")
        for i in ids:
            if i not in self._tokens:
                raise GPT2Error(f"id {i} is not in the vocabulary of {len(self)} tokens (0 to {max(self._tokens)})")
        return [self._tokens[i] for i in ids]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Returns the text that tokens spell."""
        special = self._special
        parts = (token.encode() if token in special else byte_level.to_bytes(token) for token in tokens)
        return b"".join(parts).decode("utf-8", self.errors)

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self.vocabulary.ids.get(token)

    @property
    def _special(self) -> tuple[str, ...]:
        named = (self.unk_token, self.bos_token, self.eos_token, self.pad_token)
        return tuple(dict.fromkeys(token for token in named if token and token in self.vocabulary.ids))

    @property
    def _special_pattern(self) -> str:
        longest_first = sorted(self._special, key=len, reverse=True)
        return "(" + "|".join(regex.escape(token) for token in longest_first) + ")"


def _read_settings(folder: Path) -> dict:
    """Returns what a tokenizer_config.json says of the settings that this class has."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GPT2Error(f"{file} is not valid JSON ({error})") from None
    settings = {name: values[name] for name in SAVED_SETTINGS if name in values}
    # transformers 4 writes special tokens as {"content": "<|endoftext|>", "lstrip": false, …}
    return {name: value["content"] if isinstance(value, dict) else value for name, value in settings.items()}
