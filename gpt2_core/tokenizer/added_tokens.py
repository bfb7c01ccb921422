"""Tokens beside the vocabulary's: found in a text as they are, before BPE, and never split by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import regex

from ..errors import GPT2Error


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A token that is found in a text as it stands. As in the tokenizers library, whose files say these words.

    lstrip, rstrip: white space before it, after it, belongs to it. single_word: not within a word. normalized: looked
    for after those that are not. special: split by `split_special_tokens=True`, left out by `skip_special_tokens=True`.
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.content, str) or not self.content:
            raise GPT2Error(f"a token must be a text that is not empty, got {self.content!r}")

    def __str__(self) -> str:
        return self.content

    @classmethod
    def of(cls, value: Any, special: bool | None = None) -> AddedToken:
        """Returns a token given as text, as this class or the tokenizers library's, or as a dict of files."""
        if isinstance(value, str):
            return cls(value, normalized=not special, special=bool(special))
        fields = {f.name: f.default for f in dataclasses.fields(cls)}
        get = value.get if isinstance(value, Mapping) else lambda name, default: getattr(value, name, default)
        found = {name: get(name, default) for name, default in fields.items() if name != "content"}
        if special is not None:
            found["special"] = special
        content = get("content", None)
        if not isinstance(content, str):
            raise GPT2Error(f"a token is a text or an AddedToken, got {value!r}")
        return cls(content, **{name: bool(flag) for name, flag in found.items()})


class Piece(NamedTuple):
    """A stretch of a text, from character `start` to `stop`: one added token's id, or plain text where that is None."""

    start: int
    stop: int
    id: int | None = None


class Splitter:
    """Cuts texts at added tokens: the leftmost one first, of those the longest."""

    def __init__(self, tokens: Mapping[AddedToken, int]):
        self._ids = {token.content: i for token, i in tokens.items()}
        self._tokens = {token.content: token for token in tokens}
        groups = ([t for t in tokens if not t.normalized], [t for t in tokens if t.normalized])
        self._patterns = [_pattern(group) for group in groups if group]

    def holds(self, text: str) -> bool:
        """Returns whether an added token is in a text, or seems to be."""
        if len(self._ids) < 9:  # looking for each is faster than any pattern
            return any(map(text.__contains__, self._ids))
        return any(pattern.search(text) for pattern in self._patterns)

    def split(self, text: str) -> list[Piece]:
        """Returns the pieces of a text, in order; none is empty."""
        pieces = [Piece(0, len(text))]
        for pattern in self._patterns:
            pieces = [new for piece in pieces for new in self._cut(pattern, text, piece)]
        return [piece for piece in pieces if piece.stop > piece.start]

    def _cut(self, pattern: regex.Pattern, text: str, piece: Piece) -> Iterable[Piece]:
        if piece.id is not None:
            yield piece
            return
        done = piece.start
        for match in pattern.finditer(text, piece.start, piece.stop):
            token = self._tokens[match.group()]
            start, stop = match.span()
            if start < done or (token.single_word and _within_word(text, start, stop)):
                continue
            if token.lstrip:
                start = done + len(text[done:start].rstrip())
            if token.rstrip:
                stop = piece.stop - len(text[stop : piece.stop].lstrip())
            yield Piece(done, start)
            yield Piece(start, stop, self._ids[token.content])
            done = stop
        yield Piece(done, piece.stop)


def _pattern(tokens: Iterable[AddedToken]) -> regex.Pattern:
    longest_first = sorted((token.content for token in tokens), key=len, reverse=True)
    return regex.compile("|".join(map(regex.escape, longest_first)))


def _within_word(text: str, start: int, stop: int) -> bool:
    return bool(regex.match(r"\w", text[start - 1 : start]) or regex.match(r"\w", text[stop : stop + 1]))
