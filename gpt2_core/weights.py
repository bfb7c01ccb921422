"""The tensor table: every weight's name, shape and initial distribution, said once for both frameworks.

Names are the published ones (transformers' state_dict): a head model holds its trunk under `transformer.`, and a
trunk tensor is called `h.0.attn.c_attn.weight` without it. Conv1D weights are (in, out), Linear weights (out, in),
Embedding weights (rows, width).

Letters: V vocab_size, P n_positions, C n_embd, I inner_dim, L n_layer.
"""

import math
from typing import NamedTuple

from .config import GPT2Config
from .errors import GPT2Error

# Which models there are, and what config.json calls each
ARCHITECTURES = {
    "model": "GPT2Model",
    "lm_head": "GPT2LMHeadModel",
    "double_heads": "GPT2DoubleHeadsModel",
    "sequence_classification": "GPT2ForSequenceClassification",
    "token_classification": "GPT2ForTokenClassification",
    "question_answering": "GPT2ForQuestionAnswering",
}
HEADS = tuple(ARCHITECTURES)
TRUNK = "transformer."


class WeightSpec(NamedTuple):
    """One tensor: its shape, and the normal distribution that its initial values are drawn from."""

    shape: tuple[int, ...]
    std: float = 0.0  # 0: every value is `mean`
    mean: float = 0.0


def weight_specs(config: GPT2Config, head: str = "model") -> dict[str, WeightSpec]:
    """Returns name -> WeightSpec of every weight of a model, in the order of its state_dict.

    >>> list(weight_specs(GPT2Config(n_layer=1)))[:3]
    ['wte.weight', 'wpe.weight', 'h.0.ln_1.weight']
    >>> weight_specs(GPT2Config())["h.0.attn.c_attn.weight"].shape
    (768, 2304)
    """
    if head not in HEADS:
        raise GPT2Error(f"head={head!r}: it must be one of {', '.join(HEADS)}")
    trunk = _trunk(config)
    if head == "model":
        return trunk
    return {TRUNK + name: spec for name, spec in trunk.items()} | _head(config, head)


def parameter_count(config: GPT2Config, head: str = "model") -> int:
    """Returns how many numbers a model learns; a tied head counts once.

    >>> parameter_count(GPT2Config.preset("gpt2"), "lm_head")
    124439808
    """
    return sum(math.prod(spec.shape) for spec in weight_specs(config, head).values())


def published_name(name: str) -> str:
    """Returns a weight's name as base checkpoints spell it, without the `transformer.` of head models."""
    return name.removeprefix(TRUNK)


def _trunk(config: GPT2Config) -> dict[str, WeightSpec]:
    C, std = config.n_embd, config.initializer_range
    specs = {
        "wte.weight": WeightSpec((config.vocab_size, C), std),
        "wpe.weight": WeightSpec((config.n_positions, C), std),
    }
    for i in range(config.n_layer):
        specs |= _block(config, f"h.{i}.")
    return specs | _layer_norm("ln_f", C)


def _block(config: GPT2Config, prefix: str) -> dict[str, WeightSpec]:
    C, I = config.n_embd, config.inner_dim  # noqa: E741
    std = config.initializer_range
    # GPT-2 paper, section 2.3: weights that write into the residual stream start smaller, by its number of terms
    residual_std = std / math.sqrt(2 * config.n_layer)
    specs = _layer_norm("ln_1", C)
    specs |= _conv1d("attn.c_attn", C, 3 * C, std) | _conv1d("attn.c_proj", C, C, residual_std)
    specs |= _layer_norm("ln_2", C)
    if config.add_cross_attention:
        specs |= _conv1d("crossattention.c_attn", C, 2 * C, std) | _conv1d("crossattention.q_attn", C, C, std)
        specs |= _conv1d("crossattention.c_proj", C, C, residual_std) | _layer_norm("ln_cross_attn", C)
    specs |= _conv1d("mlp.c_fc", C, I, std) | _conv1d("mlp.c_proj", I, C, residual_std)
    return {prefix + name: spec for name, spec in specs.items()}


def _head(config: GPT2Config, head: str) -> dict[str, WeightSpec]:
    C, V, std = config.n_embd, config.vocab_size, config.initializer_range
    specs = {}
    if head in ("lm_head", "double_heads") and not config.tie_word_embeddings:
        specs["lm_head.weight"] = WeightSpec((V, C), std)
    if head == "double_heads" and config.summary_use_proj:
        specs |= _linear("multiple_choice_head.summary", config.summary_width, C, std)
    if head == "sequence_classification":
        specs["score.weight"] = WeightSpec((config.num_labels, C), std)
    if head == "token_classification":
        specs |= _linear("classifier", config.num_labels, C, std)
    if head == "question_answering":
        specs |= _linear("qa_outputs", 2, C, std)  # where the answer starts, where it ends
    return specs


def _linear(name: str, n_out: int, n_in: int, std: float) -> dict[str, WeightSpec]:
    return {f"{name}.weight": WeightSpec((n_out, n_in), std), f"{name}.bias": WeightSpec((n_out,))}


def _conv1d(name: str, n_in: int, n_out: int, std: float) -> dict[str, WeightSpec]:
    return {f"{name}.weight": WeightSpec((n_in, n_out), std), f"{name}.bias": WeightSpec((n_out,))}


def _layer_norm(name: str, width: int) -> dict[str, WeightSpec]:
    return {f"{name}.weight": WeightSpec((width,), mean=1.0), f"{name}.bias": WeightSpec((width,))}
