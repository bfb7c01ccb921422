"""What the models return: tuples of the fields that are present, declared once for both frameworks.

An output is a named tuple of its present fields alone, because that is what torch's and Keras' tree functions,
tf.function, XLA and `predict` all take apart and put together again without loss; a field that is absent is a class
attribute None.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from typing import Any

from .errors import GPT2Error, nearest


class ModelOutput(tuple):
    """A tuple of the present fields, also by attribute and by name.

    >>> out = CausalLMOutput(logits=[[1.0]], loss=None)
    >>> out[0], out.logits, out["logits"], out.loss
    ([[1.0]], [[1.0]], [[1.0]], None)
    """

    __slots__ = ()
    names: tuple[str, ...] = ()  # every field that the type may have, in order

    def __new__(cls, **values):
        for name in values:
            if name not in cls.names:
                raise GPT2Error(f"{cls.__name__} has no field {name!r}.{nearest(name, cls.names)}")
        present = tuple(name for name in cls.names if values.get(name) is not None)
        return _with_fields(cls, present)(*(values[name] for name in present))

    def __getitem__(self, key):
        if not isinstance(key, str):
            return tuple.__getitem__(self, key)
        if key not in self.keys():
            raise KeyError(f"{key!r} is not in this {type(self).__name__}; it holds {', '.join(self.keys())}")
        return getattr(self, key)

    def __contains__(self, key):
        return key in self.keys() if isinstance(key, str) else tuple.__contains__(self, key)

    def __reduce__(self):
        return _rebuild, (self.declared, dict(self.items()))

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the field `name` if it is present, else `default`."""
        return getattr(self, name) if name in self.keys() else default

    def keys(self) -> tuple[str, ...]:
        """Returns the names of the present fields."""
        return self._fields  # type: ignore[attr-defined]  # the named tuples of _with_fields have it

    def values(self) -> tuple:
        """Returns the present fields."""
        return tuple(self)

    def items(self) -> list[tuple[str, Any]]:
        """Returns (name, value) of the present fields."""
        return list(zip(self.keys(), self, strict=True))

    def to_tuple(self) -> tuple:
        """Returns the present fields as a plain tuple, what `return_dict=False` gives."""
        return tuple(self)


_TYPES: dict[tuple, type] = {}  # and no functools.cache, of which torch.compile warns


def _with_fields(cls: type[ModelOutput], present: tuple[str, ...]) -> type:
    """Returns the named tuple type of one set of present fields; the same set gives the same type."""
    if (cls, present) in _TYPES:
        return _TYPES[cls, present]
    fields = namedtuple(cls.__name__, present)  # type: ignore[misc]  # it wants a literal name
    absent = dict.fromkeys(name for name in cls.names if name not in present)
    body = {"__slots__": (), "__new__": fields.__new__, "__module__": cls.__module__, "__doc__": cls.__doc__}
    _TYPES[cls, present] = type(cls.__name__, (cls, fields), {**absent, **body, "declared": cls})
    return _TYPES[cls, present]


def _rebuild(cls: type[ModelOutput], values: Mapping[str, Any]) -> ModelOutput:
    return cls(**values)


_COMMON = ("past_key_values", "hidden_states", "attentions", "cross_attentions")


class BaseModelOutput(ModelOutput):
    """GPT2Model: last_hidden_state (B,T,C); past_key_values L x (key, value), each (B,H,S,D), and with cross-attention
    L x (key, value, cross_key, cross_value), the last two (B,H,E,D); hidden_states L+1 x (B,T,C), the embeddings first,
    the last one after ln_f; attentions L x (B,H,T,S); cross_attentions L x (B,H,T,E)."""

    __slots__ = ()
    names = ("last_hidden_state", *_COMMON)

    def common(self) -> dict[str, Any]:
        """Returns the fields that the outputs of all models share, by name."""
        return {name: getattr(self, name) for name in _COMMON}


class CausalLMOutput(ModelOutput):
    """GPT2LMHeadModel: loss (); logits (B,T,V); the rest as BaseModelOutput."""

    __slots__ = ()
    names = ("loss", "logits", *_COMMON)


class GPT2DoubleHeadsModelOutput(ModelOutput):
    """GPT2DoubleHeadsModel: loss () of the language model; mc_loss () of the choices; logits (B,N,T,V);
    mc_logits (B,N), or (B,N,K) where the head gives a choice K numbers; past_key_values of B*N rows;
    hidden_states L+1 x (B,N,T,C); attentions L x (B,N,H,T,S); cross_attentions L x (B,N,H,T,E)."""

    __slots__ = ()
    names = ("loss", "mc_loss", "logits", "mc_logits", *_COMMON)


class SequenceClassifierOutput(ModelOutput):
    """GPT2ForSequenceClassification: loss (); logits (B,num_labels); the rest as BaseModelOutput."""

    __slots__ = ()
    names = ("loss", "logits", *_COMMON)


class TokenClassifierOutput(ModelOutput):
    """GPT2ForTokenClassification: loss (); logits (B,T,num_labels); the rest as BaseModelOutput."""

    __slots__ = ()
    names = ("loss", "logits", *_COMMON)


class QuestionAnsweringOutput(ModelOutput):
    """GPT2ForQuestionAnswering: loss (); start_logits (B,T); end_logits (B,T); the rest as BaseModelOutput."""

    __slots__ = ()
    names = ("loss", "start_logits", "end_logits", *_COMMON)


class GenerateOutput(ModelOutput):
    """generate: sequences (rows, T + new), the texts of a prompt one after another; sequences_scores (rows,) of beams;
    scores, of each step (rows, V); past_key_values, which the next call may be given with all of `sequences`; seed,
    with which the same is drawn again."""

    __slots__ = ()
    names = ("sequences", "sequences_scores", "scores", "past_key_values", "seed")
