"""GenerationConfig: how to continue a prompt."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic import Replacement
from ..errors import GPT2Error, nearest
from ..plain import FrozenDict, is_int, is_number, plain

FILE = "generation_config.json"
_INFINITY = float("inf")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How to continue a prompt. Names and defaults are those of transformers; a token id of None is the model's."""

    max_length: int | None = None  # tokens in all, prompt included
    max_new_tokens: int | None = None  # wins over max_length
    min_length: int | None = None  # no end token before so many tokens in all
    min_new_tokens: int | None = None  # no end token before so many new ones; wins over min_length
    max_time: float | None = None  # seconds, after which no further token is begun
    early_stopping: bool | str | None = False  # of beams: True, False or "never"
    stop_strings: str | Sequence[str] | None = None  # a row ends with the token that completes one; needs tokenizer=
    do_sample: bool = False
    num_beams: int = 1
    num_return_sequences: int = 1
    use_cache: bool = True
    temperature: float | None = 1.0  # None: 1
    top_k: int | None = 50  # 0 or None: every token
    top_p: float | None = 1.0  # None: 1, every token
    min_p: float | None = None  # tokens less likely than this part of the likeliest are left out
    typical_p: float | None = 1.0  # None: 1, every token
    repetition_penalty: float | None = 1.0  # None: 1
    length_penalty: float = 1.0  # of beams: their scores are divided by length ** this
    no_repeat_ngram_size: int | None = 0
    bad_words_ids: Sequence[Sequence[int]] | None = None
    suppress_tokens: Sequence[int] | None = None
    prompt_lookup_num_tokens: int | None = None  # guesses at a time, taken from the text itself
    num_assistant_tokens: int = 5  # guesses at a time of an assistant_model; transformers has 20
    overflow: str = "error"  # at n_positions; "slide": a row goes on from the later half of its tokens
    bos_token_id: int | None = None
    eos_token_id: int | Sequence[int] | None = None
    pad_token_id: int | None = None
    output_scores: bool = False
    return_dict_in_generate: bool = False
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # what a file held beside these

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        object.__setattr__(self, "extra", FrozenDict(self.extra))
        for name, (allowed, fits) in _RULES.items():
            value = getattr(self, name)
            if not fits(value) and (value is not None or name in _NEVER_NONE):
                raise GPT2Error(f"{name}={value!r}: it must be {allowed}")
        if self.num_return_sequences > self.num_beams > 1:
            raise GPT2Error(
                f"num_return_sequences={self.num_return_sequences} is more than num_beams={self.num_beams}: "
                "as many texts are found as there are beams"
            )
        if self.num_return_sequences > 1 == self.num_beams and not self.do_sample:
            raise GPT2Error(
                f"num_return_sequences={self.num_return_sequences} would be {self.num_return_sequences} times the same "
                "text: use do_sample=True, or as many num_beams"
            )
        if self.prompt_lookup_num_tokens:
            self.check_guessing("prompt_lookup_num_tokens")
        for shorter, longer in (("min_length", "max_length"), ("min_new_tokens", "max_new_tokens")):
            least, most = getattr(self, shorter), getattr(self, longer)
            if least is not None and most is not None and least > most:
                raise GPT2Error(f"{shorter}={least} is more than {longer}={most}")

    @property
    def end_tokens(self) -> tuple[int, ...] | None:
        """The ids of eos_token_id, None where it is not set."""
        eos = self.eos_token_id
        return None if eos is None else tuple(eos) if isinstance(eos, Sequence) else (eos,)

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts of stop_strings."""
        given = self.stop_strings
        return (given,) if isinstance(given, str) else tuple(given or ())

    def check_guessing(self, name: str) -> None:
        """Raises unless guesses, which are asked for by this name, can be checked."""
        if self.do_sample or self.num_beams > 1 or not self.use_cache or self.overflow == "slide":
            raise GPT2Error(
                f"{name} finds the likeliest tokens in fewer steps: it goes without do_sample, num_beams and "
                "overflow='slide', and with use_cache=True"
            )

    def replace(self, **overrides: Any) -> GenerationConfig:
        """Returns a copy with other settings; a name that there is not raises."""
        names = [name for name in (field.name for field in dataclasses.fields(self)) if name != "extra"]
        for name in overrides:
            if name not in names:
                raise GPT2Error(f"generate has no setting {name!r}.{nearest(name, names)}")
        return dataclasses.replace(self, **overrides)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings that differ from the defaults, and what a file held beside them."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "extra"}
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        return {**self.extra, **{name: value for name, value in given.items() if value != defaults[name]}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GenerationConfig:
        """Returns the settings of a generation_config.json, or of an old config.json's task_specific_params.

        What it holds beside ours is kept and written back; settings of transformers that there are not here and that
        are in use are told of in a warning.
        """
        names = {field.name for field in dataclasses.fields(cls)} - {"extra"}
        values = {n: value for n, value in values.items() if value is not None or n not in _NEVER_NONE}  # null: unset
        extra = {name: value for name, value in values.items() if name not in names}
        unknown = [n for n, value in extra.items() if n not in _NO_SETTINGS and value != _IDLE.get(n) and value]
        if unknown:
            warnings.warn(f"{', '.join(unknown)}: no settings of generate, left aside", stacklevel=3)
        return cls(**{name: value for name, value in values.items() if name in names}, extra=extra)

    @classmethod
    def from_pretrained(cls, folder: str | Path, task: str | None = None) -> GenerationConfig:
        """Returns the settings of a folder's generation_config.json; the defaults where there is none.

        task: such as "text-generation", whose task_specific_params in an old config.json are taken instead.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise GPT2Error(f"no folder {str(folder)!r}: give a folder with {FILE} or config.json")
        if task is None:
            file = folder / FILE
            return cls.from_dict(_read(file)) if file.is_file() else cls()
        file = folder / "config.json"
        tasks = (_read(file) if file.is_file() else {}).get("task_specific_params") or {}
        if task not in tasks:
            raise GPT2Error(f"{file} has no task_specific_params of {task!r}.{nearest(task, tasks)}")
        return cls.from_dict(tasks[task])

    @classmethod
    def beside(cls, checkpoint: Path) -> GenerationConfig:
        """Returns the settings that lie beside a checkpoint file; the defaults where there are none that can work."""
        try:
            return cls.from_pretrained(checkpoint.parent)
        except GPT2Error as error:
            warnings.warn(f"{checkpoint.parent / FILE}: {error}; generate starts from its defaults", stacklevel=3)
            return cls()

    def save_beside(self, folder: str | Path) -> None:
        """Writes the file into the folder of a checkpoint, if there is anything to tell or an old file to replace."""
        if self.to_dict() or (Path(folder) / FILE).exists():
            self.save_pretrained(folder)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes generation_config.json into a folder, as transformers reads it."""
        with Replacement(folder) as new:
            self.write(new)

    def write(self, new: Replacement) -> None:
        """Writes the file to the path that `new.path(name)` gives."""
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
        new.path(FILE).write_text(text, encoding="utf-8", newline="\n")


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise GPT2Error(f"{file} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise GPT2Error(f"{file} holds no JSON object")
    return found


def _whole(least: int):
    return f"a whole number of at least {least}", lambda value: is_int(value) and value >= least


def _between(text: str, low: float, high: float, *, closed: bool = False):
    def fits(value: Any) -> bool:
        return is_number(value) and (low <= value if closed else low < value) and value <= high and value < _INFINITY

    return text, fits


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(is_int(i) and i >= 0 for i in value)


_TRUTH = ("True or False", lambda value: isinstance(value, bool))
_ID = ("a token id", lambda value: is_int(value) and value >= 0)
_RULES: dict[str, tuple[str, Any]] = {
    "max_length": _whole(1),
    "max_new_tokens": _whole(1),
    "min_length": _whole(0),
    "min_new_tokens": _whole(0),
    "max_time": _between("seconds, above 0", 0, _INFINITY),
    "early_stopping": ("True, False or 'never'", lambda value: isinstance(value, bool) or value == "never"),
    "stop_strings": (
        "a text or a list of texts, none of them empty",
        lambda value: (
            all(isinstance(s, str) and s for s in ([value] if isinstance(value, str) else value))
            if isinstance(value, str | list)
            else False
        ),
    ),
    "do_sample": _TRUTH,
    "num_beams": _whole(1),
    "num_return_sequences": _whole(1),
    "use_cache": _TRUTH,
    "temperature": _between("above 0; for the likeliest token at every step use do_sample=False", 0, _INFINITY),
    "top_k": ("a whole number; 0 keeps every token", _whole(0)[1]),
    "top_p": _between("above 0 and at most 1, which keeps every token", 0, 1),
    "min_p": _between("from 0, which keeps every token, to 1", 0, 1, closed=True),
    "typical_p": _between("above 0 and at most 1, which keeps every token", 0, 1),
    "repetition_penalty": _between("above 0; 1 changes nothing", 0, _INFINITY),
    "length_penalty": ("a number from -50 to 50", lambda value: is_number(value) and abs(value) <= 50),
    "no_repeat_ngram_size": ("a whole number; 0 allows every repetition", _whole(0)[1]),
    "bad_words_ids": (
        "a list of lists of token ids, none of them empty",
        lambda value: isinstance(value, list) and all(_is_ids(word) and word for word in value),
    ),
    "suppress_tokens": ("a list of token ids", _is_ids),
    "prompt_lookup_num_tokens": _whole(1),
    "num_assistant_tokens": _whole(1),
    "overflow": ("'error' or 'slide'", lambda value: value in ("error", "slide")),
    "bos_token_id": _ID,
    "eos_token_id": ("a token id or a list of token ids", lambda value: is_int(value) or _all_ints(value)),
    "pad_token_id": _ID,
    "output_scores": _TRUTH,
    "return_dict_in_generate": _TRUTH,
}
_NEVER_NONE = {name for name, (text, _) in _RULES.items() if text == _TRUTH[0]}
_NEVER_NONE |= {"num_beams", "num_assistant_tokens", "num_return_sequences", "length_penalty", "overflow"}
_NO_SETTINGS = {"transformers_version", "_from_model_config"}
_IDLE = {  # what these have in transformers' files where they do nothing
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
}


def _all_ints(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_int, value))
