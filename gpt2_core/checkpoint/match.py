"""Which tensor of a checkpoint goes where in a model: decided here, for both frameworks."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ..config import GPT2Config
from ..errors import GPT2Error
from ..initial import initial_weights
from ..weights import ARCHITECTURES, WeightSpec, published_name, weight_specs
from .reader import Checkpoint
from .tensor import FLOATS, Tensor, float_name

TIED = "lm_head.weight"
# Which model a layer on the trunk belongs to; lm_head last, because a model with two heads has another one too
_HEAD_OF = {
    "multiple_choice_head": "double_heads",
    "score": "sequence_classification",
    "classifier": "token_classification",
    "qa_outputs": "question_answering",
    "lm_head": "lm_head",
}
_SHOWN = 4  # names spelled out in an error


class Matched(NamedTuple):
    """Every weight of a model: name in its table -> the file's tensor, and the names that the file lacks."""

    tensors: dict[str, Tensor]
    new: list[str]
    dtype: str  # what the model computes in

    def weights(self, config: GPT2Config, head: str, seed: int) -> dict[str, Callable[[], np.ndarray]]:
        """Returns name -> how to read the bits, in `dtype`, of every weight; new ones are drawn from the seed."""
        tensors = dict(self.tensors)
        for name, values in initial_weights(config, head, seed, self.new):
            tensors[name] = Tensor.of(values)
        return {name: functools.partial(tensor.bits, self.dtype) for name, tensor in tensors.items()}


def match(source: Checkpoint, head: str, dtype: object = None) -> Matched:
    """Returns where each weight of a model comes from.

    dtype None keeps every value exactly: float64 stays, everything else becomes float32. "auto" takes the file's
    own type. A checkpoint that lacks a trunk weight, holds one too many or one of another shape raises; a head
    that it does not have is new, with a warning.
    """
    config = source.require_config()
    missing, unexpected = compare_names(source, head)
    specs = weight_specs(config, head)
    lost, extra = ([name for name in names if not _of_head(name)] for names in (missing, unexpected))
    if lost or extra:
        raise GPT2Error(_contradiction(source, lost, extra))
    _check_shapes(source, specs)
    _check_tied(source)
    _check_numbers(source)
    if missing:
        warnings.warn(
            f"{source.path} has no {', '.join(missing)}: this head is new, with initial weights from the "
            "seed. Train it before use",
            stacklevel=3,
        )
    if unexpected:
        warnings.warn(
            f"{source.path} holds {', '.join(unexpected)}, for which this model has no head: left out", stacklevel=3
        )
    tensors = {name: source.tensors[published_name(name)] for name in specs if name not in missing}
    return Matched(tensors, missing, _model_dtype(dtype, tensors))


def compare_names(source: Checkpoint, head: str, config: GPT2Config | None = None) -> tuple[list[str], list[str]]:
    """Returns the names of a model's weights that a checkpoint lacks, and of its tensors that the model has no use for.

    A tied lm_head is none of these: a file may repeat it. config: the checkpoint's own by default.
    """
    config = config or source.require_config()
    if config.n_layer > len(source.tensors):  # by far: the table of so many might not even fit into memory
        raise GPT2Error(
            f"{source.path} holds {len(source.tensors)} tensors, its config asks for n_layer={config.n_layer}. "
            "Take config.json and weights from the same model"
        )
    specs = weight_specs(config, head)
    used = {published_name(name) for name in specs} | ({TIED} if config.tie_word_embeddings else set())
    missing = [name for name in specs if published_name(name) not in source.tensors]
    return missing, [name for name in source.tensors if name not in used]


def require_table(config: GPT2Config, head: str, names: Iterable[str]) -> None:
    """Raises GPT2Error unless a model's weights are those of its table: a file would not open again, or lack some."""
    specs, held = weight_specs(config, head), list(names)
    lost, extra = [name for name in specs if name not in held], [name for name in held if name not in specs]
    if lost or extra:
        parts = [_listed(kind, names) for kind, names in (("lacks", lost), ("has also", extra)) if names]
        raise GPT2Error(
            f"this model is no {ARCHITECTURES[head]} as its config describes it: it {' and '.join(parts)}. Save it as "
            "its framework does (torch.save, model.save), or put it back first"
        )


def find_head(source: Checkpoint) -> str:
    """Returns which of HEADS a checkpoint was saved from, by its tensors, else by config.json's architectures."""
    for layer, head in _HEAD_OF.items():
        if any(name.startswith(layer + ".") for name in source.tensors):
            return head
    named = source.config.extra.get("architectures") if source.config else None
    first = named[:1] if isinstance(named, list) else []
    return next((head for head, architecture in ARCHITECTURES.items() if [architecture] == first), "model")


def _of_head(name: str) -> bool:
    return name.split(".")[0] in _HEAD_OF


def _contradiction(source: Checkpoint, lost: list[str], extra: list[str]) -> str:
    parts = [f"{source.path} does not fit its config (n_layer={source.require_config().n_layer})"]
    parts += [_listed(kind, n) for kind, n in (("it lacks", lost), ("it holds, beyond the config,", extra)) if n]
    return "; ".join(parts) + ". Take config.json and weights from the same model"


def _listed(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{kind} {', '.join(names[:_SHOWN])}{more}"


def _check_shapes(source: Checkpoint, specs: Mapping[str, WeightSpec]) -> None:
    for name, spec in specs.items():
        tensor = source.tensors.get(published_name(name))
        if tensor is not None and tensor.shape != spec.shape:
            c = source.require_config()
            raise GPT2Error(
                f"{source.path}: {published_name(name)} has shape {tensor.shape}, its config asks for {spec.shape} "
                f"(vocab_size={c.vocab_size}, n_positions={c.n_positions}, n_embd={c.n_embd}, n_inner={c.n_inner}, "
                f"num_labels={c.num_labels}). Take config.json and weights from the same model"
            )


def _check_tied(source: Checkpoint) -> None:
    """A file may repeat a tied lm_head; one that differs from wte was not tied, and dropping it would lose it."""
    if source.require_config().tie_word_embeddings and TIED in source.tensors:
        head, wte = source.tensors[TIED], source.tensors["wte.weight"]
        if not head.same_bits(wte):
            raise GPT2Error(
                f"{source.path}: lm_head.weight differs from wte.weight, yet tie_word_embeddings is true. "
                "Load it with tie_word_embeddings=False"
            )


def _check_numbers(source: Checkpoint) -> None:
    for name, tensor in source.tensors.items():
        if tensor.dtype not in FLOATS:
            raise GPT2Error(f"{source.path}: {name} holds {tensor.dtype}; weights must be one of {', '.join(FLOATS)}")


def _model_dtype(dtype: object, tensors: Mapping[str, Tensor]) -> str:
    stored = [tensor.dtype for tensor in tensors.values()]
    if dtype is None:
        return "float64" if "float64" in stored else "float32"
    if dtype == "auto":
        widest_first = sorted(set(stored), key=FLOATS.index)
        return widest_first[0] if len(widest_first) == 1 or widest_first[0] != "bfloat16" else "float32"
    return float_name(dtype)
