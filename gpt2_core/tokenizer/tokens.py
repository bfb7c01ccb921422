"""The tokens that a tokenizer knows: its vocabulary's, those added to it, and which of them are special."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import GPT2Error
from ..plain import is_int, plain
from . import byte_level
from .added_tokens import AddedToken, Splitter
from .integers import Integers
from .vocabulary import Vocabulary

END_OF_TEXT = "<|endoftext|>"
NAMES = ("unk_token", "bos_token", "eos_token", "pad_token", "sep_token", "cls_token", "mask_token")
EXTRA = "additional_special_tokens"
_CLEAN_UP = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def _named(name: str) -> property:
    """Returns the property of a special token, a text or None, which may be set to a known one."""

    def get(table: TokenTable) -> str | None:
        return table._named[name]

    def put(table: TokenTable, value: Any) -> None:
        content = None if value is None else AddedToken.of(value).content
        if content is not None and content not in table._ids:
            raise GPT2Error(
                f"{name}={content!r} has no id: tokenizer.add_special_tokens({{{name!r}: {content!r}}}) gives it one, "
                f"and model.resize_token_embeddings(len(tokenizer)) a place in the model; or take a token that is "
                f"there: tokenizer.{name} = tokenizer.eos_token"
            )
        table._name(name, value)

    return property(get, put, doc=f"The {name.removesuffix('_token')} token, None where none is set.")


def _named_id(name: str) -> property:
    """Returns the property of a special token's id."""

    def get(table: TokenTable) -> int | None:
        token = table._named[name]
        return None if token is None else table._ids[token]

    def put(table: TokenTable, value: Any) -> None:
        table._name(name, None if value is None else table.convert_ids_to_tokens([value])[0])

    return property(get, put, doc=f"The id of {name}, None where none is set.")


