"""Names of a package that are imported when they are first asked for, so that who does without them does not wait."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any


def later(package: str, source: str, *names: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns a package's `__getattr__`, which imports names of the module `source` once asked for, and its `__dir__`.

    >>> load, _ = later("gpt2_core", "gpt2_core.sampling", "uniforms")
    >>> load("uniform")
    Traceback (most recent call last):
    ...
    AttributeError: module 'gpt2_core' has no attribute 'uniform'
    """

    def load(name: str) -> Any:
        if source == f"{package}.{name}":
            return importlib.import_module(source)
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(source), name)
        setattr(sys.modules[package], name, value)  # so that it is asked for once
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names})

    return load, listed
