"""Vocabulary files: vocab.json and merges.txt, read and written."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..assets import GPT2_VOCABULARY
from ..errors import GPT2Error
from ..hub import SHORT, Repository

VOCAB_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
MERGES_HEADER = "#version: 0.2"
TOKENIZER_FILES = (VOCAB_FILE, MERGES_FILE, "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json")
PUBLISHED = tuple(SHORT)  # all use one vocabulary


class Vocabulary(NamedTuple):
    """Token -> id, and the merges in the order of their rank."""

    ids: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]


def read_vocabulary(folder: str | Path) -> Vocabulary:
    """Returns the vocabulary of a folder, checked: ids unique, every merge made of known tokens."""
    folder = Path(folder)
    for name in (VOCAB_FILE, MERGES_FILE):
        if not (folder / name).is_file():
            raise GPT2Error(
                f"{folder} holds no {name}: a tokenizer needs {VOCAB_FILE} and {MERGES_FILE}, "
                'or take GPT-2\'s own with GPT2Tokenizer.from_pretrained("gpt2")'
            )
    ids = _read_ids(folder / VOCAB_FILE)
    merges = _read_merges(folder / MERGES_FILE)
    for first, second in merges:
        for token in (first, second, first + second):
            if token not in ids:
                raise GPT2Error(
                    f"{folder / MERGES_FILE}: the merge {first!r} {second!r} needs {token!r}, which "
                    f"{VOCAB_FILE} lacks: the two files do not belong together"
                )
    return Vocabulary(ids, merges)


def tokenizer_files(folder: Path) -> list[Path]:
    """Returns the files of a tokenizer that a folder holds, whoever wrote them."""
    return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]


def fetch_tokenizer(remote: Repository) -> Path:
    """Returns the folder of the cache that holds the tokenizer of a hub's model, after fetching its files."""
    found = [path for path in map(remote.file, TOKENIZER_FILES) if path is not None]
    if not found:
        raise remote.lacks("tokenizer", TOKENIZER_FILES)
    return found[0].parent


def write_vocabulary(vocabulary: Vocabulary, vocab_file: Path, merges_file: Path) -> None:
    """Writes both files as GPT-2's were published, so that every other tokenizer reads them."""
    vocab_file.write_text(json.dumps(vocabulary.ids, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    lines = [MERGES_HEADER, *(f"{first} {second}" for first, second in vocabulary.merges)]
    merges_file.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _read_ids(file: Path) -> dict[str, int]:
    try:
        ids = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GPT2Error(f"{file} is not valid JSON ({error}): copy it again from where the model came from") from None
    if not isinstance(ids, dict) or not all(type(i) is int and i >= 0 for i in ids.values()):
        raise GPT2Error(f"{file} must map tokens to their ids, whole numbers from 0")
    if len(set(ids.values())) != len(ids):
        raise GPT2Error(f"{file} gives one id to two tokens")
    return ids


def _read_merges(file: Path) -> tuple[tuple[str, str], ...]:
    """Returns the merges; a missing header line or last line break loses none."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except ValueError as error:
        raise GPT2Error(f"{file} is not UTF-8 text ({error})") from None
    merges = []
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise GPT2Error(f"{file}, line {number}: {line!r} is not two tokens with a space between them")
        merges.append((pair[0], pair[1]))
    return tuple(merges)


@functools.cache
def published_vocabulary() -> Vocabulary:
    """Returns GPT-2's own vocabulary of 50,257 tokens, which ships with the package."""
    return read_vocabulary(GPT2_VOCABULARY)
