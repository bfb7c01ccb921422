"""Long texts to ids, a piece in memory at a time, and files of ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import regex

from ..atomic import Replacement
from ..errors import GPT2Error
from .base import BaseTokenizer

PIECE = 1 << 21  # characters
# From the right: between a word and the space after it no token ever lies
_CUT = regex.compile(r"(?r)(?<=\S)(?=\s)")
_CUT_AT_SPACE = regex.compile(r"(?r)(?<=\S)(?= )")


def ids_of_text(
    tokenizer: BaseTokenizer, read: Callable[[int], str], piece: int = PIECE, end: bool = False
) -> Iterator[np.ndarray]:
    """Yields the ids of a text, part by part, each (n,): together those of the whole text.

    read: returns the next characters, so many at most, as a text file's method does. end: eos_token follows. A text
    is held as far as it has no space to cut it at.
    """
    if end and tokenizer.eos_token_id is None:
        raise GPT2Error("there is no eos_token to put after a text")
    longest = max(map(len, tokenizer.get_added_vocab()), default=0)
    rest = ""
    while part := read(piece):
        place = _cut(tokenizer, rest + part, longest)
        rest, ready = (rest + part)[place:], (rest + part)[:place]
        if ready:
            yield tokenizer._ids_of(ready, False, tokenizer.add_prefix_space)
    if rest:
        yield tokenizer._ids_of(rest, False, tokenizer.add_prefix_space)
    if end:
        yield np.array([tokenizer.eos_token_id])


def _cut(tokenizer: BaseTokenizer, text: str, longest: int) -> int:
    """Returns where a text can be cut without changing its ids; 0 where nowhere."""
    # a part that begins with a space gets none before it
    pattern = _CUT_AT_SPACE if tokenizer.add_prefix_space else _CUT
    place = len(text) - longest  # after it an added token may not be there whole
    while place > 0 and (match := pattern.search(text, 0, place + 1)):
        place = match.start()
        # not within an added token, nor after one that takes the space that follows
        if not tokenizer._splitters[0].holds(text[max(0, place - longest) : place + longest]):
            return place
        place -= 1
    return 0


def write_ids(
    path: str | Path, parts: Iterable[np.ndarray], dtype: type[np.unsignedinteger], counted: Callable[[int], object]
) -> int:
    """Writes ids as one row into a .npy file, all or nothing, and returns how many; `counted` is told as they grow."""
    path = Path(path).expanduser()
    total = 0
    with Replacement(path.parent) as new, open(new.path(path.name), "wb") as file:
        start = _write_header(file, dtype, 0)
        for part in parts:
            file.write(part.astype(dtype).data)
            total += len(part)
            counted(total)
        file.seek(0)
        if _write_header(file, dtype, total) != start:
            raise AssertionError("numpy leaves room in a header for the number of rows")
    return total


def _write_header(file: IO[bytes], dtype: type[np.unsignedinteger], count: int) -> int:
    values = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, values)  # type: ignore[arg-type]
    return file.tell()
