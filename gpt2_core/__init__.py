"""What both frameworks share: config, tokenizer, weight names, checkpoint files, every decision. numpy only."""

from . import checkpoint
from .config import GPT2Config
from .convert import convert
from .errors import GPT2Error
from .generation import GenerationConfig
from .outputs import (
    BaseModelOutput,
    CausalLMOutput,
    GPT2DoubleHeadsModelOutput,
    ModelOutput,
    QuestionAnsweringOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from .tokenizer import BatchEncoding, GPT2Tokenizer, GPT2TokenizerFast

__all__ = [
    "BaseModelOutput",
    "BatchEncoding",
    "CausalLMOutput",
    "GPT2Config",
    "GPT2DoubleHeadsModelOutput",
    "GPT2Error",
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
    "GenerationConfig",
    "ModelOutput",
    "QuestionAnsweringOutput",
    "SequenceClassifierOutput",
    "TokenClassifierOutput",
    "checkpoint",
    "convert",
]
