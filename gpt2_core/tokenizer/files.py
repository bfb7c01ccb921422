"""A tokenizer's files: read whoever wrote them, and written so that others read them.

vocab.json with merges.txt as OpenAI and transformers 4 have them, tokenizer.json as the tokenizers library and
transformers 5 write it, ranks as tiktoken has them; beside them the settings of tokenizer_config.json,
special_tokens_map.json and added_tokens.json.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import GPT2Error
from ..hub import Repository
from .added_tokens import AddedToken
from .byte_level import all_to_bytes, byte_symbols, merge, to_symbols
from .tokens import END_OF_TEXT, EXTRA, NAMES
from .vocabulary import MERGES_FILE, VOCAB_FILE, Vocabulary, checked, pairs_of, read_json, read_vocabulary, write_text

CONFIG_FILE = "tokenizer_config.json"
JSON_FILE = "tokenizer.json"
SPECIAL_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"
RANKS = ".tiktoken"
TOKENIZER_FILES = (VOCAB_FILE, MERGES_FILE, CONFIG_FILE, SPECIAL_FILE, JSON_FILE, ADDED_FILE)
SETTINGS = ("errors", "add_prefix_space", "add_bos_token", "model_max_length", "padding_side", "truncation_side")
_EXTRA_SINCE_5 = "extra_special_tokens"
_NO_LIMIT = 10**9  # transformers writes 1e30 where a length has none


class Saved(NamedTuple):
    """What files hold of a tokenizer: the vocabulary, tokens beside it with their ids, arguments of the constructor."""

    vocabulary: Vocabulary
    added: Mapping[AddedToken, int]
    settings: Mapping[str, Any]


def tokenizer_files(folder: Path) -> list[Path]:
    """Returns the files of a tokenizer that a folder holds, whoever wrote them."""
    return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]


def fetch_tokenizer(remote: Repository) -> Path:
    """Returns the folder of the cache that holds the tokenizer of a hub's model, after fetching its files."""
    found = [path for path in map(remote.file, TOKENIZER_FILES) if path is not None]
    if not found:
        raise remote.lacks("tokenizer", TOKENIZER_FILES)
    return found[0].parent


def reader(path: Path) -> Callable[[Path], Saved] | None:
    """Returns what reads a file that holds a whole tokenizer; None for any other."""
    if not path.is_file() or path.name in (VOCAB_FILE, CONFIG_FILE, "config.json"):
        return None
    return {".json": read_tokenizer_json, RANKS: read_ranks}.get(path.suffix)


def read_folder(folder: Path) -> Saved:
    """Returns the tokenizer of a folder: of vocab.json and merges.txt, else tokenizer.json, else the one .tiktoken."""
    ranks = sorted(folder.glob("*" + RANKS))
    if (folder / VOCAB_FILE).is_file() and (folder / MERGES_FILE).is_file():
        found = Saved(read_vocabulary(folder / VOCAB_FILE, folder / MERGES_FILE), {}, {})
    elif (folder / JSON_FILE).is_file():
        found = read_tokenizer_json(folder / JSON_FILE)
    elif len(ranks) == 1:
        found = read_ranks(ranks[0])
    else:
        lacking = [name for name in (VOCAB_FILE, MERGES_FILE) if not (folder / name).is_file()]
        raise GPT2Error(
            f"{folder} holds no {' and no '.join(lacking)}: a tokenizer needs {VOCAB_FILE} and {MERGES_FILE}, or "
            f'{JSON_FILE}, or one {RANKS} file; GPT-2\'s own is GPT2Tokenizer.from_pretrained("gpt2")'
        )
    settings = {**found.settings, **_read_settings(folder)}
    added = dict(found.added)
    if (folder / ADDED_FILE).is_file():
        added |= _added(folder / ADDED_FILE, ((i, content) for content, i in _object(folder / ADDED_FILE).items()))
    decoder = settings.pop("added_tokens_decoder", None) or {}
    if isinstance(decoder, dict) and decoder:
        added |= _added(folder / CONFIG_FILE, decoder.items())
    elif (folder / JSON_FILE).is_file():  # older than the decoder: the flags are here
        added |= _added(folder / JSON_FILE, _numbered(_object(folder / JSON_FILE).get("added_tokens") or []))
    by_content = {token.content: (token, i) for token, i in added.items()}  # the last of each
    return Saved(found.vocabulary, dict(by_content.values()), settings)