class TokenTable:
    """Tokens, their ids and bytes; special ones by name."""

    unk_token, bos_token, eos_token, pad_token, sep_token, cls_token, mask_token = map(_named, NAMES)
    unk_token_id, bos_token_id, eos_token_id, pad_token_id = map(_named_id, NAMES[:4])
    sep_token_id, cls_token_id, mask_token_id = map(_named_id, NAMES[4:])

    def __init__(
        self, vocabulary: Vocabulary, errors: str, added: Mapping[AddedToken, int], special: Mapping[str, Any]
    ):
        """added: tokens with the ids they have. special: by name, and a list of `additional_special_tokens`."""
        self.vocabulary, self.errors = vocabulary, errors
        self.additional_special_tokens: list[str] = []
        self._named: dict[str, str | None] = dict.fromkeys(NAMES)
        self._added = {token.content: (token, i) for token, i in added.items()}
        self._ids = {**vocabulary.ids, **{content: i for content, (_, i) in self._added.items()}}
        if len(set(self._ids.values())) != len(self._ids):
            raise GPT2Error("two tokens have one id: an added token's is one of the vocabulary's")
        self._warned: set[str] = set()
        try:
            b"\xff".decode("utf-8", errors)
        except LookupError:
            raise GPT2Error(f"errors={errors!r}: it must be 'replace', 'strict' or another of Python's") from None
        except UnicodeError:
            pass
        self.add_special_tokens({n: t for n, t in special.items() if t is not None and self._is_wanted(t)})

    def _is_wanted(self, token: Any) -> bool:
        """A vocabulary without <|endoftext|> is not given one: it is the default of most names."""
        return token != END_OF_TEXT or END_OF_TEXT in self._ids

    @functools.cached_property
    def _content(self) -> list[str | None]:
        """The token of each id."""
        content: list[str | None] = [None] * (max(self._ids.values(), default=-1) + 1)
        for token, i in self._ids.items():
            content[i] = token
        return content

    @functools.cached_property
    def _integers(self) -> Integers:
        """What makes lists of ids."""
        return Integers(len(self._content))

    @functools.cached_property
    def _bytes(self) -> list[bytes | None]:
        """The bytes of each id."""
        found = iter(self._bytes_of([token for token in self._content if token is not None]))
        return [None if token is None else next(found) for token in self._content]

    @functools.cached_property
    def _splitters(self) -> tuple[Splitter, Splitter]:
        """What cuts a text at all added tokens, and at those that are not special."""
        ordinary = {token: i for token, i in self._added.values() if not token.special}
        return Splitter(dict(self._added.values())), Splitter(ordinary)

    def _bytes_of(self, tokens: Sequence[str]) -> list[bytes]:
        """An added token stands for its own UTF-8, any other for the bytes of its symbols."""
        ordinary = byte_level.all_to_bytes([token for token in tokens if token not in self._added])
        found = iter(ordinary)
        return [token.encode() if token in self._added else next(found) for token in tokens]

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} tokens, {self.special_tokens_map})"

    @property
    def vocab_size(self) -> int:
        """Number of tokens of the vocabulary, without what was added; len(tokenizer) counts that too."""
        return len(self.vocabulary.ids)

    def get_vocab(self) -> dict[str, int]:
        """Returns a copy of the vocabulary and of what was added, token -> id."""
        return dict(self._ids)

    def get_added_vocab(self) -> dict[str, int]:
        """Returns the tokens that are found in a text before BPE, special ones included, token -> id."""
        return {content: i for content, (_, i) in sorted(self._added.items(), key=lambda item: item[1][1])}

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The tokens that are found in a text before BPE, by id."""
        return {i: self._added[content][0] for content, i in self.get_added_vocab().items()}

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The special tokens that are set, by name."""
        named: dict[str, Any] = {name: token for name, token in self._named.items() if token is not None}
        return {**named, **({EXTRA: list(self.additional_special_tokens)} if self.additional_special_tokens else {})}

    @property
    def all_special_tokens(self) -> list[str]:
        """Each special token, once."""
        named = [token for token in self._named.values() if token is not None]
        return list(dict.fromkeys([*named, *self.additional_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of all_special_tokens."""
        return [self._ids[token] for token in self.all_special_tokens]

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Has tokens, each a text or an AddedToken, found whole in texts; returns how many had no id before.

        A model needs as many more rows of its table: `model.resize_token_embeddings(len(tokenizer))`.
        """
        before = len(self)
        free = itertools.count(max(self._ids.values(), default=-1) + 1)
        changed: dict[str, tuple[AddedToken, int]] = {}
        for value in [new_tokens] if isinstance(new_tokens, str | AddedToken) else new_tokens:
            token = AddedToken.of(value, True if special_tokens else None)
            known, _ = changed.get(token.content, self._added.get(token.content, (None, 0)))
            if known is not None and isinstance(value, str) and known.special >= token.special:
                continue  # as it was added before, with its flags
            if token.content not in self._ids:
                self._ids[token.content] = next(free)
            changed[token.content] = (token, self._ids[token.content])
        if changed:
            self._added |= changed
            for name in ("_content", "_integers", "_bytes", "_splitters"):
                self.__dict__.pop(name, None)
        return len(self) - before

    def add_special_tokens(self, special_tokens_dict: Mapping[str, Any]) -> int:
        """Sets special tokens by name, as {"pad_token": "<pad>"}; returns how many had no id before."""
        before = len(self)
        for name, value in special_tokens_dict.items():
            if name in (EXTRA, "extra_special_tokens"):
                self.add_tokens(value, special_tokens=True)
                contents = [AddedToken.of(token).content for token in value]
                self.additional_special_tokens = list(dict.fromkeys([*self.additional_special_tokens, *contents]))
            elif name in NAMES:
                self._name(name, value)
            else:
                raise GPT2Error(f"{name!r} is no special token: it must be one of {', '.join((*NAMES, EXTRA))}")
        return len(self) - before

    def _name(self, name: str, value: Any) -> None:
        if value is not None:
            self.add_tokens([value], special_tokens=True)
        self._named[name] = None if value is None else AddedToken.of(value).content

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> Any:
        """Returns the ids of tokens, or the id of one; a token outside the vocabulary becomes unk_token's."""
        if isinstance(tokens, str):
            return self._id(tokens)
        return [self._id(token) for token in tokens]

    def _id(self, token: str) -> int:
        found = self._ids.get(token, self.unk_token_id)
        if found is None:
            raise GPT2Error(f"{token!r} is not in the vocabulary, and no unk_token stands for it")
        return found

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Returns the tokens of ids, or the token of one; an id outside the vocabulary raises."""
        tokens = [self._content[i] for i in self._known(ids, skip_special_tokens)]
        return tokens[0] if tokens and is_int(plain(ids)) else tokens

    def _tokens_of_ids(self, ids: np.ndarray) -> list[str]:
        return self.convert_ids_to_tokens(ids.tolist())

    def token_bytes(self, token_id: int) -> bytes:
        """Returns the bytes that an id stands for; several ids make up a character at times."""
        return self._bytes[self._known(token_id, False)[0]]  # type: ignore[return-value]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Returns the text that tokens spell."""
        return b"".join(self._bytes_of(tokens)).decode("utf-8", self.errors)

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        """Returns the text of one row of ids, or of one id; bytes that are no UTF-8 become what `errors` says.

        clean_up_tokenization_spaces: no space before full stops, commas, contractions and the like. What was encoded
        does not come back then.
        """
        known, table = self._known(token_ids, skip_special_tokens), self._bytes
        text = b"".join([table[i] for i in known]).decode("utf-8", self.errors)  # type: ignore[misc]
        if clean_up_tokenization_spaces:
            for written in _CLEAN_UP:
                text = text.replace(written, written.strip())
        return text

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **options) -> list[str]:
        """Returns the text of each row of ids, as decode."""
        rows = plain(sequences)
        if not isinstance(rows, list) or any(is_int(row) for row in rows):
            raise GPT2Error("batch_decode takes rows of ids: decode takes one row")
        return [self.decode(row, skip_special_tokens, **options) for row in rows]

    def _known(self, ids: Any, skip_special_tokens: bool) -> list[int]:
        """Returns a row of ids, or one id, as a list; each has a token."""
        if type(ids) is not list or not {*map(type, ids)} <= {int}:
            ids = plain(ids)
            ids = [ids] if is_int(ids) else ids
        if not isinstance(ids, list) or not {*map(type, ids)} <= {int}:
            raise GPT2Error(f"ids must be one row of whole numbers, got {str(ids)[:80]}; batch_decode takes rows")
        if ids and (min(ids) < 0 or max(ids) >= len(self._content) or len(self) < len(self._content)):
            for i in ids:
                if not 0 <= i < len(self._content) or self._content[i] is None:
                    last = len(self._content) - 1
                    raise GPT2Error(f"id {i} is not in the vocabulary of {len(self)} tokens (0 to {last})")
        special = set(self.all_special_ids) if skip_special_tokens else ()
        return [i for i in ids if i not in special] if special else ids

    def _warn_once(self, about: str, message: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            warnings.warn(message, stacklevel=4)
