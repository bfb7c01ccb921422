"""GPT2Config: every field of a published config.json, checked once, the same for both frameworks.

Fields, defaults and aliases are those of transformers' GPT-2; fields that this project does not use are kept in
`extra` and written back.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .assets import packaged
from .atomic import Replacement, settle
from .errors import GPT2Error, nearest
from .foreign_config import published_fields
from .hub import repository, split_options
from .plain import FrozenDict, is_int, is_number, plain

CONFIG_FILE = "config.json"
HPARAMS_FILE = "hparams.json"  # OpenAI's own release of GPT-2

ALIASES = {
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "max_position_embeddings": "n_positions",
}

ACTIVATIONS = (
    "gelu_new",
    "gelu_pytorch_tanh",
    "gelu_fast",
    "gelu",
    "quick_gelu",
    "relu",
    "silu",
    "swish",
    "tanh",
    "sigmoid",
    "mish",
    "linear",
)
SUMMARY_TYPES = ("last", "first", "mean", "cls_index")
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

_PRESETS = {
    "gpt2": dict(n_embd=768, n_layer=12, n_head=12),  # 124,439,808 parameters
    "gpt2-medium": dict(n_embd=1024, n_layer=24, n_head=16),  # 354,823,168
    "gpt2-large": dict(n_embd=1280, n_layer=36, n_head=20),  # 774,030,080
    "gpt2-xl": dict(n_embd=1600, n_layer=48, n_head=25),  # 1,557,611,200
    "distilgpt2": dict(n_embd=768, n_layer=6, n_head=12),  # 81,912,576
}
PRESETS = tuple(_PRESETS)


def _accept_aliases(cls):
    """Lets the constructor take `hidden_size` for `n_embd` and so on, and name an unknown field's nearest one."""
    generated = cls.__init__

    @functools.wraps(generated)
    def __init__(self, **values):
        generated(self, **_settle_labels(_canonical(values)))

    cls.__init__ = __init__
    for alias, field in ALIASES.items():
        setattr(cls, alias, property(lambda self, field=field: getattr(self, field), doc=f"The same as {field}."))
    return cls


