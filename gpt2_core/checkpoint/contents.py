"""What every reader of a file returns."""

from __future__ import annotations

import dataclasses
from typing import Any

from .tensor import Tensor, TensorFile


@dataclasses.dataclass(frozen=True)
class Contents:
    """The tensors of one file under its own names, or under the published ones, and what else it tells."""

    format: str
    tensors: dict[str, Tensor]
    fields: dict[str, Any] | None = None  # of the config, where the file itself holds them
    era: tuple[str, ...] = ()  # which programs wrote the format so
    skipped: tuple[str, ...] = ()  # parts of the file that are no weights
    names: dict[str, str] = dataclasses.field(default_factory=dict)  # published -> its own, where a reader knew better
    files: tuple[TensorFile, ...] = ()  # further ones that were opened
