"""Saving a model's weights and config into a folder, in the format asked for."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..atomic import Replacement
from ..config import CONFIG_FILE, GPT2Config
from ..errors import GPT2Error, nearest
from ..weights import ARCHITECTURES, published_name
from .find import INDEX, KNOWN_FILES, SAFETENSORS_FILE, TF_H5_FILE, TORCH_FILE
from .formats import read_contents
from .keras_h5 import KERAS_FILE
from .keras_writer import write_keras_h5
from .names import published
from .safetensors_file import write_safetensors
from .shards import index_text, is_shard, split
from .tensor import Tensor, TensorFile
from .tf_h5 import write_tf_h5
from .torch_writer import write_torch

FORMATS = {"safetensors": SAFETENSORS_FILE, "torch": TORCH_FILE, "tf-h5": TF_H5_FILE, "keras": KERAS_FILE}
# Those of Keras are not read in shards
_WHOLE = ("tf-h5", "keras")


def save(
    folder: str | Path,
    config: GPT2Config,
    tensors: Mapping[str, Tensor],
    head: str,
    *,
    format: str = "safetensors",
    max_shard_size: int | str = "5GB",
    replace: bool = False,
    beside: Iterable[Path] = (),
    checked: Callable[[str], object] | None = None,
) -> None:
    """Writes config.json and the weights, all or nothing; shards of the same format that were there before go.

    A checkpoint of another format that would be read in place of this one raises; with `replace` it goes too.
    `beside`: files that are copied along, a tokenizer's say.
    `checked`: where given, every tensor is read back before the new files take their places, compared with the one that
    was to be written, whose checksum is looked at then and not before, and its name is handed over.
    `tensors` maps the names of the weight table to values, which are read once, in order.
    """
    if format not in FORMATS:
        raise GPT2Error(f"format={format!r}: it must be one of {', '.join(FORMATS)}.{nearest(format, FORMATS)}")
    file_name = FORMATS[format]
    folder = Path(folder).expanduser()
    if not replace:
        _check_not_hidden(folder, file_name)
    write = functools.partial(_WRITERS[format], head=head)
    with Replacement(folder) as new:
        files = {file_name: tensors} if format in _WHOLE else split(tensors, file_name, max_shard_size)
        paths = {name: new.path(name) for name in files}
        for name, shard in files.items():
            write(paths[name], shard if checked is None else {n: x.unchecked() for n, x in shard.items()})
        if len(files) > 1:
            new.path(file_name + INDEX).write_text(index_text(files), encoding="utf-8", newline="\n")
        for file in beside:
            shutil.copyfile(file, new.path(file.name))
        text = _saved_config(config, tensors, head).to_json()
        new.path(CONFIG_FILE).write_text(text, encoding="utf-8", newline="\n")
        if checked is not None:
            for name, shard in files.items():
                _read_back(folder / name, paths[name], shard, checked)
        for kind in FORMATS.values() if replace else [file_name]:
            for old in folder.iterdir():
                if old.name in (kind, kind + INDEX) or is_shard(old.name, kind):
                    new.remove(old.name)


def _read_back(name: Path, path: Path, tensors: Mapping[str, Tensor], checked: Callable[[str], object]) -> None:
    """Raises GPT2Error unless the file at `path`, which is to be called `name`, holds every tensor as it should be."""
    with contextlib.closing(TensorFile(path)) as file:
        found = [published(own, tensor) for own, tensor in read_contents(file).tensors.items()]
        held = {known.name: known.tensor for known in found if known is not None}
        for weight, tensor in tensors.items():
            other = held.get(published_name(weight))
            if other is None or not other.same_bits(tensor):
                raise GPT2Error(f"{name} would not hold the {weight} that was written: write it to another disk")
            checked(weight)


def _check_not_hidden(folder: Path, file_name: str) -> None:
    """Raises where a checkpoint of another format would be read in place of the one to be saved."""
    for name in KNOWN_FILES[: KNOWN_FILES.index(file_name)]:
        if (folder / name).is_file() and name != file_name + INDEX:
            raise GPT2Error(
                f"{folder} holds {name}, which would be read in place of the new {file_name}: save into another "
                "folder, or delete it"
            )


def _write_safetensors(path: Path, tensors: Mapping[str, Tensor], head: str) -> None:
    write_safetensors(path, tensors, {"format": "pt"})  # what transformers asks for: it names the layout


def _write_torch(path: Path, tensors: Mapping[str, Tensor], head: str) -> None:
    write_torch(path, tensors)


_WRITERS: dict[str, Callable] = {
    "safetensors": _write_safetensors,
    "torch": _write_torch,
    "tf-h5": write_tf_h5,
    "keras": write_keras_h5,
}


def _saved_config(config: GPT2Config, tensors: Mapping[str, Tensor], head: str) -> GPT2Config:
    """Returns the config with what transformers looks up beside the fields: the class, and the values' type."""
    dtype = next(iter(tensors.values())).dtype
    extra = {key: value for key, value in config.extra.items() if key != "torch_dtype"}
    extra |= {"architectures": [ARCHITECTURES[head]], "dtype": dtype}
    return GPT2Config.from_dict({**config.to_dict(), **extra})
