"""GPT-2 in PyTorch, plain nn.Modules; its twin is gpt2_tf."""

from typing import TYPE_CHECKING

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    from gpt2_core.errors import missing_framework

    raise missing_framework("gpt2_torch", "PyTorch", "torch") from None

from gpt2_core.config import GPT2Config
from gpt2_core.later import later
from gpt2_core.outputs import GPT2DoubleHeadsModelOutput

from .classifiers import GPT2ForQuestionAnswering, GPT2ForSequenceClassification, GPT2ForTokenClassification
from .heads import GPT2DoubleHeadsModel, GPT2LMHeadModel
from .model import GPT2Model

if TYPE_CHECKING:
    from gpt2_core.tokenizer import GPT2Tokenizer, GPT2TokenizerFast
else:  # gpt2_tf has them at once: Keras knows a layer of saved models, the tokenizer's too, once it is imported
    __getattr__, __dir__ = later(__name__, "gpt2_core.tokenizer", "GPT2Tokenizer", "GPT2TokenizerFast")

# MKL, which PyTorch's exp is, picks a way at a process's first call; of two threads that are in it at once one may get
# a rough one, wrong by a part in 7,000 (https://github.com/pytorch/pytorch/issues/188792): here it is one
for _dtype in (torch.float32, torch.float64):
    for _function in (torch.exp, torch.log, torch.tanh):
        _function(torch.ones(1, dtype=_dtype, device="cpu"))

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
