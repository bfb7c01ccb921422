"""From any checkpoint that opens to any format that is written, some megabytes in memory at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import checkpoint
from .assets import packaged
from .checkpoint import Tensor
from .errors import GPT2Error
from .hub import repository, split_options

Progress = Callable[[str, int, int, str], None]  # what is done ("write", "check"), how many, of how many, which tensor


class Report(NamedTuple):
    """What a conversion did."""

    source_format: str
    target: Path
    head: str
    read: int  # tensors, the masks and whatever else was skipped not among them
    renamed: dict[str, str]  # the source's own name -> the published one, where they differ
    transposed: list[str]  # published names of what the source stores the other way
    skipped: list[str]  # the source's own names of what are no weights
    tied: bool  # whether the source repeats the word table as lm_head.weight
    checked: int  # tensors that were read back, and held the source's bits


def convert(
    src: str | Path,
    dst: str | Path,
    to: str = "safetensors",
    *,
    dtype: object = None,
    max_shard_size: int | str = "5GB",
    force: bool = False,
    progress: Progress | None = None,
    **overrides,
) -> Report:
    """Writes `dst` from the checkpoint `src` and returns a Report; bit for bit where `dtype` is not given.

    A tokenizer and a generation_config.json that lie beside it are copied along. Every tensor is read back and compared
    with the source before the new files take the place of older ones.
    overrides: config fields and the hub's options, as checkpoint.open takes them.

    Raises GPT2Error where `dst` holds a checkpoint and `force` is not set, or where `src` does not fit its config.
    """
    target = Path(dst).expanduser()
    with checkpoint.open(src, **overrides) as source:
        head = checkpoint.find_head(source)
        found = checkpoint.match(source, head, "auto")
        present = [name for name in checkpoint.KNOWN_FILES if (target / name).exists()]
        if present and not force:
            raise GPT2Error(f"{target} holds {', '.join(present)} already: use --force (force=True) to replace it")
        tensors = found.tensors
        if dtype is not None:
            wanted = checkpoint.float_name(dtype)
            tensors = {name: tensor.converted(wanted) for name, tensor in tensors.items()}
        checked: list[str] = []

        def told(name: str) -> None:
            checked.append(name)
            if progress is not None:
                progress("check", len(checked), len(tensors), name)

        checkpoint.save(
            target,
            source.require_config(),
            _announced(tensors, progress),
            head,
            format=to,
            max_shard_size=max_shard_size,
            replace=force,
            beside=_beside(source, src, target, overrides),
            checked=told,
        )
        return Report(
            source.format,
            target,
            head,
            len(source),
            source.renamed,
            source.transposed,
            source.skipped,
            tied=source.require_config().tie_word_embeddings and "lm_head.weight" in source,
            checked=len(checked),
        )


def _announced(tensors: Mapping[str, Tensor], progress: Progress | None) -> Mapping[str, Tensor]:
    """Returns tensors that tell of it when they are read."""
    if progress is None:
        return tensors

    return {
        name: tensor.after(functools.cache(functools.partial(progress, "write", number, len(tensors), name)))
        for number, (name, tensor) in enumerate(tensors.items(), 1)
    }


def _beside(source: checkpoint.Checkpoint, src: str | Path, target: Path, options: Mapping[str, Any]) -> list[Path]:
    """Returns what lies beside the source: a tokenizer, fetched if the source came from the hub, and settings."""
    from .tokenizer.files import TOKENIZER_FILES, tokenizer_files  # and all of the tokenizer, not needed before

    remote = repository(packaged(src), split_options(options)[0])
    if remote is not None:
        for name in TOKENIZER_FILES:
            remote.file(name)
    if _same(source.path.parent, target):
        return []
    settings = source.path.parent / "generation_config.json"
    return [*tokenizer_files(source.path.parent), *([settings] if settings.is_file() else [])]


def _same(a: Path, b: Path) -> bool:
    return b.exists() and a.samefile(b)
