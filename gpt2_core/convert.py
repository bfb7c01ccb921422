"""From any checkpoint that opens to any format that is written, one tensor in memory at a time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from . import checkpoint
from .errors import GPT2Error
from .tokenizer.vocabulary import tokenizer_files


class Report(NamedTuple):
    """What a conversion did."""

    source_format: str
    target: Path
    head: str
    read: int
    skipped: list[str]


def convert(
    src: str | Path,
    dst: str | Path,
    to: str = "safetensors",
    *,
    dtype: object = None,
    max_shard_size: int | str = "5GB",
    force: bool = False,
) -> Report:
    """Writes `dst` from the checkpoint `src` and returns a Report; bit for bit where `dtype` is not given.

    A tokenizer that lies beside it is copied along.

    Raises GPT2Error where `dst` holds a checkpoint and `force` is not set, or where `src` does not fit its config.
    """
    target = Path(dst).expanduser()
    with checkpoint.open(src) as source:
        head = checkpoint.find_head(source)
        found = checkpoint.match(source, head, "auto")
        present = [name for name in checkpoint.KNOWN_FILES if (target / name).exists()]
        if present and not force:
            raise GPT2Error(f"{target} holds {', '.join(present)} already: use --force (force=True) to replace it")
        tensors = found.tensors if dtype is None else _converted(found.tensors, checkpoint.float_name(dtype))
        checkpoint.save(
            target,
            source.require_config(),
            tensors,
            head,
            format=to,
            max_shard_size=max_shard_size,
            replace=force,
            beside=() if _same(source.path.parent, target) else tokenizer_files(source.path.parent),
        )
        return Report(source.format, target, head, len(source), source.skipped)


def _same(a: Path, b: Path) -> bool:
    return b.exists() and a.samefile(b)


def _converted(tensors, dtype):
    return {name: checkpoint.Tensor(dtype, t.shape, lambda t=t: t.bits(dtype)) for name, t in tensors.items()}
