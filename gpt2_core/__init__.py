"""What both frameworks share: config, tokenizer, weight names, checkpoint files, every decision. numpy only."""

from typing import TYPE_CHECKING

from . import checkpoint
from .config import GPT2Config
from .convert import convert
from .errors import GPT2Error
from .generation import GenerationConfig
from .later import later
from .outputs import (
    BaseModelOutput,
    CausalLMOutput,
    GPT2DoubleHeadsModelOutput,
    ModelOutput,
    QuestionAnsweringOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

if TYPE_CHECKING:
    from .tokenizer import BatchEncoding, GPT2Tokenizer, GPT2TokenizerFast
else:
    _tokenizers = "BatchEncoding", "GPT2Tokenizer", "GPT2TokenizerFast"
    __getattr__, __dir__ = later(__name__, "gpt2_core.tokenizer", *_tokenizers)

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
