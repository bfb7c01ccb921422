"""Lists of ids, which is what most of a fast tokenizer's time goes into."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import numpy as np

_MOST = 1 << 16  # ids that are turned into objects at once: half a megabyte, which stays in a cache


class Integers:
    """Python's whole numbers from 0 on, made once: lists of ids hold these, which is faster than new ones."""

    def __init__(self, count: int):
        self._all = np.empty(count, object)
        self._all[:] = range(count)
        self._addresses = np.fromiter(map(id, self._all), np.intp, count)

    def list_maker(self) -> Callable[[np.ndarray], list[int]]:
        """Returns what makes a list of an array of ids, (n,); for one thread.

        numpy counts references to each object twice, once for an array of objects and once for the list. Where an
        object's id is its address, the array can hold addresses that were looked up as numbers: half the time. Its
        objects stay alive as long as `self`, and nothing is written to it as objects.
        """
        if sys.implementation.name != "cpython":
            return lambda ids: self._all.take(ids).tolist()
        places = np.empty(_MOST, np.intp)
        objects = np.asarray((ctypes.py_object * _MOST).from_buffer(places.data))
        objects.flags.writeable = False

        def make(ids: np.ndarray) -> list[int]:
            count = len(ids)
            if count > _MOST:
                return self._all.take(ids).tolist()
            self._addresses.take(ids, out=places[:count], mode="clip")  # any other mode takes a copy on the way
            return objects[:count].tolist()

        return make