def _numbered(entries: Any) -> Iterable[tuple[Any, Any]]:
    return ((entry.get("id") if isinstance(entry, dict) else None, entry) for entry in entries)


def _added(file: Path, entries: Iterable[tuple[Any, Any]]) -> dict[AddedToken, int]:
    """Returns added tokens of pairs of an id, perhaps as text, and a token."""
    added = {}
    for number, token in entries:
        if not str(number).isdecimal():
            raise GPT2Error(f"{file}: the added token {token!r} has the id {number!r}, which is no whole number")
        added[AddedToken.of(token)] = int(number)
    return added


def read_tokenizer_json(file: str | Path) -> Saved:
    """Returns the tokenizer of a tokenizer.json; GPT2Error unless it is byte-level BPE as GPT-2's."""
    values = _object(Path(file))
    for key in ("model", "pre_tokenizer", "post_processor", "normalizer"):
        if not isinstance(values.get(key), dict | None):
            raise GPT2Error(f"{file}: {key} is {values[key]!r}, which is no object")
    model, before, after = (values.get(key) or {} for key in ("model", "pre_tokenizer", "post_processor"))
    kinds = {
        "a model": model.get("type", "BPE"),
        "a pre-tokenizer": before.get("type"),
        "a normalizer": (values.get("normalizer") or {}).get("type"),
    }
    for what, allowed in (("a model", "BPE"), ("a pre-tokenizer", "ByteLevel"), ("a normalizer", None)):
        if kinds[what] != allowed:
            raise GPT2Error(f"{file} is not GPT-2's kind of tokenizer: it has {what} {kinds[what]}, not {allowed}")
    if before.get("use_regex") is False or model.get("byte_fallback") or model.get("ignore_merges"):
        raise GPT2Error(f"{file} is not GPT-2's kind of tokenizer: it splits texts, or merges, in another way")
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model.get("merges", [])]
    added = _added(Path(file), _numbered(values.get("added_tokens") or []))
    vocabulary = checked(model.get("vocab"), pairs_of(merges, file), file)
    settings: dict[str, Any] = {"add_prefix_space": bool(before.get("add_prefix_space", False))}
    first = next(iter(after.get("single") or [{}]))
    if "SpecialToken" in first:
        settings |= {"add_bos_token": True, "bos_token": first["SpecialToken"]["id"]}
    return Saved(vocabulary, added, settings)


def read_ranks(file: str | Path) -> Saved:
    """Returns the tokenizer of a .tiktoken file, whose ranks are its ids; <|endoftext|> follows them."""
    ranks: dict[str, int] = {}
    try:
        for line in Path(file).read_bytes().splitlines():
            token, rank = line.split()
            ranks[to_symbols(base64.b64decode(token, validate=True))] = int(rank)
    except (ValueError, binascii.Error) as error:
        raise GPT2Error(f"{file} is no {RANKS} file: a line must be a base 64 token and its rank ({error})") from None
    merges = [_parts(token, ranks) for token in sorted(ranks, key=ranks.__getitem__) if len(token) > 1]
    ids = {**ranks, END_OF_TEXT: max(ranks.values(), default=-1) + 1}
    return Saved(checked(ids, merges, file), {AddedToken.of(END_OF_TEXT, True): ids[END_OF_TEXT]}, {})


class _Ranks(Mapping):
    """Pair -> rank of the token it makes, of those below a rank."""

    def __init__(self, ranks: Mapping[str, int], below: int):
        self.ranks, self.below = ranks, below

    def __getitem__(self, pair: tuple[str, str]) -> int:
        rank = self.ranks[pair[0] + pair[1]]
        if rank >= self.below:
            raise KeyError(pair)
        return rank

    def __iter__(self):
        return iter(())

    def __len__(self) -> int:
        return self.below