@_accept_aliases
@dataclasses.dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """The shape and the behaviour of one GPT-2, immutable; `dataclasses.replace` gives a changed copy.

    Values that cannot work raise GPT2Error here, naming the field, the value and what is allowed.

    >>> GPT2Config(n_embd=32, n_head=4).head_dim
    8
    >>> GPT2Config(hidden_size=32, n_head=5)
    Traceback (most recent call last):
    gpt2_core.errors.GPT2Error: n_embd=32 is not divisible by n_head=5: every head needs the same whole width
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None  # None: 4 * n_embd
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: bool = True
    use_cache: bool = True
    output_hidden_states: bool = False
    output_attentions: bool = False
    return_dict: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | tuple[int, ...] | None = 50256
    pad_token_id: int | None = None
    summary_type: str = "cls_index"
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    summary_first_dropout: float = 0.1
    summary_last_dropout: float = 0.0
    classifier_dropout: float = 0.1  # of token classification
    num_labels: int = 2
    id2label: Mapping[int, str] | None = None  # LABEL_0, LABEL_1, … where only num_labels was given
    problem_type: str | None = None  # None: inferred from the labels
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # unknown keys of a config.json, kept

    def __post_init__(self):
        _freeze(self)
        _check_types(self)
        _check_values(self)

    def __hash__(self):
        return hash(self.to_json())

    @property
    def head_dim(self) -> int:
        """Width of one head, n_embd / n_head."""
        return self.n_embd // self.n_head

    @property
    def inner_dim(self) -> int:
        """Width of the MLP's hidden layer: n_inner, or 4 * n_embd."""
        return self.n_inner or 4 * self.n_embd

    @property
    def summary_width(self) -> int:
        """How many numbers the multiple choice head gives a choice: one score, or num_labels where that was given.

        Without projection, or with one that is not to labels, n_embd numbers. `dataclasses.replace` cannot tell a given
        num_labels=2 from the default: give id2label there.
        """
        if not (self.summary_use_proj and self.summary_proj_to_labels):
            return self.n_embd
        return self.num_labels if self.id2label else 1

    @property
    def label2id(self) -> dict[str, int]:
        """Label name -> number, the inverse of id2label."""
        return {label: i for i, label in self.labels.items()}

    @property
    def labels(self) -> dict[int, str]:
        """Label number -> name, whether or not names were given."""
        return dict(self.id2label) if self.id2label else _unnamed(self.num_labels)

    @classmethod
    def preset(cls, name: str, **overrides) -> GPT2Config:
        """Returns the config of a published size: gpt2, gpt2-medium, gpt2-large, gpt2-xl or distilgpt2."""
        if name not in _PRESETS:
            raise GPT2Error(
                f"no preset {name!r}: the published sizes are {', '.join(PRESETS)}.{nearest(name, PRESETS)}"
            )
        return cls(**{**_PRESETS[name], **_canonical(overrides)})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides) -> GPT2Config:
        """Returns the config that a config.json (or OpenAI's hparams.json) of these values describes.

        Unknown keys are kept in `extra`; `overrides` are fields, win over `values`, and must be known.
        """
        if not isinstance(values, Mapping):
            raise GPT2Error(f"a config is a dict of fields, not a {type(values).__name__}")
        if values.get("model_type", "gpt2") != "gpt2":
            raise GPT2Error(f"model_type is {values['model_type']!r}, not 'gpt2': this is another kind of model")
        values = published_fields(values)
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, value in values.items():
            if key in ALIASES or key in _DERIVED:
                continue
            (known if key in _FIELDS else extra)[key] = value
        for alias, field in ALIASES.items():
            if alias in values and values[alias] != known.setdefault(field, values[alias]):
                raise GPT2Error(
                    f"{field}={known[field]!r} and its alias {alias}={values[alias]!r} contradict each other"
                )
        overrides = _canonical(overrides)
        if isinstance(known.get("id2label"), Mapping):
            known["num_labels"] = len(known["id2label"])  # which wins where a file has both
        if "id2label" in overrides:
            known.pop("num_labels", None)
        elif overrides.get("num_labels", known.get("num_labels")) != known.get("num_labels"):
            known.pop("id2label", None)
        return cls(**{**known, "extra": extra, **overrides})

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values, as a config.json of the Hugging Face layout holds them."""
        values = {name: getattr(self, name) for name in _FIELDS}
        values["eos_token_id"] = list(self.eos_token_id) if isinstance(self.eos_token_id, tuple) else self.eos_token_id
        if self.id2label is None:
            del values["id2label"], values["num_labels"]
        else:  # transformers takes the number of labels from id2label
            values["id2label"] = {str(i): label for i, label in self.labels.items()}
            values["label2id"] = self.label2id
        return {**plain(self.extra), "model_type": "gpt2", **values}

    @classmethod
    def from_json(cls, text: str, *, name: str = CONFIG_FILE, **overrides) -> GPT2Config:
        """Returns the config that a JSON text describes; `name` stands in errors."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise GPT2Error(f"{name} is not valid JSON ({error}): restore it from where the model came from") from None
        if not isinstance(values, dict):
            raise GPT2Error(f"{name} holds a JSON {type(values).__name__}, not an object of config fields")
        overrides = _canonical(overrides)  # outside: what is wrong with these is not the file's fault
        try:
            return cls.from_dict(values, **overrides)
        except GPT2Error as error:
            raise GPT2Error(f"{name}: {error}") from None
        except RecursionError:
            raise GPT2Error(f"{name} has values within values, too deep for a config") from None

    def to_json(self) -> str:
        """Returns the text of a config.json, keys sorted, as Hugging Face writes it."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_pretrained(cls, folder: str | Path, **overrides) -> GPT2Config:
        """Returns the config of a checkpoint folder or of a hub id: its config.json, or OpenAI's hparams.json.

        overrides: fields, which win; for a hub id also `revision`, `token`, `cache_dir` and `local_files_only`.
        """
        options, overrides = split_options(overrides)
        remote = repository(packaged(folder), options)
        if remote is not None:
            file = remote.first((CONFIG_FILE, HPARAMS_FILE))
            if file is None:
                raise remote.lacks(CONFIG_FILE)
            folder = file.parent
        folder = packaged(folder)
        settle(folder)
        for file in (folder / CONFIG_FILE, folder / HPARAMS_FILE):
            if file.is_file():
                text = file.read_text(encoding="utf-8-sig", errors="replace")
                return cls.from_json(text, name=str(file), **overrides)
        if not folder.is_dir():
            raise GPT2Error(f"no folder {str(folder)!r}: give a folder that holds a {CONFIG_FILE}")
        raise GPT2Error(f"{folder} holds neither {CONFIG_FILE} nor {HPARAMS_FILE}: copy the model's config into it")

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json into `folder`, which is made if it does not exist."""
        with Replacement(folder) as new:
            new.path(CONFIG_FILE).write_text(self.to_json(), encoding="utf-8", newline="\n")


