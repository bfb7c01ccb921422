"""A call of `generate`, from the prompts to what is returned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import GPT2Error
from .bans import Text
from .beams import search
from .decoder import Decoder
from .loop import Found, Given, begin, one_by_one, padded
from .plan import Plan
from .prompts import aligned, lists
from .speculation import checked
from .stopping import check_tokenizer


def check_call(plan: Plan, given: Given, streamer: Any, past: int | None, attention_mask: Any) -> None:
    """Raises GPT2Error unless what a call was given fits its plan. past: how many tokens a cache holds."""
    guesses = "assistant_model" if given.drafter else "prompt_lookup_num_tokens"
    if given.drafter:
        plan.settings.check_guessing(guesses)
    if given.drafter or plan.settings.prompt_lookup_num_tokens:
        if streamer is not None and plan.rows > 1:
            raise GPT2Error(f"{guesses} writes one text after the other: a streamer can be given one prompt")
        if past is not None:
            raise GPT2Error(f"{guesses} does not go with past_key_values")
        if plan.settings.output_scores and plan.rows > 1:
            raise GPT2Error(f"{guesses} writes one text after the other: output_scores can be had of one prompt")
    if plan.settings.stops:
        check_tokenizer("stop_strings", given.tokenizer)
    if given.allowed is not None and not callable(given.allowed):
        raise GPT2Error("prefix_allowed_tokens_fn must be a function of (number of the prompt, ids)")
    if streamer is not None and (plan.is_beams or not hasattr(streamer, "put") or not hasattr(streamer, "end")):
        why = "several beams are no stream" if plan.is_beams else "it needs put(ids) and end()"
        raise GPT2Error(f"streamer={type(streamer).__name__}: {why}")
    for name, listed in (("logits_processor", given.processors), ("stopping_criteria", given.criteria)):
        if not all(map(callable, listed)):
            raise GPT2Error(f"{name} must be a list of functions of (ids, scores)")
    if past is not None:
        _check_past(plan, past, attention_mask)


def _check_past(plan: Plan, past: int, attention_mask: Any) -> None:
    if plan.settings.overflow == "slide" or not plan.settings.use_cache:
        raise GPT2Error("past_key_values goes with use_cache=True and overflow='error' alone")
    ids, mask = aligned(plan.prompts, plan.pad_token_id, plan.width)
    if ids.shape[1] <= past:
        raise GPT2Error(
            f"past_key_values holds {past} tokens a row, input_ids {ids.shape[1]}: give the tokens that it holds, and "
            "at least one after them"
        )
    if attention_mask is not None and not np.array_equal(np.array(lists(attention_mask), bool), mask):
        raise GPT2Error("with past_key_values prompts must be padded on the left: each row's last token is kept")


def functions(name: str, given: Any) -> tuple:
    """Returns the functions that a call was given, a list of them or one; raises if it is neither."""
    if given is None or isinstance(given, list | tuple):
        return tuple(given or ())
    if not callable(given):
        raise GPT2Error(f"{name} must be a list of functions of (ids, scores)")
    return (given,)


def texts_of(plan: Plan) -> list[Text]:
    """Returns the texts that are to be written, as long as their prompts yet."""
    each = plan.rows // len(plan.prompts)
    return [Text(row, len(row), i) for i, row in enumerate(plan.prompts) for _ in range(each)]


def written(
    plan: Plan, decoder: Decoder, given: Given, past: tuple[Any, int] | None, keep_rows: bool, found: Found
) -> Iterator[np.ndarray]:
    """Writes what is asked for into `found`; yields each step's tokens (rows,), none of beams."""
    if given.drafter or plan.settings.prompt_lookup_num_tokens:
        yield from checked(plan, decoder, given, found)
        return
    begin(plan, decoder, past)
    if plan.is_beams:
        search(plan, decoder, given, found)
    else:
        yield from one_by_one(plan, decoder, given, found, keep_rows)


def run(plan: Plan, decoder: Decoder, given: Given, past: tuple[Any, int] | None = None, streamer: Any = None) -> Found:
    """Returns what `generate` finds, while a streamer is given each step's tokens."""
    found = Found([] if plan.is_beams else texts_of(plan))
    if streamer is not None:
        streamer.put(decoder.shown(padded(found.texts, plan.pad_token_id, plan.width)))
    for new in written(plan, decoder, given, past, plan.settings.return_dict_in_generate, found):
        if streamer is not None:
            streamer.put(decoder.shown(new))
    if streamer is not None:
        streamer.end()
    return found


def fields(plan: Plan, decoder: Decoder, given: Given, found: Found) -> Mapping[str, Any]:
    """Returns the fields of a GenerateOutput."""
    settings = plan.settings
    together = not plan.is_beams and not given.drafter and not settings.prompt_lookup_num_tokens
    kept = settings.use_cache and together and settings.overflow == "error"
    scored = settings.output_scores and plan.is_beams
    return {
        "sequences": decoder.tensor(padded(found.texts, plan.pad_token_id, plan.width)),
        "sequences_scores": decoder.tensor(np.array(found.text_scores)) if scored else None,
        "scores": tuple(found.scores) if settings.output_scores else None,
        "past_key_values": decoder.past() if kept else None,
        "seed": plan.seed,
    }
