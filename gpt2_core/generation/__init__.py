"""Continuing prompts: settings, plans, loops. The frameworks compute scores and pick from them."""

from .call import check_call, fields, functions, run, texts_of, written
from .decoder import Decoder, parts
from .loop import Found, Given
from .plan import LogitsStep, Plan, end_tokens, plan
from .prompts import lists
from .settings import GenerationConfig
from .stopping import check_tokenizer
from .streaming import Pieces, check_stream, pieces

__all__ = [
    "Decoder",
    "Found",
    "GenerationConfig",
    "Given",
    "LogitsStep",
    "Pieces",
    "Plan",
    "check_call",
    "check_stream",
    "check_tokenizer",
    "end_tokens",
    "fields",
    "functions",
    "lists",
    "parts",
    "pieces",
    "plan",
    "run",
    "texts_of",
    "written",
]
