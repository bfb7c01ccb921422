"""Opening whatever checkpoint a folder or a file holds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import CONFIG_FILE, HPARAMS_FILE, PRESETS, GPT2Config
from ..errors import GPT2Error
from ..hub import split_options
from .contents import Contents
from .find import INDEX, find_checkpoint
from .formats import read_contents
from .linear_layout import from_linear, is_linear, projections
from .names import published
from .shapes import fields_of
from .shards import read_index
from .tensor import Tensor, TensorFile

_PUBLISHED_HEADS = {config.n_embd: config.n_head for config in map(GPT2Config.preset, PRESETS)}


class _Collected(NamedTuple):
    """What was found in the files of a checkpoint."""

    tensors: dict[str, Tensor]
    skipped: list[str]
    renamed: dict[str, str]
    transposed: list[str]
    eras: set[str]


class Checkpoint(Mapping[str, np.ndarray]):
    """A checkpoint as a read-only mapping of published names to arrays, each read when it is asked for.

    bfloat16 comes as float32 (exact); `tensors` gives stored types and shapes without reading, `config` the
    config or None where none lies beside the file, `format` "safetensors", "torch", "tf-h5", …, `era` which programs
    wrote it so, `files` the paths read, `skipped` the names that were left out because they are no weights,
    `renamed` the file's own names -> the published ones where they differ, `transposed` the names that are stored the
    other way. Close it, or use it in a `with` block.
    """

    def __init__(
        self,
        path: Path,
        config: GPT2Config | None,
        form: str,
        files: list[TensorFile],
        found: _Collected,
    ):
        self.path, self.config, self.format = path, config, form
        self.tensors, self.skipped = found.tensors, found.skipped
        self.renamed, self.transposed = found.renamed, found.transposed
        self.era = ", ".join(sorted(found.eras))
        self._files = files

    def require_config(self) -> GPT2Config:
        """Returns the config; raises where none lies beside the file."""
        if self.config is None:
            heads = _PUBLISHED_HEADS.get(self.told.get("n_embd", 0))
            known = f" (a published GPT-2 of this width has {heads})" if heads else ""
            raise GPT2Error(
                f"{self.path} has no config.json beside it, and weights do not tell n_head: copy the model's config "
                f"into that folder, or give n_head{known}"
            )
        return self.config

    @property
    def told(self) -> dict[str, Any]:
        """The config fields that names and shapes of the tensors tell: not n_head."""
        return fields_of(self.tensors)

    @property
    def files(self) -> list[Path]:
        """Paths of the files that hold the tensors."""
        return [file.path for file in self._files]

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.tensors:
            raise KeyError(f"{self.path} holds no tensor {name!r}")
        return self.tensors[name].array()

    def __contains__(self, name: object) -> bool:
        return name in self.tensors  # a Mapping's own would read the values

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def close(self) -> None:
        """Closes the files; tensors that were not read yet cannot be read any more."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *error) -> None:
        self.close()


def open_checkpoint(source: str | Path, **overrides) -> Checkpoint:
    """Returns the checkpoint of a folder, a file, a packaged model's name or a hub id (`openai-community/gpt2`).

    overrides: config fields, which win over the checkpoint's own; for a hub id also `revision`, `token`, `cache_dir`
    and `local_files_only`, as huggingface_hub has them.
    """
    hub, overrides = split_options(overrides)
    file = find_checkpoint(source, hub)
    shards = read_index(file) if file.name.endswith(INDEX) else None
    paths = [file.parent / shard for shard in shards] if shards else [file]
    files: list[TensorFile] = []
    try:
        found = _Collected({}, [], {}, [], set())
        for shard in paths:
            if not os.path.isfile(shard):  # Path.is_file raises for a name that is too long
                raise GPT2Error(
                    f"{shard.parent} lacks {shard.name}, which {file.name} names: copy the whole checkpoint"
                )
            files.append(TensorFile(shard))
            contents = read_contents(files[-1])
            files += contents.files
            _collect(shard, contents, found)
        if shards:
            _check_index(file, shards, len(found.tensors) + len(found.skipped))
        if is_linear(found.tensors):
            found.transposed.extend(projections(found.tensors))
            found = found._replace(tensors=from_linear(found.tensors))
        config = _config_of(file, contents.fields, found.tensors, overrides)
        if config and config.tie_word_embeddings and "lm_head.weight" in found.tensors:
            # of two tied names safetensors' save_model keeps the first
            found.tensors.setdefault("wte.weight", found.tensors["lm_head.weight"])
    except BaseException:
        for opened in files:
            opened.close()
        raise
    return Checkpoint(file, config, contents.format, files, found)


def _config_of(
    file: Path, fields: Mapping[str, Any] | None, tensors: Mapping[str, Tensor], overrides: Mapping[str, Any]
) -> GPT2Config | None:
    """Returns the config that lies beside a file, else what the file itself tells, else what shapes and n_head tell."""
    if any((file.parent / name).is_file() for name in (CONFIG_FILE, HPARAMS_FILE)):
        return GPT2Config.from_pretrained(file.parent, **overrides)
    if fields is not None:
        return _from_fields(file, fields, overrides)
    if {"n_head", "num_attention_heads"} & overrides.keys():
        return _from_fields(file, fields_of(tensors), overrides)
    return None


def _from_fields(file: Path, fields: Mapping[str, Any], overrides: Mapping[str, Any]) -> GPT2Config:
    """Returns the config that fields describe which a file itself told."""
    try:
        return GPT2Config.from_dict(fields, **overrides)
    except GPT2Error as error:
        raise GPT2Error(f"{file}: {error}") from None


def _collect(path: Path, contents: Contents, found: _Collected) -> None:
    found.skipped.extend(contents.skipped)
    found.eras.update(contents.era)
    for name, tensor in contents.tensors.items():
        own, known = contents.names.get(name, name), published(name, tensor)
        if known is None:
            found.skipped.append(own)
            continue
        if known.name in found.tensors:
            raise GPT2Error(f"{path}: {own!r} is {known.name}, which the checkpoint holds already")
        found.tensors[known.name] = known.tensor
        if own != known.name:
            found.renamed[own] = known.name
        if known.transposed:
            found.transposed.append(known.name)


def _check_index(index: Path, shards: Mapping[str, list[str]], held: int) -> None:
    expected = sum(len(names) for names in shards.values())
    if expected != held:
        raise GPT2Error(
            f"{index} names {expected} tensors, its shards hold {held}: files of two checkpoints are mixed. "
            "Copy the whole checkpoint again"
        )
