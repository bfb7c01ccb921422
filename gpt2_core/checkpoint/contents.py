"""What every reader of a file returns."""

from __future__ import annotations

import dataclasses
from typing import Any

from .tensor import Tensor, TensorFile


@dataclasses.dataclass(frozen=True)
class Contents:
    """The tensors of one file under the file's own names, and what else it tells."""

    format: str
    tensors: dict[str, Tensor]
    fields: dict[str, Any] | None = None  # of the config, where the file itself holds them
    skipped: tuple[str, ...] = ()  # parts of the file that are no weights
    files: tuple[TensorFile, ...] = ()  # further ones that were opened
