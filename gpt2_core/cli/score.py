"""gpt2 score: how likely a model takes a text to be: each token's log-probability, and the perplexity."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checkpoint
from ..errors import GPT2Error
from ..scoring import log_probabilities
from ..tokenizer.streaming import ids_of_text
from .frameworks import FRAMEWORKS, no_gradients
from .source import add_model, hub_options
from .table import print_table
from .texts import add_text_options, text_of, tokenizer_of


def add_to(commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("score", help="how likely a text is", description=__doc__)
    add_model(parser)
    parser.add_argument("text", metavar="TEXT", nargs="?", help="the text; default: standard input")
    add_text_options(parser)
    parser.add_argument("--stride", type=int, metavar="N", help="texts past the context are read in windows that begin "
                        "so many tokens apart; default: half the context")  # fmt: skip
    parser.add_argument("--no-bos", action="store_true", help="do not begin with bos_token: its first token gets "
                        "no score")  # fmt: skip
    parser.add_argument("--summary", action="store_true", help="leave out the tokens")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options) -> int:
    """Prints a line for each token, and what they come to."""
    hub = hub_options(options)
    with checkpoint.open(options.model, **hub):  # says at once what is wrong with it
        pass
    text = text_of(options, options.text)
    tokenizer = tokenizer_of(options.model, **hub)
    framework = FRAMEWORKS[options.framework]
    model = framework.load(options.model, dtype=options.dtype, **hub)
    ids = [i for part in ids_of_text(tokenizer, io.StringIO(text, newline="").read) for i in part.tolist()]
    given = [] if options.no_bos or model.config.bos_token_id is None else [model.config.bos_token_id]
    if len(ids) + len(given) < 2:
        raise GPT2Error(f"a text of {len(ids)} tokens has none that follows another: there is nothing to score")
    scores = _scores(model, framework, [*given, *ids], options.stride, options.framework)
    tokens = _tokens(tokenizer, ids, scores)
    facts = summary(scores, len(b"".join(map(tokenizer.token_bytes, ids[len(ids) - len(scores) :]))))
    if options.json:
        print(json.dumps(facts if options.summary else {**facts, "per_token": tokens}))
        return 0
    if not options.summary:
        rows = [(t["id"], repr(t["text"]), "" if t["log_probability"] is None else f"{t['log_probability']:.4f}")
                for t in tokens]  # fmt: skip
        print_table(rows, ("id", "token", "log-probability"))
        print()
    print(f"{facts['tokens']:,} tokens scored, log-probability {facts['log_probability']:.4f}, perplexity "
          f"{facts['perplexity']:.4f}, {facts['bits_per_byte']:.4f} bits per byte")  # fmt: skip
    return 0


def _scores(model: Any, framework: Any, ids: Sequence[int], stride: int | None, name: str) -> np.ndarray:
    parts, done = [], 0
    with no_gradients(name):
        for part in log_probabilities(lambda x: framework.logits(model, x), ids, model.config.n_positions, stride):
            parts.append(part)
            done += len(part)
            if sys.stderr.isatty():
                end = "\r\033[K" if done == len(ids) - 1 else ""
                print(f"\r\033[K{done:,} of {len(ids) - 1:,} tokens{end}", end="", file=sys.stderr, flush=True)
    return np.concatenate(parts)


def _tokens(tokenizer: Any, ids: Sequence[int], scores: np.ndarray) -> list[dict[str, Any]]:
    padded = [None] * (len(ids) - len(scores)) + scores.tolist()
    texts = [tokenizer.token_bytes(i).decode(errors="backslashreplace") for i in ids]
    return [{"id": i, "text": t, "log_probability": s} for i, t, s in zip(ids, texts, padded, strict=True)]


def summary(scores: np.ndarray, size: int) -> dict[str, float | int]:
    """Returns what log-probabilities come to. size: of the text that they are of, in bytes.

    >>> summary(np.log([0.5, 0.125]), 4)
    {'tokens': 2, 'log_probability': -2.772588722239781, 'perplexity': 4.0, 'bits_per_byte': 1.0}
    """
    total = math.fsum(scores)
    perplexity = math.exp(min(-total / len(scores), 700.0))
    return {
        "tokens": len(scores),
        "log_probability": total,
        "perplexity": perplexity,
        "bits_per_byte": -total / math.log(2) / max(1, size),
    }
