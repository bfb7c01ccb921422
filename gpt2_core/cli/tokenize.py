"""gpt2 tokenize: files of text to files of ids, and vocabularies learnt from text."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import GPT2Error
from ..tokenizer import GPT2Tokenizer, GPT2TokenizerFast
from ..tokenizer.streaming import ids_of_text, write_ids
from ..tokenizer.training import train_vocabulary
from .texts import opened, tokenizer_of

_LINES = 1 << 16  # characters of a text that the learner is given at a time
_SMALL = 2**16  # tokens, up to which an id takes two bytes


def add_to(commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("tokenize", help="text to ids, and vocabularies from text", description=__doc__)
    parser.add_argument("files", metavar="FILE", nargs="+", help="UTF-8 text, '-' for standard input")
    parser.add_argument("--out", type=Path, help="a .npy file for the ids, in one row; without it they are printed")
    parser.add_argument("--tokenizer", default="gpt2", metavar="NAME", help="a folder or name; default: %(default)s")
    parser.add_argument("--eos", action="store_true", help="put eos_token after each file")
    parser.add_argument("--errors", default="strict", help="what bytes that are no UTF-8 become; default: %(default)s")
    parser.add_argument("--train", action="store_true", help="learn a vocabulary; --out is the folder to write")
    parser.add_argument("--vocab-size", type=int, default=50257, metavar="N", help="to learn; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    parser.set_defaults(run=run)


def run(options) -> int:
    """Does what the options say."""
    began = time.perf_counter()
    sizes = [_size(name) for name in options.files]
    facts = _train(options) if options.train else _tokenize(options, sum(sizes))
    if facts is not None:
        facts["seconds"] = round(time.perf_counter() - began, 3)
        print(json.dumps(facts) if options.json else ", ".join(f"{name} {_text(fact)}" for name, fact in facts.items()))
    return 0


def _tokenize(options, size: int) -> dict | None:
    tokenizer = tokenizer_of(options.tokenizer)
    if not isinstance(tokenizer, GPT2TokenizerFast):
        print('note: pip install "gpt2-duo[fast]" makes this much faster', file=sys.stderr)
    if options.out is None:
        for part in _ids(tokenizer, options):
            print(*part.tolist())
        return None
    dtype = np.uint16 if len(tokenizer) <= _SMALL else np.uint32
    total = write_ids(options.out, _ids(tokenizer, options), dtype, _progress(size))
    return {"tokens": total, "bytes": size, "out": str(options.out), "dtype": dtype.__name__}


def _ids(tokenizer: GPT2Tokenizer, options) -> Iterator[np.ndarray]:
    for name in options.files:
        with opened(name, options.errors) as file:
            yield from ids_of_text(tokenizer, file.read, end=options.eos)


def _train(options) -> dict:
    if options.out is None:
        raise GPT2Error("--train needs --out, the folder for the vocabulary")

    def texts() -> Iterator[str]:
        for name in options.files:
            with opened(name, options.errors) as file:
                while lines := file.readlines(_LINES):
                    yield "".join(lines)

    vocabulary = train_vocabulary(texts(), options.vocab_size, progress=sys.stderr.isatty())
    GPT2Tokenizer(vocabulary).save_pretrained(options.out)
    return {"tokens": len(vocabulary.ids), "merges": len(vocabulary.merges), "out": str(options.out)}


def _size(name: str) -> int:
    if name != "-" and not os.path.isfile(name):
        raise GPT2Error(f"no file {name!r}")
    return 0 if name == "-" else os.path.getsize(name)


def _progress(size: int):
    """Returns what shows on a terminal how many tokens there are."""

    def show(total: int) -> None:
        print(f"\r\033[K{total:,} tokens of {size / 1e6:,.1f} MB of text", end="\r", file=sys.stderr, flush=True)

    return show if sys.stderr.isatty() else lambda total: None


def _text(fact: object) -> str:
    return f"{fact:,}" if isinstance(fact, int) else str(fact)
