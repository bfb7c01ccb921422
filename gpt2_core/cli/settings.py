"""The settings of generation as options of the command line."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from ..errors import GPT2Error
from ..generation import GenerationConfig

AS_MANY_AS_FIT = -1
_DRAWING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "seed")
_EARLY = {"true": True, "false": False, "never": "never"}


def add_settings(parser) -> None:
    """Adds the options; those that have another name in transformers' run_generation.py have that one too."""
    _add_lengths(parser.add_argument_group("how long").add_argument)
    _add_drawing(parser.add_argument_group("drawing").add_argument)
    _add_bans(parser.add_argument_group("what not to say").add_argument)
    _add_several(parser.add_argument_group("several texts").add_argument)
    _add_guessing(parser.add_argument_group("guessing, for the same text in fewer steps").add_argument)


def _add_lengths(add) -> None:
    add("--max-new-tokens", "--length", type=int, metavar="N", help="-1: as many as fit; default: at most 100")
    add("--min-new-tokens", type=int, metavar="N", help="no end before so many")
    add("--max-time", type=float, metavar="SECONDS", help="begin no further token after so long")
    add("--stop", "--stop-token", dest="stop_strings", action="append", metavar="TEXT", help="end before this; again "
        "for another")  # fmt: skip
    add("--overflow", choices=["error", "slide"], help="past the model's context: go on from its later half, or do not")


def _add_drawing(add) -> None:
    add("--do-sample", action=argparse.BooleanOptionalAction, help="draw each token; else the likeliest is taken")
    add("--temperature", type=float, metavar="T", help="below 1: rather the likely ones; default: 1")
    add("--top-k", "--k", type=int, metavar="K", help="of the K likeliest; 0: of all; default: 50")
    add("--top-p", "--p", type=float, metavar="P", help="of the likeliest, which together make up P; default: 1")
    add("--min-p", type=float, metavar="P", help="of those that are P times as likely as the likeliest, or more")
    add("--typical-p", type=float, metavar="P", help="of those about as likely as expected, which together make up P")
    add("--seed", type=int, metavar="N", help="of the draws; default: a fresh one, which is told")


def _add_bans(add) -> None:
    add("--repetition-penalty", type=float, metavar="X", help="above 1: rather not what was there before")
    add("--no-repeat-ngram-size", type=int, metavar="N", help="no N tokens in a row twice")
    add("--bad-word", dest="bad_words", action="append", metavar="TEXT", help="never this; again for another")


def _add_several(add) -> None:
    add("--num-return-sequences", type=int, metavar="N", help="texts for each prompt")
    add("--num-beams", type=int, metavar="N", help="follow so many texts, and print the likeliest")
    add("--length-penalty", type=float, metavar="X", help="of beams: above 0 for longer ones")
    add("--early-stopping", choices=list(_EARLY), help="of beams: end as soon as there are enough")


def _add_guessing(add) -> None:
    add("--prompt-lookup-num-tokens", type=int, metavar="N", help="so many at once, from the text itself")
    add("--assistant-model", metavar="MODEL", help="with this smaller one")
    add("--num-assistant-tokens", type=int, metavar="N", help="so many at once with it; default: 5")


def settings_of(options) -> dict[str, Any]:
    """Returns the fields of GenerationConfig that a command names; those of drawing ask for do_sample."""
    names = [field.name for field in dataclasses.fields(GenerationConfig)]
    named: dict[str, Any] = {name: getattr(options, name, None) for name in names}
    settings = {name: value for name, value in named.items() if value is not None}
    drawing = [name for name in _DRAWING if getattr(options, name) is not None]
    if drawing:
        if options.do_sample is False:
            option = "--" + drawing[0].replace("_", "-")
            raise GPT2Error(f"--no-do-sample and {option}, which is for drawing: which of them?")
        settings["do_sample"] = True
    if "early_stopping" in settings:
        settings["early_stopping"] = _EARLY[settings["early_stopping"]]
    if settings.get("max_new_tokens") == AS_MANY_AS_FIT:
        if options.overflow == "slide":
            raise GPT2Error("--max-new-tokens -1 and --overflow slide: that would never end")
        del settings["max_new_tokens"]
    GenerationConfig().replace(**settings)  # says what is wrong with them before anything is read
    return settings
