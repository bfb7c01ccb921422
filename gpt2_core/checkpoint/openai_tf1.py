"""OpenAI's release of GPT-2: the variables of its TensorFlow 1 code, under the published names."""

from __future__ import annotations

import contextlib
import re

from ..errors import GPT2Error
from .contents import Contents
from .tensor import Tensor, TensorFile
from .tf1_bundle import bundle_tensor, data_files, read_index

_LAYERS = "attn/c_attn|attn/c_proj|mlp/c_fc|mlp/c_proj"
_NAME = re.compile(rf"model/(?:(wte|wpe)|(ln_f|h\d+/ln_[12])/([gb])|(h\d+/(?:{_LAYERS}))/([wb]))")
_LEAVES = {"g": "weight", "w": "weight", "b": "bias"}


def read_openai(index: TensorFile) -> Contents:
    """Returns the weights of an open `model.ckpt.index`; other variables, as an optimizer's, are skipped."""
    count, entries = read_index(index)
    paths = data_files(index.path, count)
    for path in paths:
        if not path.is_file():
            raise GPT2Error(f"{path.parent} lacks {path.name}, which {index.name} needs: copy the whole checkpoint")
    wanted = {name: entry for name, entry in entries.items() if _NAME.fullmatch(name)}
    if not wanted:
        some = ", ".join(list(entries)[:4])
        raise GPT2Error(f"{index.path} holds none of GPT-2's variables (model/wte and so on), but {some or 'nothing'}")
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(contextlib.closing(TensorFile(path))) for path in paths]
        tensors: dict[str, Tensor] = {}
        for name, entry in wanted.items():
            if entry.shard >= count:
                raise GPT2Error(f"{index.path} puts {name!r} into data file {entry.shard} of {count}: it is damaged")
            tensor = bundle_tensor(files[entry.shard], name, entry)
            if tensor is None:
                raise GPT2Error(f"{index.path}: {name!r} is stored in a way that this does not read")
            tensors[_published(name)] = _without_first_axis(tensor)
        opened.pop_all()
    skipped = tuple(name for name in entries if name not in wanted)
    names = {_published(name): name for name in wanted}
    era = ("TensorFlow 1 and 2, V2 checkpoints", f"data files: {count}")
    return Contents("openai-tf1", tensors, era=era, skipped=skipped, names=names, files=tuple(files))


def _published(name: str) -> str:
    """Returns `h.0.attn.c_attn.weight` for `model/h0/attn/c_attn/w`."""
    *path, last = name.removeprefix("model/").split("/")
    if not path:
        return f"{last}.weight"
    return re.sub(r"^h(\d+)", r"h.\1", ".".join(path)) + f".{_LEAVES[last]}"


def _without_first_axis(tensor: Tensor) -> Tensor:
    """Returns a Conv1D kernel (1, in, out) as (in, out)."""
    return tensor.reshaped(tensor.shape[1:]) if len(tensor.shape) == 3 and tensor.shape[0] == 1 else tensor
