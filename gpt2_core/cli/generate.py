"""gpt2 generate: continues a prompt, with the same text from either framework.

Every option of drawing (--temperature, --top-k, --top-p, --min-p, --typical-p, --seed) asks for --do-sample.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import checkpoint
from ..errors import GPT2Error
from ..generation import Pieces, end_tokens
from .frameworks import FRAMEWORKS
from .settings import AS_MANY_AS_FIT, add_settings, settings_of
from .source import add_model, hub_options
from .texts import add_text_options, lines_of, text_of, tokenizer_of, without_line_end

_NEW_TOKENS = 100  # where neither an option nor the model's generation_config.json says a length


def add_to(commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("generate", help="continue a prompt", description=__doc__)
    add_model(parser)
    parser.add_argument("--fp16", action="store_true", help="--dtype float16")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each text")
    prompts = parser.add_argument_group("the prompt; where none is named it is read from standard input")
    prompts.add_argument("--prompt", metavar="TEXT", help="text to continue; '' for none")
    add_text_options(prompts)
    prompts.add_argument("--prefix", default="", metavar="TEXT", help="read before the prompt, and not printed")
    prompts.add_argument("--batch", action="store_true", help="each line is a prompt; the nth after the first draws "
                         "with --seed + n")  # fmt: skip
    prompts.add_argument("--batch-size", type=int, default=16, metavar="N", help="at once; default: %(default)s")
    add_settings(parser)
    parser.set_defaults(run=run)


def run(options) -> int:
    """Prints each prompt with its continuations."""
    settings = settings_of(options)
    if options.fp16 and options.dtype is not None:
        raise GPT2Error("--fp16 and --dtype: which of them?")
    if options.batch_size < 1:
        raise GPT2Error(f"--batch-size {options.batch_size}: it must be at least 1")
    hub = hub_options(options)
    with checkpoint.open(options.model, **hub):  # says at once what is wrong with it
        pass
    prompts = _lines(options) if options.batch else iter([text_of(options, options.prompt)])
    tokenizer = tokenizer_of(options.model, **hub)
    if options.bad_words:
        settings["bad_words_ids"] = [tokenizer.encode(s + word) for word in options.bad_words for s in ("", " ")]
    load = FRAMEWORKS[options.framework].load
    dtype = "float16" if options.fp16 else options.dtype
    model = load(options.model, dtype=dtype, **hub)
    if options.assistant_model is not None:
        settings["assistant_model"] = load(options.assistant_model, dtype=dtype)
    writer = Writer(model, tokenizer, settings, options.seed, fills=options.max_new_tokens == AS_MANY_AS_FIT)
    if options.batch or options.json or not writer.streams:
        size = 1 if writer.guesses else options.batch_size  # guesses are for one text at a time
        _print_texts(writer, prompts, options, size)
    else:
        _print_pieces(writer, next(prompts), options.prefix)
    return 0


def _lines(options) -> Iterator[str]:
    with lines_of(options, options.prompt) as lines:
        yield from map(without_line_end, lines)


def _print_pieces(writer: Writer, prompt: str, prefix: str) -> None:
    pieces = writer.pieces(prefix + prompt)  # says what is wrong before anything is printed
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def _print_texts(writer: Writer, prompts: Iterator[str], options, size: int) -> None:
    number = itertools.count(1)
    several = writer.texts_per_prompt > 1
    for first in itertools.count(0, size):
        part = list(itertools.islice(prompts, size))
        if not part:
            break
        for prompt, found in zip(part, writer([options.prefix + prompt for prompt in part], first), strict=True):
            n = next(number)
            for m, continuation in enumerate(found, 1):
                if options.json:
                    print(json.dumps({"prompt": prompt, **continuation._asdict()}), flush=True)
                    continue
                if options.batch or several:
                    names = [f"PROMPT {n}"] * options.batch + [f"GENERATED SEQUENCE {m}"] * several
                    print(f"=== {', '.join(names)} ===")
                print(prompt + continuation.text, flush=True)


class Continuation(NamedTuple):
    """What follows a prompt, the seed that its prompt was given, and all of the ids, those of the prompt too."""

    text: str
    ids: list[int]
    seed: int | None


class Writer:
    """A model that continues texts."""

    def __init__(
        self, model: Any, tokenizer: Any, settings: dict[str, Any], seed: int | None = None, fills: bool = False
    ):
        """Takes the arguments of generate. fills: every text is as long as the model's context."""
        self.model, self.tokenizer, self.settings, self.fills = model, tokenizer, settings, fills
        names = {name: value for name, value in settings.items() if name != "assistant_model"}
        self.config = model.generation_config.replace(**names)
        self.guesses = "assistant_model" in settings or self.config.prompt_lookup_num_tokens is not None
        self.texts_per_prompt = self.config.num_return_sequences
        self.streams = self.texts_per_prompt == 1 and self.config.num_beams == 1
        self.seed = seed
        if self.config.do_sample and seed is None:
            self.seed = int.from_bytes(os.urandom(4), "little")
            print(f"note: drawn with --seed {self.seed}", file=sys.stderr)

    def pieces(self, prompt: str) -> Iterator[str]:
        """Returns what follows a prompt as it is written."""
        ids = self.tokenizer.encode(prompt)
        return self.model.stream(ids, self.tokenizer, seed=self.seed, **self.settings, **self._length(ids))

    def __call__(self, prompts: Sequence[str], first: int = 0) -> Iterator[list[Continuation]]:
        """Yields what follows each prompt. first: how many prompts there were before."""
        seeds = range(0 if self.seed is None else self.seed + first, 2**64)
        rows = [(self.tokenizer.encode(prompt), seed) for prompt, seed in zip(prompts, seeds, strict=False)]
        for _, together in itertools.groupby(rows, lambda row: self._length(row[0])):
            yield from self._of(*zip(*together, strict=True))

    def _of(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> Iterator[list[Continuation]]:
        seed = None if self.seed is None else list(seeds)
        progress = Progress()
        watched = {"stopping_criteria": [progress]} if self.config.num_beams > 1 else {"streamer": progress}
        found = self.model.generate(
            list(prompts), seed=seed, tokenizer=self.tokenizer, **watched, **self.settings, **self._length(prompts[0])
        )
        progress.end()
        width = max(1, *map(len, prompts))
        rows = np.asarray(found.cpu() if hasattr(found, "cpu") else found)[:, width:].tolist()
        for n, prompt in enumerate(prompts):
            texts = rows[n * self.texts_per_prompt : (n + 1) * self.texts_per_prompt]
            yield [self._ended(prompt, new, seeds[n] if seed else None) for new in texts]

    def _length(self, ids: Sequence[int]) -> dict[str, int]:
        """Returns how long the text of a prompt may become, where nobody has said it."""
        if not self.fills and (self.config.max_new_tokens or self.config.max_length):
            return {}
        room = max(1, self.model.config.n_positions - max(1, len(ids)))
        return {"max_new_tokens": room if self.fills else min(_NEW_TOKENS, room)}

    def _ended(self, prompt: list[int], new: list[int], seed: int | None) -> Continuation:
        """Returns a continuation without what fills up a row that is done."""
        pieces, ends = Pieces(self.tokenizer, self.config.stops), end_tokens(self.model.config, self.config)
        text, count = "", 0
        for count, token in enumerate(new, 1):  # noqa: B007
            text += pieces.feed(token)
            if pieces.over or token in ends:
                break
        return Continuation(text + pieces.end(), [*prompt, *new[:count]], seed)


class Progress:
    """Shows on a terminal how many steps were made."""

    def __init__(self) -> None:
        self.shown, self.steps = sys.stderr.isatty(), -1  # the prompts come first

    def put(self, tokens: Any) -> None:
        """Counts a step."""
        self.steps += 1
        if self.shown:
            print(f"\r\033[K{self.steps} tokens", end="\r", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Takes the count away."""
        if self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def __call__(self, ids: Any, scores: Any) -> bool:
        """Counts a step of beams, and ends nothing."""
        self.put(ids)
        return False