def _parts(token: str, ranks: Mapping[str, int]) -> tuple[str, str]:
    """Returns the two tokens that are joined last when `token` is made of its bytes."""
    parts = merge(token, _Ranks(ranks, ranks[token]))
    if len(parts) != 2:
        raise GPT2Error(f"the ranks are not of byte-level BPE: {token!r} is made of {len(parts)} tokens, not 2")
    return parts[0], parts[1]


def write_ranks(vocabulary: Vocabulary, path: Path, special: Iterable[str]) -> None:
    """Writes a .tiktoken file; GPT2Error where the ids are not in the order of the merges, which it cannot tell."""
    ordinary = {token: i for token, i in vocabulary.ids.items() if token not in set(special)}
    made = [ordinary.get(first + second) for first, second in vocabulary.merges]
    singles = [i for token, i in ordinary.items() if len(token) == 1]
    if len(made) + len(singles) != len(ordinary) or any(
        a is None or b is None or a >= b for a, b in itertools.pairwise([max(singles, default=-1), *made])
    ):
        raise GPT2Error(f"this vocabulary cannot be a {RANKS} file: its ids are not in the order of its merges")
    tokens = sorted(ordinary, key=ordinary.__getitem__)
    lines = (
        f"{base64.b64encode(data).decode()} {ordinary[token]}"
        for token, data in zip(tokens, all_to_bytes(tokens), strict=True)
    )
    write_text(path, "\n".join(lines))


def tokenizer_json(
    vocabulary: Vocabulary, added: Mapping[AddedToken, int], add_prefix_space: bool, bos: tuple[str, int] | None
) -> str:
    """Returns the text of a tokenizer.json. `bos`: a token, and its id, that goes before each text."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": False, "use_regex": True}
    after: dict[str, Any] = byte_level
    if bos is not None:
        token, number = bos
        single, pair = ([_template(token, kind, k) for k, kind in part] for part in ([(0, "A")], [(0, "A"), (1, "B")]))
        after = {
            "type": "TemplateProcessing",
            "single": list(itertools.chain(*single)),
            "pair": list(itertools.chain(*pair)),
            "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
        }
    by_id = sorted(added.items(), key=lambda item: item[1])
    values = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, **entry(token)} for token, i in by_id],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": after,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary.ids,
            "merges": [f"{first} {second}" for first, second in vocabulary.merges],
        },
    }
    return json.dumps(values, ensure_ascii=False)


def entry(token: AddedToken) -> dict[str, Any]:
    """Returns a token as files have it."""
    return dataclasses.asdict(token)


def _template(token: str, which: str, kind: int) -> list[dict]:
    return [{"SpecialToken": {"id": token, "type_id": kind}}, {"Sequence": {"id": which, "type_id": kind}}]


def _read_settings(folder: Path) -> dict[str, Any]:
    """Returns what tokenizer_config.json and special_tokens_map.json say of the settings that we have."""
    values: dict[str, Any] = {}
    for name in (SPECIAL_FILE, CONFIG_FILE):
        if (folder / name).is_file():
            found = _object(folder / name)
            values |= {key: value for key, value in found.items() if value is not None or key not in values}
    extra = values.get(EXTRA) or values.get(_EXTRA_SINCE_5) or []
    values[EXTRA] = list(extra.values()) if isinstance(extra, dict) else extra
    limit = values.get("model_max_length")
    if not isinstance(limit, int) or limit > _NO_LIMIT:
        values.pop("model_max_length", None)
    known = (*NAMES, *SETTINGS, EXTRA, "added_tokens_decoder")
    return {name: values[name] for name in known if name in values}


def _object(file: Path) -> dict:
    values = read_json(file)
    if not isinstance(values, dict):
        raise GPT2Error(f"{file} must hold a JSON object")
    return values


def byte_vocabulary() -> Vocabulary:
    """Returns the least vocabulary: the 256 bytes and <|endoftext|>."""
    return Vocabulary({token: i for i, token in enumerate((*byte_symbols(), END_OF_TEXT))}, [])
