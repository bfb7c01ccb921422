"""Continuing prompts: settings, plans, loops. The frameworks compute scores and pick from them."""

from .call import check_call, fields, run, texts_of, written
from .decoder import Decoder
from .loop import Found, Given
from .plan import LogitsStep, Plan, plan
from .settings import GenerationConfig

__all__ = [
    "Decoder",
    "Found",
    "GenerationConfig",
    "Given",
    "LogitsStep",
    "Plan",
    "check_call",
    "fields",
    "plan",
    "run",
    "texts_of",
    "written",
]
