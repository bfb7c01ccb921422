"""Values in Python's own types, however they were given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import GPT2Error


def plain(value: Any) -> Any:
    """Returns numbers, arrays, tensors, dicts and sequences as Python numbers, lists and dicts, copied deeply.

    >>> plain({"a": np.int64(3), "b": (np.float32(0.5), np.array([1, 2]))})
    {'a': 3, 'b': [0.5, [1, 2]]}
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [plain(item) for item in value]
    for method in ("tolist", "to_list"):  # numpy's and PyTorch's; TensorFlow's ragged tensors'
        if hasattr(value, method):
            return getattr(value, method)()
    return np.asarray(value).tolist() if hasattr(value, "__array__") else value


def is_int(value: object) -> bool:
    """Returns whether a plain value is a whole number, and not True or False."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Returns whether a plain value is a number, and not True or False."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_seed(seed: object) -> int:
    """Returns a seed as an int; raises GPT2Error unless it is a whole number from 0 to 2**64 - 1."""
    number = plain(seed)
    if not is_int(number) or not 0 <= number < 2**64:
        raise GPT2Error(f"seed={number!r}: it must be a whole number from 0 to 2**64 - 1")
    return number


class FrozenDict(dict):
    """A dict that cannot be changed, but copied and pickled like any other."""

    def _refuse(self, *arguments, **named):
        raise TypeError("a config cannot be changed; dataclasses.replace makes a changed copy")

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse  # type: ignore[assignment]

    def __reduce__(self):
        return type(self), (dict(self),)
