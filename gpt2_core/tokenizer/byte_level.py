"""The byte-level BPE algorithm of GPT-2: readable Python, the definition that faster engines are held against.

Source: the GPT-2 paper, section 2.2, and the file formats that OpenAI released with it.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping

import regex

# One pre-token: a contraction | letters | digits | other signs, each with at most one space before | white space.
# Contractions match in lower case only, as in the published tokenizer: its vocabulary was learnt that way.
PRE_TOKEN = regex.compile(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


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


def pre_tokens(text: str, errors: str = "strict") -> Iterable[str]:
    """Yields the pre-tokens of a text in vocabulary symbols; no token ever spans two of them."""
    symbols = byte_symbols()
    for match in PRE_TOKEN.finditer(text):
        yield "".join(symbols[byte] for byte in match.group().encode("utf-8", errors))


def merge(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Returns a pre-token as tokens: the neighbours of the lowest rank are joined until none can be.

    >>> merge("hello", {("h", "e"): 0, ("l", "l"): 1, ("he", "ll"): 2})
    ['hell', 'o']
    """
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


def to_bytes(symbols: str) -> bytes:
    """Returns the bytes that vocabulary symbols stand for; a sign outside the 256 stands for its own UTF-8."""
    known = symbol_bytes()
    return b"".join(bytes((known[s],)) if s in known else s.encode("utf-8", "replace") for s in symbols)