_FIELDS = tuple(field.name for field in dataclasses.fields(GPT2Config) if field.name != "extra")
_DERIVED = ("model_type", "label2id")


def _canonical(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the constructor's arguments with aliases renamed; raises on unknown or contradicting ones."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        field = ALIASES.get(key, key)
        if field not in _FIELDS and field != "extra":
            raise GPT2Error(f"GPT2Config has no field {key!r}.{nearest(key, [*_FIELDS, *ALIASES])}")
        if field in result and result[field] != value:
            raise GPT2Error(f"{field} was given twice, as {result[field]!r} and as {value!r} (one is its alias)")
        result[field] = value
    return result


def _unnamed(num_labels: int) -> dict[int, str]:
    """Returns the names of labels that were given none."""
    return {i: f"LABEL_{i}" for i in range(num_labels)}


_MOST_LABELS = 500_000  # whose names take 150 MB


def _settle_labels(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the constructor's arguments with num_labels and id2label in agreement, where one follows from the other.

    A number that was given is kept as names too: so is 2 told from the default, where choices get one score each.
    """
    names, number = values.get("id2label"), plain(values.get("num_labels"))
    if is_int(number) and number > _MOST_LABELS:  # here, as each gets a name
        raise GPT2Error(f"num_labels={number}: it must be at most {_MOST_LABELS}")
    if isinstance(names, Mapping):
        given = list(names.values()) != list(_unnamed(len(names)).values())  # else they contradict no other number
        if given or not is_int(number):
            return {"num_labels": len(names), **values}
    elif names is not None or not is_int(number) or ("id2label" in values and number == GPT2Config.num_labels):
        return values
    return {**values, "id2label": _unnamed(number)}


def _freeze(config: GPT2Config) -> None:
    """Takes private, unchangeable copies of the mutable values, so that no caller's dict is shared."""
    for name in _FIELDS:
        value = plain(getattr(config, name))
        object.__setattr__(config, name, tuple(value) if isinstance(value, list) else value)
    if isinstance(config.id2label, Mapping):
        try:
            labels = {int(i): label for i, label in config.id2label.items()}
        except (TypeError, ValueError):
            raise GPT2Error(f"id2label={config.id2label!r}: the keys must be label numbers") from None
        object.__setattr__(config, "id2label", FrozenDict(labels))
    extra = plain(config.extra or {})
    if not isinstance(extra, dict):
        raise GPT2Error(f"extra={config.extra!r}: it must be a dict")
    for name in extra:
        if name in _FIELDS or name in ALIASES:
            raise GPT2Error(f"extra holds {name!r}, which is a field: give it as {name}=")
    try:
        json.dumps(extra)
    except (TypeError, ValueError) as error:
        raise GPT2Error(f"extra={config.extra!r} cannot be written as JSON ({error})") from None
    if "n_ctx" in extra:  # old files say n_positions twice
        extra["n_ctx"] = config.n_positions
    object.__setattr__(config, "extra", FrozenDict(extra))


_MOST = 2**63 - 1  # of any size: what frameworks can count
_POSITIVE_INT = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "num_labels")
_OPTIONAL_ID = ("bos_token_id", "pad_token_id")
_BOOL = tuple(field.name for field in dataclasses.fields(GPT2Config) if field.type == "bool")
_PROBABILITY = (
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "summary_first_dropout",
    "summary_last_dropout",
    "classifier_dropout",
)
_CHOICE = {
    "activation_function": ACTIVATIONS,
    "summary_type": SUMMARY_TYPES,
    "summary_activation": (None, *ACTIVATIONS),
    "problem_type": (None, *PROBLEM_TYPES),
}


def _check_types(config: GPT2Config) -> None:
    for name in _POSITIVE_INT:
        value = getattr(config, name)
        if not is_int(value) or not 1 <= value <= _MOST:
            raise GPT2Error(f"{name}={value!r}: it must be a whole number of at least 1, and below 2**63")
    if config.n_inner is not None and (not is_int(config.n_inner) or not 1 <= config.n_inner <= _MOST):
        raise GPT2Error(f"n_inner={config.n_inner!r}: it must be None (for 4 * n_embd) or a whole number of at least 1")
    for name in _OPTIONAL_ID:
        value = getattr(config, name)
        if value is not None and not is_int(value):
            raise GPT2Error(f"{name}={value!r}: it must be None or a token id")
    eos = config.eos_token_id
    if not all(is_int(token) for token in (eos if isinstance(eos, tuple) else (() if eos is None else (eos,)))):
        raise GPT2Error(f"eos_token_id={eos!r}: it must be None, a token id or a list of token ids")
    for name in _BOOL:
        if not isinstance(getattr(config, name), bool):
            raise GPT2Error(f"{name}={getattr(config, name)!r}: it must be True or False")
    if not isinstance(config.id2label, Mapping | None):
        raise GPT2Error(f"id2label={config.id2label!r}: it must be a dict of label number to name")
    if any(isinstance(label, Mapping | list) for label in (config.id2label or {}).values()):
        raise GPT2Error(f"id2label={dict(config.id2label or {})!r}: a name must be text")


def _check_values(config: GPT2Config) -> None:
    for name in (*_PROBABILITY, "layer_norm_epsilon", "initializer_range"):
        value = getattr(config, name)
        if not is_number(value):
            raise GPT2Error(f"{name}={value!r}: it must be a number")
    for name in _PROBABILITY:
        if not 0 <= getattr(config, name) < 1:
            raise GPT2Error(f"{name}={getattr(config, name)!r}: a dropout probability must be in [0, 1)")
    for name in ("layer_norm_epsilon", "initializer_range"):
        if not 0 < getattr(config, name) <= sys.float_info.max:
            raise GPT2Error(f"{name}={getattr(config, name)!r}: it must be positive and finite")
    for name, allowed in _CHOICE.items():
        value = getattr(config, name)
        if value not in allowed:
            names = [choice for choice in allowed if choice is not None]
            raise GPT2Error(f"{name}={value!r}: it must be one of {', '.join(names)}.{nearest(str(value), names)}")
    if config.n_embd % config.n_head:
        raise GPT2Error(
            f"n_embd={config.n_embd} is not divisible by n_head={config.n_head}: every head needs the same whole width"
        )
    if config.id2label is not None and sorted(config.id2label) != list(range(config.num_labels)):
        raise GPT2Error(
            f"id2label names the labels {sorted(config.id2label)}, num_labels is {config.num_labels}: "
            f"name 0 to {config.num_labels - 1}, or leave one of them out"
        )
