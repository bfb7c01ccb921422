"""Data that ships with the package: GPT-2's vocabulary, and a small GPT-2 trained on Shakespeare."""

from pathlib import Path

GPT2_VOCABULARY = Path(__file__).parent / "gpt2"
SHAKESPEARE = Path(__file__).parent / "shakespeare"
PACKAGED_MODELS = {"shakespeare": SHAKESPEARE}


def packaged(source: str | Path) -> Path:
    """Returns the path of a checkpoint: a packaged model's by its name, unless a file or folder is called that."""
    path = Path(source)
    return PACKAGED_MODELS.get(str(source), path) if not path.exists() else path
