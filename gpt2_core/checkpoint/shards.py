"""Checkpoints in several files: the index that says which file holds which tensor."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import GPT2Error
from .tensor import Tensor

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def read_index(path: Path) -> dict[str, list[str]]:
    """Returns shard file -> names it should hold, in order; a shard outside the index's folder is refused."""
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        entries = [(str(name), str(file)) for name, file in weight_map.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise GPT2Error(f"{path} is no shard index: it must be JSON with a 'weight_map' of tensor to file") from None
    if not entries:
        raise GPT2Error(f"{path} names no tensors: copy the whole checkpoint again")
    shards: dict[str, list[str]] = {}
    for name, file in entries:
        if Path(file).name != file or file in ("", ".", ".."):
            raise GPT2Error(f"{path} puts {name!r} into {file!r}: a shard must lie in the same folder as its index")
        shards.setdefault(file, []).append(name)
    return shards


def index_text(files: Mapping[str, Mapping[str, Tensor]], weight_name=lambda name: name) -> str:
    """Returns the text of an index of `files`, file -> its tensors."""
    total = sum(tensor.nbytes for tensors in files.values() for tensor in tensors.values())
    weight_map = {weight_name(name): file for file, tensors in files.items() for name in tensors}
    return json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2, sort_keys=True) + "\n"


def split(tensors: Mapping[str, Tensor], file_name: str, max_shard_size: int | str) -> dict[str, dict[str, Tensor]]:
    """Returns file -> tensors, in order: one file where all fit, else `stem-00001-of-0000N.suffix`."""
    limit = size_in_bytes(max_shard_size)
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + tensor.nbytes > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += tensor.nbytes
    if len(shards) == 1:
        return {file_name: shards[0]}
    return {shard_name(file_name, i, len(shards)): shard for i, shard in enumerate(shards, 1)}


def shard_name(file_name: str, number: int, count: int) -> str:
    """Returns `model-00001-of-00002.safetensors` for shard 1 of 2 of `model.safetensors`."""
    stem, suffix = file_name.rsplit(".", 1)
    return f"{stem}-{number:05d}-of-{count:05d}.{suffix}"


def is_shard(file: str, file_name: str) -> bool:
    """Returns whether `file` is named like a shard of `file_name`."""
    stem, suffix = (re.escape(part) for part in file_name.rsplit(".", 1))
    return re.fullmatch(rf"{stem}-\d+-of-\d+\.{suffix}", file) is not None


def size_in_bytes(size: int | str) -> int:
    """Returns the bytes that "5GB", "200 MiB" or a number stand for.

    >>> size_in_bytes("5GB")
    5000000000
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMG]?i?B)?", str(size).strip(), re.IGNORECASE)
    value = int(float(match[1]) * _UNITS[(match[2] or "B").upper()]) if match else 0
    if value < 1:
        raise GPT2Error(f"max_shard_size={size!r}: give a size such as '5GB', '200MB' or a number of bytes")
    return value
