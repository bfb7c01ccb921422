"""Vocabularies: tokens, their ids, and the merges that make them; vocab.json and merges.txt, read and written."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..assets import GPT2_VOCABULARY
from ..errors import GPT2Error
from ..hub import SHORT
from .byte_level import byte_symbols

VOCAB_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
MERGES_HEADER = "#version: 0.2"
PUBLISHED = tuple(SHORT)  # all use one vocabulary


class Vocabulary(NamedTuple):
    """Token -> id, and the merges in the order of their rank."""

    ids: Mapping[str, int]
    merges: Sequence[tuple[str, str]]

    def is_whole(self) -> bool:
        """Returns whether every text has ids: all bytes are tokens."""
        return self.ids.keys() >= set(byte_symbols())

    def is_in_order(self) -> bool:
        """Returns whether each merge joins bytes or what earlier ones made, as one learnt from text does.

        Where not, the order in which a text's pairs are joined matters beyond their ranks.
        """
        made = {first + second: rank for rank, (first, second) in enumerate(self.merges)}
        parts = ((part, rank) for rank, pair in enumerate(self.merges) for part in pair)
        return all(len(part) == 1 or made.get(part, rank) < rank for part, rank in parts)


def checked(ids: object, merges: Sequence[tuple[str, str]], source: object) -> Vocabulary:
    """Returns a vocabulary whose ids are unique, and every merge made of known tokens; `source` is named in errors."""
    if not isinstance(ids, dict) or not {*map(type, ids)} <= {str} or not {*map(type, ids.values())} <= {int}:
        raise GPT2Error(f"{source} must map tokens to their ids, whole numbers from 0")
    if ids and min(ids.values()) < 0:
        raise GPT2Error(f"{source} must map tokens to their ids, whole numbers from 0")
    if len(set(ids.values())) != len(ids):
        raise GPT2Error(f"{source} gives one id to two tokens")
    needed = {part for pair in merges for part in pair} | {first + second for first, second in merges}
    if not needed <= ids.keys():
        for first, second in merges:
            for token in (first, second, first + second):
                if token not in ids:
                    raise GPT2Error(
                        f"{source}: the merge {first!r} {second!r} needs {token!r}, which the vocabulary lacks: the "
                        "two do not belong together"
                    )
    if len(set(merges)) != len(merges):  # the last one counts, as in other libraries
        merges = list(dict.fromkeys(reversed(merges)))[::-1]
    return Vocabulary(ids, tuple(merges))


def read_vocabulary(vocab_file: str | Path, merges_file: str | Path) -> Vocabulary:
    """Returns the checked vocabulary of two files."""
    for file in (vocab_file, merges_file):
        if not Path(file).is_file():
            raise GPT2Error(f"no file {str(file)!r}: a vocabulary is a {VOCAB_FILE} and a {MERGES_FILE}")
    return checked(read_json(vocab_file), _read_merges(Path(merges_file)), vocab_file)


def read_json(file: str | Path) -> object:
    """Returns what a JSON file holds; GPT2Error where it is none."""
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise GPT2Error(f"{file} is not valid JSON ({error}): copy it again from where the model came from") from None


def write_vocabulary(vocabulary: Vocabulary, vocab_file: Path, merges_file: Path) -> None:
    """Writes both files as GPT-2's were published, so that every other tokenizer reads them."""
    write_text(vocab_file, json.dumps(vocabulary.ids, ensure_ascii=False))
    lines = [MERGES_HEADER, *(f"{first} {second}" for first, second in vocabulary.merges)]
    write_text(merges_file, "\n".join(lines))


def write_text(path: Path, text: str) -> None:
    """Writes a text with a line break at its end, the same on every system."""
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _read_merges(file: Path) -> list[tuple[str, str]]:
    """Returns the merges; a missing header line or last line break loses none."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except ValueError as error:
        raise GPT2Error(f"{file} is not UTF-8 text ({error})") from None
    if lines[0].startswith("#version"):
        lines[0] = ""
    return pairs_of([line.rstrip("\r") for line in lines], file)


def pairs_of(lines: Sequence[str], source: object) -> list[tuple[str, str]]:
    """Returns the merges that lines of two tokens each tell; empty ones are passed over."""
    pairs = [tuple(line.split(" ")) for line in lines if line]
    if not {*map(len, pairs)} <= {2} or not all(map(all, pairs)):
        for number, line in enumerate(lines, 1):
            if line and (line.count(" ") != 1 or not all(line.split(" "))):
                raise GPT2Error(f"{source}, line {number}: {line!r} is not two tokens with a space between them")
    return pairs  # type: ignore[return-value]


@functools.cache
def published_vocabulary() -> Vocabulary:
    """Returns GPT-2's own vocabulary of 50,257 tokens, which ships with the package."""
    return read_vocabulary(GPT2_VOCABULARY / VOCAB_FILE, GPT2_VOCABULARY / MERGES_FILE)
