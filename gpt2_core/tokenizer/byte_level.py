"""The byte-level BPE algorithm of GPT-2: readable Python, the definition that faster engines are held against.

Source: the GPT-2 paper, section 2.2, and the file formats that OpenAI released with it.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import regex

from . import newer

# One pre-token: a contraction | letters | digits | other signs, each with at most one space before | white space.
# Contractions match in lower case only, as in the published tokenizer: its vocabulary was learnt that way.
PRE_TOKEN = regex.compile(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
_SHORT = 32  # symbols up to which looking through all pairs again is faster than a heap of them


@functools.cache
def byte_symbols() -> tuple[str, ...]:
    """Returns the printable character that stands for each of the 256 bytes in a vocabulary file.

    Printable Latin-1 bytes stand for themselves; the others, in order, for U+0100 and up: a space is "Ġ".
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in symbols)
    symbols |= {byte: chr(256 + i) for i, byte in enumerate(others)}
    return tuple(symbols[byte] for byte in range(256))


@functools.cache
def symbol_bytes() -> Mapping[str, int]:
    """Returns the inverse of byte_symbols."""
    return {symbol: byte for byte, symbol in enumerate(byte_symbols())}


@functools.cache
def _latin() -> Mapping[int, int]:
    """Returns what str.translate needs to turn symbols into the characters whose Latin-1 code is their byte."""
    return {ord(symbol): byte for byte, symbol in enumerate(byte_symbols())}


@functools.cache
def _symbols_of_latin() -> Mapping[int, str]:
    return dict(enumerate(byte_symbols()))


def to_symbols(data: bytes) -> str:
    """Returns bytes as vocabulary symbols, one each."""
    return data.decode("latin-1").translate(_symbols_of_latin())


def to_bytes(symbols: str) -> bytes:
    """Returns the bytes that vocabulary symbols stand for; a sign outside the 256 stands for its own UTF-8."""
    known = symbol_bytes()
    return b"".join(bytes((known[s],)) if s in known else s.encode("utf-8", "replace") for s in symbols)


def all_to_bytes(tokens: Sequence[str]) -> list[bytes]:
    """Returns to_bytes of each token, fast where all signs are among the 256."""
    joined = "".join(tokens)
    if not symbol_bytes().keys() >= set(joined):
        return [to_bytes(token) for token in tokens]
    data = joined.translate(_latin()).encode("latin-1")
    ends = list(itertools.accumulate(map(len, tokens), initial=0))
    return [data[start:end] for start, end in itertools.pairwise(ends)]


def cleaned(text: str, errors: str) -> str:
    """Returns a text whose lone surrogates are as `errors` says; they stay where their bytes are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", errors).decode()
        except UnicodeDecodeError:  # surrogatepass, surrogateescape
            pass
    return text


@functools.cache
def _older_pattern() -> regex.Pattern:
    """As PRE_TOKEN for texts with characters that were signs in Unicode 16, and are not any more; half as fast."""
    return regex.compile(
        rf"'(?:[sdmt]|ll|ve|re)| ?[\p{{L}}--{newer.CHARACTERS}]+| ?[\p{{N}}--{newer.CHARACTERS}]+"
        rf"| ?(?:[^\s\p{{L}}\p{{N}}]|{newer.CHARACTERS})+|\s+(?!\S)|\s+",
        regex.V1,
    )


def characters(text: str, errors: str) -> np.ndarray:
    """Returns which character of a text each of its bytes is of, (bytes,)."""
    try:
        data = np.frombuffer(text.encode(), np.uint8)
    except UnicodeEncodeError:
        sizes = [len(character.encode("utf-8", errors)) for character in text]
        return np.repeat(np.arange(len(text)), sizes)
    return np.cumsum((data & 0xC0) != 0x80) - 1  # all but continuation bytes begin a character


def pre_tokens(text: str, errors: str = "strict") -> Iterator[bytes]:
    """Yields the pre-tokens of a text; no token ever spans two of them."""
    text = cleaned(text, errors)
    pattern = _older_pattern() if newer.in_text(text) else PRE_TOKEN
    return (match.group().encode("utf-8", errors) for match in pattern.finditer(text))


def merge(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Returns a pre-token as tokens; of ranks that are in order, as those learnt from a text are.

    >>> merge("hello", {("h", "e"): 0, ("l", "l"): 1, ("he", "ll"): 2})
    ['hell', 'o']
    """
    return merge_by_sweeps(word, ranks) if len(word) <= _SHORT else merge_by_heap(word, ranks)


def merge_by_sweeps(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """The definition: the neighbours of the lowest rank are joined, all from left to right, until none can be."""
    parts = list(word)
    while len(parts) > 1:
        first, second = min(itertools.pairwise(parts), key=lambda pair: ranks.get(pair, len(ranks)))
        if (first, second) not in ranks:
            break
        joined = []
        i = 0
        while i < len(parts):
            if parts[i : i + 2] == [first, second]:
                joined.append(first + second)
                i += 2
            else:
                joined.append(parts[i])
                i += 1
        parts = joined
    return parts


def merge_by_heap(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """The same in n log n steps: the pairs wait in a heap, and what is left of the word is a linked list.

    Pairs of one rank are joined from left to right, as the heap orders them by rank and then by place. A pair that a
    join has changed since it was put there is passed over.
    """
    parts: list[str] = list(word)
    end = len(parts)
    after, before = list(range(1, end + 1)), list(range(-1, end - 1))
    waiting = [(ranks[pair], i) for i, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]
    heapq.heapify(waiting)
    while waiting:
        rank, i = heapq.heappop(waiting)
        j = after[i]
        if not parts[i] or j == end or ranks.get((parts[i], parts[j])) != rank:
            continue
        parts[i] += parts[j]
        parts[j] = ""  # joined to its left neighbour
        after[i] = k = after[j]
        if k < end:
            before[k] = i
            if (found := ranks.get((parts[i], parts[k]))) is not None:
                heapq.heappush(waiting, (found, i))
        if (k := before[i]) >= 0 and (found := ranks.get((parts[k], parts[i]))) is not None:
            heapq.heappush(waiting, (found, k))
    return [part for part in parts if part]
