"""Prints docs/weights.md: `python docs/make_weights.py > docs/weights.md`."""

import dataclasses

from gpt2_core import GPT2Config
from gpt2_core.checkpoint.names import in_tf_model
from gpt2_core.checkpoint.tensor import Tensor
from gpt2_core.weights import weight_specs

# Every size different, so that a shape can be read back as letters
LETTERS = {"V": 50257, "P": 1024, "C": 768, "3C": 2304, "2C": 1536, "I": 3072, "N": 5}
CONFIG = GPT2Config(n_layer=1, num_labels=LETTERS["N"])
SCALED = CONFIG.initializer_range / 2**0.5  # what 1 / sqrt(2 n_layer) makes of it with one layer

HEADER = """\
# The weights

*Generated from `gpt2_core/weights.py` by `python docs/make_weights.py > docs/weights.md`; a test keeps it true.*

These are the names of transformers' state_dict, and the attributes of both trees: walking either model gives exactly
them, in this order. A head model holds its trunk under `transformer.`; a base checkpoint has no such prefix, and both
open either. Nothing is transposed on the way between a file, PyTorch and Keras, except where `tf_model.h5` itself
stores another layout (last column).

V vocab_size, P n_positions, C n_embd, I n_inner (4 C unless set), N num_labels; `i` from 0 to n_layer - 1.
Initial values are drawn from a normal distribution of the standard deviation given, around 0 unless it says 1;
σ is `initializer_range`, 0.02. Weights that write into the residual stream start smaller, by 1/√(2 n_layer).
"""


def main() -> None:
    print(HEADER)
    section("The trunk: `GPT2Model`, and every other model under `transformer.`", CONFIG, "model")
    section(
        "`GPT2LMHeadModel` with `tie_word_embeddings=False` (tied, the default, it has no weight of its own)",
        dataclasses.replace(CONFIG, tie_word_embeddings=False),
        "lm_head",
    )
    section(
        "`GPT2DoubleHeadsModel` (N rows in place of 1 where num_labels is given)",
        dataclasses.replace(CONFIG, num_labels=GPT2Config.num_labels, id2label=None),
        "double_heads",
    )
    section("`GPT2ForSequenceClassification`", CONFIG, "sequence_classification")
    section("`GPT2ForTokenClassification`", CONFIG, "token_classification")
    section(
        "`GPT2ForQuestionAnswering` (where an answer starts, where it ends)",
        dataclasses.replace(CONFIG, num_labels=7),
        "question_answering",
    )
    section(
        "Cross-attention (`add_cross_attention=True`), in every block",
        dataclasses.replace(CONFIG, add_cross_attention=True),
        "model",
        only="cross",
    )


def section(title: str, config: GPT2Config, head: str, only: str = "") -> None:
    trunk = {f"transformer.{name}" for name in weight_specs(CONFIG)}
    rows = [(name, spec) for name, spec in weight_specs(config, head).items() if name not in trunk and only in name]
    print(f"## {title}\n\n| name | shape | initial | in `tf_model.h5`, after the model's name |\n|---|---|---|---|")
    for name, spec in rows:
        found = as_h5(name if head != "model" else f"transformer.{name}", spec.shape)
        print(f"| `{name.replace('h.0.', 'h.i.')}` | {letters(spec.shape)} | {initial(spec)} | {found} |")
    print()


def as_h5(name: str, shape: tuple[int, ...]) -> str:
    if name == "lm_head.weight":
        return "has no place there"
    found = in_tf_model(name, Tensor("float32", shape, None), "")
    return f"`{found.name.lstrip('/').replace('h_._0', 'h_._i')}` {letters(found.tensor.shape)}"


def letters(shape: tuple[int, ...]) -> str:
    names = {size: letter for letter, size in LETTERS.items()}
    return "(" + ", ".join(names.get(size, str(size)) for size in shape) + ("," if len(shape) == 1 else "") + ")"


def initial(spec) -> str:
    if spec.std == 0:
        return f"{spec.mean:g}"
    return "σ" if spec.std == CONFIG.initializer_range else "σ/√(2 n_layer)"


if __name__ == "__main__":
    main()
