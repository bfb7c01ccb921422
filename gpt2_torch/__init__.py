"""GPT-2 in PyTorch, plain nn.Modules; its twin is gpt2_tf."""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    from gpt2_core.errors import missing_framework

    raise missing_framework("gpt2_torch", "PyTorch", "torch") from None

from gpt2_core.config import GPT2Config
from gpt2_core.outputs import GPT2DoubleHeadsModelOutput
from gpt2_core.tokenizer import GPT2Tokenizer, GPT2TokenizerFast

from .classifiers import GPT2ForQuestionAnswering, GPT2ForSequenceClassification, GPT2ForTokenClassification
from .heads import GPT2DoubleHeadsModel, GPT2LMHeadModel
from .model import GPT2Model

__all__ = [
    "GPT2Config",
    "GPT2DoubleHeadsModel",
    "GPT2DoubleHeadsModelOutput",
    "GPT2ForQuestionAnswering",
    "GPT2ForSequenceClassification",
    "GPT2ForTokenClassification",
    "GPT2LMHeadModel",
    "GPT2Model",
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
]
