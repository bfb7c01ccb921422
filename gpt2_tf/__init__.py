"""GPT-2 in Keras 3; its twin is gpt2_torch."""

try:
    import keras
except ModuleNotFoundError as error:
    if error.name not in ("keras", "tensorflow"):
        raise
    from gpt2_core.errors import missing_framework

    raise missing_framework("gpt2_tf", "Keras 3 and TensorFlow", "tf") from None
if not hasattr(keras, "ops"):
    from gpt2_core.errors import missing_framework

    raise missing_framework("gpt2_tf", f"Keras 3 (this is {keras.__version__})", "tf")

from gpt2_core.config import GPT2Config
from gpt2_core.outputs import GPT2DoubleHeadsModelOutput as TFGPT2DoubleHeadsModelOutput
from gpt2_core.tokenizer import GPT2Tokenizer, GPT2TokenizerFast

from .classifiers import TFGPT2ForQuestionAnswering, TFGPT2ForSequenceClassification, TFGPT2ForTokenClassification
from .heads import TFGPT2DoubleHeadsModel, TFGPT2LMHeadModel
from .model import TFGPT2Model
from .tokenization import TFGPT2Tokenizer

__all__ = [
    "GPT2Config",
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
    "TFGPT2DoubleHeadsModel",
    "TFGPT2DoubleHeadsModelOutput",
    "TFGPT2ForQuestionAnswering",
    "TFGPT2ForSequenceClassification",
    "TFGPT2ForTokenClassification",
    "TFGPT2LMHeadModel",
    "TFGPT2Model",
    "TFGPT2Tokenizer",
]
