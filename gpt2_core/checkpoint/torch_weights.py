"""Which of the things that torch.save wrote are the weights: a state_dict, one within a training's record, a module."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import GPT2Error
from .contents import Contents
from .pickles import Call, Global
from .tensor import Tensor, TensorFile
from .torch_file import TorchFile

_WORD_TABLE = "wte.weight"  # every GPT-2 has it, behind prefixes that vary
_MAX_DEPTH = 16  # of modules in modules; a wrapped GPT-2 needs about eight
_MAX_MODULES = 10_000  # XL has about 700


def read_torch(file: TensorFile) -> Contents:
    """Returns the tensors of the first state_dict of a GPT-2 in an open file of torch.save."""
    saved = TorchFile(file)
    tensors: dict[str, Tensor] = {}
    skipped: list[str] = []
    found, beside = _find(file, saved)
    for name, value in found.items():
        tensor = saved.tensor(name, value)
        if tensor is None:
            skipped.append(name)
        else:
            tensors[name] = tensor
    if saved.unused:
        raise file.damaged(f"no tensor uses {saved.unused[0]}, and torch saves no numbers without one")
    return Contents("torch", tensors, _fields(beside.get("model_args")), saved.era, (*skipped, *beside))


def _fields(arguments: object) -> dict | None:
    """Returns nanoGPT's model_args; what is no number, name or None is left out, as it could be of any depth."""
    if not isinstance(arguments, dict):
        return None
    return {key: x for key, x in arguments.items() if isinstance(key, str) and isinstance(x, str | int | float | None)}


def _find(file: TensorFile, saved: TorchFile) -> tuple[dict, dict]:
    """Returns the names and values of the weights, and what was saved beside them."""
    value = saved.value
    parts = value if isinstance(value, dict) else {}
    each = {id(part): part for part in (value, *parts.values())}
    candidates = [(_named_values(part), part) for part in each.values()]
    for names, part in candidates:
        if any(name.endswith(_WORD_TABLE) for name in names):
            return names, _beside(parts, part)
    for names, part in candidates:  # a shard without it
        if any(saved.tensor(name, x) is not None for name, x in names.items()):
            return names, _beside(parts, part)
    called = value.function if isinstance(value, Call) else None
    what = str(called) if isinstance(called, Global) else type(value).__name__
    raise GPT2Error(f"{file.path} holds no state_dict of tensors, but a {what}: torch.save(model.state_dict(), file)")


def _beside(parts: dict, found: object) -> dict:
    """Returns the parts of a record other than the weights that were found; none where these are all of it."""
    inside = any(part is found for part in parts.values())
    return {str(key): part for key, part in parts.items() if part is not found} if inside else {}


def _named_values(place: object) -> dict:
    """Returns the entries of a state_dict, or of a module that was saved whole, as its state_dict would name them."""
    if isinstance(place, dict):
        return {name: value for name, value in place.items() if isinstance(name, str)}
    return dict(_of_module(place, "", set())) if isinstance(place, Call) else {}


def _of_module(module: Call, prefix: str, seen: set[int]) -> Iterator[tuple[str, object]]:
    """Yields what a pickled torch.nn.Module names, each module once."""
    if id(module) in seen or len(seen) > _MAX_MODULES:
        return
    seen.add(id(module))
    for kind in ("_parameters", "_buffers"):
        for name, value in _entries(module, kind):
            if value is not None:
                yield f"{prefix}{name}", value
    for name, child in _entries(module, "_modules"):
        if isinstance(child, Call) and prefix.count(".") < _MAX_DEPTH:
            yield from _of_module(child, f"{prefix}{name}.", seen)


def _entries(module: Call, kind: str) -> list[tuple[object, object]]:
    entries = module.state.get(kind) if isinstance(module.state, dict) else None
    return list(entries.items()) if isinstance(entries, dict) else []
