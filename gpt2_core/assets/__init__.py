"""Data that ships with the package: GPT-2's vocabulary, and a small GPT-2 trained on Shakespeare."""

import os
from pathlib import Path

from ..errors import GPT2Error

GPT2_VOCABULARY = Path(__file__).parent / "gpt2"
SHAKESPEARE = Path(__file__).parent / "shakespeare"
PACKAGED_MODELS = {"shakespeare": SHAKESPEARE}


def packaged(source: str | Path) -> Path:
    """Returns the path of a checkpoint: a packaged model's by its name, unless a file or folder is called that."""
    if not isinstance(source, str | os.PathLike) or not str(source):
        raise GPT2Error(f"{source!r} is no path: give a folder or a file, or the name of a packaged model")
    path = Path(source).expanduser()
    return PACKAGED_MODELS.get(str(source), path) if not path.exists() else path
