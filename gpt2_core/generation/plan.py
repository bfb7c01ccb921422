"""What one call of `generate` is to do: everything that is decided before the first token."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config import GPT2Config
from ..errors import GPT2Error
from ..plain import plain
from ..sampling import uniforms
from .prompts import lists, prompts
from .settings import GenerationConfig

DEFAULT_NEW_TOKENS = 20  # where no length is given; the reference counts the prompt in


class LogitsStep(NamedTuple):
    """One function of the frameworks' logits.py and its argument, a number, or an array of (B, V)."""

    name: str
    value: Any
    least: int = 1  # tokens that are kept whatever the argument


class Plan(NamedTuple):
    """The settings of a call, and what follows from them for its prompts."""

    settings: GenerationConfig
    prompts: list[list[int]]
    width: int  # columns that the prompts take in what is returned: as many as were given, padding included
    limits: list[int]  # new tokens that each prompt may get
    steps: tuple[LogitsStep, ...]  # of do_sample: what is done to the scores last
    seed: int | list[int] | None  # None: nothing is drawn
    uniforms: np.ndarray | None  # (steps, draws, rows) float64
    end_tokens: tuple[int, ...]
    pad_token_id: int
    vocab_size: int
    n_positions: int

    @property
    def rows(self) -> int:
        """How many texts are written at once: those of each prompt follow one another."""
        return len(self.prompts) * (self.settings.num_beams if self.is_beams else self.settings.num_return_sequences)

    @property
    def is_beams(self) -> bool:
        """Whether several beams are followed."""
        return self.settings.num_beams > 1

    @property
    def candidates(self) -> int:
        """How many continuations of all beams of a prompt are looked at: enough for as many beams to go on."""
        return max(2, 1 + len(self.end_tokens)) * self.settings.num_beams


def plan(
    config: GPT2Config,
    generation_config: GenerationConfig | None,
    overrides: dict,
    input_ids: Any,
    attention_mask: Any,
    seed: Any,
) -> Plan:
    """Returns the plan of one `generate` call; contradictory settings raise here, before any work."""
    if not isinstance(generation_config, GenerationConfig | None):
        raise GPT2Error(
            f"generation_config is a {type(generation_config).__name__}: give a GenerationConfig, or its fields by name"
        )
    settings = (generation_config or GenerationConfig()).replace(**overrides)
    eos = end_tokens(config, settings)
    bos = settings.bos_token_id if settings.bos_token_id is not None else config.bos_token_id
    rows = prompts(config, input_ids, attention_mask, bos)
    _check_tokens(config, settings)
    limits = [_limit(settings, len(row), config.n_positions) for row in rows]
    width = max(map(len, [*lists(input_ids), *rows]))
    found = Plan(
        settings, rows, width, limits, _steps(settings, config.vocab_size, len(eos)), None, None, eos,
        _pad_token(config, settings.pad_token_id, eos), config.vocab_size, config.n_positions,
    )  # fmt: skip
    if settings.do_sample:
        seed = int.from_bytes(os.urandom(8), "little") >> 1 if seed is None else plain(seed)
        draws, texts = (found.candidates, 1) if found.is_beams else (1, settings.num_return_sequences)
        numbers = uniforms(seed, len(rows), max(limits) * draws, texts)
        return found._replace(seed=seed, uniforms=numbers.reshape(max(limits), draws, -1))
    if seed is not None:
        uniforms(seed, len(rows), 1)  # not used, but a wrong one is told all the same
    return found


def end_tokens(config: GPT2Config, settings: GenerationConfig) -> tuple[int, ...]:
    """Returns the ids that end a text: those of the settings, else the model's."""
    eos = config.eos_token_id if settings.eos_token_id is None else settings.eos_token_id
    return GenerationConfig(eos_token_id=eos).end_tokens or ()


def _pad_token(config: GPT2Config, pad: int | None, eos: Sequence[int]) -> int:
    """Returns what fills up rows that are done: the id given, else the first of the config's that is a token."""
    if pad is not None:
        return pad
    known = (i for i in (config.pad_token_id, *eos) if i is not None and 0 <= i < config.vocab_size)
    return next(known, 0)


def _check_tokens(config: GPT2Config, settings: GenerationConfig) -> None:
    """Raises unless the ids of the settings are the model's; end tokens may be what it never says."""
    pad = settings.pad_token_id
    words = [i for word in settings.bad_words_ids or () for i in word]
    named = (("pad_token_id", [] if pad is None else [pad]), ("bad_words_ids", words),
             ("suppress_tokens", settings.suppress_tokens or []))  # fmt: skip
    for name, ids in named:
        for i in ids:
            if i >= config.vocab_size:
                raise GPT2Error(f"{name}={i} is no token of the model: it must be below vocab_size={config.vocab_size}")


def _steps(settings: GenerationConfig, vocab_size: int, ends: int) -> tuple[LogitsStep, ...]:
    """Returns the steps of drawing in the reference's order, those without effect left out."""
    if not settings.do_sample:
        return ()
    least = 1 if settings.num_beams == 1 else max(2, ends + 1)  # a beam goes on also where one candidate ends
    steps = []
    if settings.temperature not in (None, 1):
        steps.append(LogitsStep("temperature", float(settings.temperature)))  # type: ignore[arg-type]
    if settings.top_k and settings.top_k < vocab_size:
        steps.append(LogitsStep("top_k", settings.top_k, least))
    for name, idle in (("top_p", 1), ("min_p", 0), ("typical_p", 1)):
        value = getattr(settings, name)
        if value not in (None, idle):
            steps.append(LogitsStep(name, float(value), least))
    return tuple(steps)


def _limit(settings: GenerationConfig, prompt: int, n_positions: int) -> int:
    """Returns how many new tokens a prompt of so many may get."""
    slides = settings.overflow == "slide"
    room = n_positions - prompt
    if room < 1 and not slides:
        raise GPT2Error(
            f"the prompt has {prompt} tokens and the model n_positions={n_positions}: "
            "shorten it so that at least one token fits after it, or pass overflow='slide'"
        )
    if settings.max_new_tokens is not None:
        wanted = settings.max_new_tokens
    elif settings.max_length is not None:
        wanted = settings.max_length - prompt
        if wanted < 1:
            raise GPT2Error(
                f"max_length={settings.max_length} counts the prompt, which has {prompt} tokens already: "
                "raise it, or use max_new_tokens"
            )
    else:
        return DEFAULT_NEW_TOKENS if slides else min(DEFAULT_NEW_TOKENS, room)
    if wanted > room and not slides:
        raise GPT2Error(
            f"a prompt of {prompt} tokens and {wanted} new ones pass n_positions={n_positions}: "
            f"ask for at most {room} new tokens, shorten the prompt, or pass overflow='slide'"
        )
    return wanted
