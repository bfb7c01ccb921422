"""Which file of a folder is the checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..assets import PACKAGED_MODELS, packaged
from ..atomic import settle
from ..config import CONFIG_FILE, HPARAMS_FILE
from ..errors import GPT2Error
from ..hub import Repository, repository
from .formats import SUFFIXES
from .keras_h5 import KERAS_FILE
from .shards import read_index
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


def find_checkpoint(source: str | Path, hub: Mapping[str, Any]) -> Path:
    """Returns the checkpoint file, or the index of its files, of a folder, a file, or the name of a model.

    The name is that of a packaged model or of one on the hub, whose files are fetched; `hub`: its options.
    """
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
    remote = repository(source, hub)
    if remote is not None:
        return _from_hub(remote)
    raise GPT2Error(
        f"no file or folder {str(source)!r}: give a folder that holds one of {', '.join(KNOWN_FILES)}, such a file, "
        f"the name of a packaged model ({', '.join(PACKAGED_MODELS)}) or of one on the hub (openai-community/gpt2)"
    )


def _from_hub(remote: Repository) -> Path:
    """Returns where the cache has a hub's checkpoint, after fetching it and its config."""
    remote.first((CONFIG_FILE, HPARAMS_FILE))
    file = remote.first(KNOWN_FILES)
    if file is None:
        raise remote.lacks("checkpoint", KNOWN_FILES)
    remote.file("generation_config.json")  # most models have one, and none needs it
    for shard in read_index(file) if file.name.endswith(INDEX) else ():
        if remote.file(shard) is None:
            raise remote.lacks(f"{shard}, which {file.name} names")
    return file


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
