"""Which file of a folder is the checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

from ..assets import PACKAGED_MODELS, packaged
from ..atomic import settle
from ..errors import GPT2Error
from .formats import SUFFIXES
from .keras_h5 import KERAS_FILE
from .tf1_bundle import INDEX_SUFFIX

SAFETENSORS_FILE = "model.safetensors"
TORCH_FILE = "pytorch_model.bin"
TF_H5_FILE = "tf_model.h5"
INDEX = ".index.json"  # of shards
# What a folder is searched for, in this order
KNOWN_FILES = (
    *(name + end for name in (SAFETENSORS_FILE, TORCH_FILE, TF_H5_FILE) for end in ("", INDEX)),
    KERAS_FILE,
)
# What a training leaves beside its weights
_NO_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state(_\d+)?)\.(bin|pt|pth)")


def find_checkpoint(source: str | Path) -> Path:
    """Returns the checkpoint file, or the index of its files, of a folder, a file or the name of a packaged model."""
    path = packaged(source)
    if path.is_dir():
        settle(path)
        return _in_folder(path)
    settle(path.parent)
    if path.is_file():
        return path
    bundle = path.with_name(path.name + INDEX_SUFFIX)  # TensorFlow names a checkpoint by what its files share
    if bundle.is_file():
        return bundle
    raise GPT2Error(
        f"no file or folder {str(source)!r}, and nothing is downloaded: give a folder that holds one of "
        f"{', '.join(KNOWN_FILES)}, such a file, or the name of a packaged model ({', '.join(PACKAGED_MODELS)})"
    )


def _in_folder(folder: Path) -> Path:
    for name in KNOWN_FILES:
        if (folder / name).is_file():
            return folder / name
    files = sorted(entry for entry in folder.iterdir() if entry.is_file())
    found = [file for file in files if file.suffix in SUFFIXES and not _NO_WEIGHTS.fullmatch(file.name)]
    newest = _newest_bundle(folder)
    if newest in found:
        return newest
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found[:8]) + (", …" if len(found) > 8 else "")
        raise GPT2Error(f"{folder} holds several checkpoints, {names}: give the path of one")
    listing = ", ".join(file.name for file in files[:8]) + (", …" if len(files) > 8 else "")
    raise GPT2Error(f"{folder} holds no checkpoint: looked for {', '.join(KNOWN_FILES)}, found {listing or 'nothing'}")


def _newest_bundle(folder: Path) -> Path:
    """Returns the index of the checkpoint that TensorFlow's `checkpoint` file of a folder names last."""
    note = folder / "checkpoint"
    text = note.read_text(encoding="utf-8", errors="replace") if note.is_file() else ""
    named = re.search(r'^model_checkpoint_path: *"(?:[^"]*[/\\\\])?([^"/\\\\]+)"', text, re.MULTILINE)
    return folder / ((named[1] if named else "model.ckpt") + INDEX_SUFFIX)
