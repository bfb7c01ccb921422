"""Continuing prompts: settings, plans, loops. The frameworks compute scores and pick from them."""

from .call import check_call, fields, run, texts_of, written
from .decoder import Decoder
from .loop import Found, Given
from .plan import LogitsStep, Plan, end_tokens, plan
from .settings import GenerationConfig
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
    "end_tokens",
    "fields",
    "pieces",
    "plan",
    "run",
    "texts_of",
    "written",
]
