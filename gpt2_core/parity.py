"""Comparing two runs output by output: what `gpt2 verify` and the parity tests share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .errors import GPT2Error

# The largest difference allowed between frameworks, as a part of the largest value of that output.
# float64: a wrong formula shows, rounding does not. float32: 2**-23 is 1.2e-7; some tens of roundings in a row.
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}


class Difference(NamedTuple):
    """How far two arrays of one name lie apart."""

    name: str
    shape: tuple[int, ...]
    largest: float  # largest absolute value of the second, the reference
    absolute: float  # largest absolute difference; infinite where shapes differ or a number is not finite
    note: str = ""

    @property
    def relative(self) -> float:
        """The difference as a part of the largest value."""
        if self.absolute == 0:
            return 0.0
        return self.absolute / self.largest if self.largest else math.inf

    def within(self, tolerance: float) -> bool:
        """Returns whether the relative difference is at most `tolerance`."""
        return self.relative <= tolerance


def compare(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> list[Difference]:
    """Returns a Difference for every name of either; a name that one lacks, a shape that differs or a NaN counts as
    infinitely far.

    >>> compare({"logits": [1.0, 2.0]}, {"logits": [1.0, 2.5]})[0].relative
    0.2
    """
    if not ours and not theirs:
        raise GPT2Error("nothing to compare: both sides are empty")
    names = list(dict.fromkeys([*theirs, *ours]))
    return [_difference(name, ours.get(name), theirs.get(name)) for name in names]


def _difference(name: str, ours: object, theirs: object) -> Difference:
    if ours is None or theirs is None:
        present = np.asarray(theirs if ours is None else ours)
        return Difference(name, present.shape, math.inf, math.inf, "only one side has it")
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return Difference(name, theirs.shape, math.inf, math.inf, f"shapes {ours.shape} and {theirs.shape}")
    if ours.size == 0:
        return Difference(name, theirs.shape, 0.0, 0.0)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return Difference(name, theirs.shape, math.inf, math.inf, "not all numbers are finite")
    return Difference(name, theirs.shape, float(np.abs(theirs).max()), float(np.abs(ours - theirs).max()))


def flatten(output: object, prefix: str = "") -> dict[str, object]:
    """Returns name -> array of a nested output: hidden_states.0, past_key_values.1.0, …"""
    if not isinstance(output, Sequence):
        return {prefix: output}
    parts: dict[str, object] = {}
    for key, value in zip(getattr(output, "_fields", range(len(output))), output, strict=True):
        parts |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return parts


def worst_by_field(differences: Sequence[Difference]) -> list[Difference]:
    """Returns the worst Difference of each output field, named by the field: one row for all hidden states."""
    worst: dict[str, Difference] = {}
    for difference in differences:
        field = difference.name.split(".")[0]
        if field not in worst or difference.relative > worst[field].relative:
            worst[field] = difference._replace(name=field)
    return list(worst.values())


def require_close(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], tolerance: float) -> None:
    """Raises AssertionError naming every output that lies further apart than `tolerance`."""
    far = [d for d in compare(ours, theirs) if not d.within(tolerance)]
    if far:
        lines = [
            f"{d.name} {d.shape}: {d.absolute:.3g} of {d.largest:.3g}, relative {d.relative:.3g} {d.note}" for d in far
        ]
        raise AssertionError(f"beyond {tolerance:g}:\n  " + "\n  ".join(lines))
