"""gpt2 info: what a checkpoint is, without reading its values."""

from __future__ import annotations

import json
import math
from collections import Counter

from .. import checkpoint
from ..config import GPT2Config
from ..weights import published_name
from .source import hub_options
from .table import print_table


def add_to(commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("info", help="what a checkpoint holds", description=__doc__)
    parser.add_argument("source", metavar="SRC", help="a checkpoint folder or file, a hub id, or 'shakespeare'")
    parser.add_argument("--revision", help="of a hub id: a branch, tag or commit")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options) -> int:
    """Prints the facts; returns 1 if tensors are missing or left over, else 0."""
    with checkpoint.open(options.source, **hub_options(options)) as source:
        facts = describe(source)
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        print_facts(facts)
    return 1 if facts["missing"] or facts["unexpected"] else 0


def print_facts(facts: dict) -> None:
    """Prints one line a fact."""
    print_table([(name, _text(value)) for name, value in facts.items()])


def describe(source: checkpoint.Checkpoint) -> dict:
    """Returns what is known of an open checkpoint, as plain values."""
    tensors, config = source.tensors, source.config
    head = checkpoint.find_head(source)
    # what shapes tell is enough to know what is missing; any number of heads has the same weights
    told = config or GPT2Config.from_dict({**source.told, "n_head": 1})
    missing, unexpected = checkpoint.compare_names(source, head, told)
    return {
        "path": str(source.path),
        "format": source.format,
        "era": source.era,
        "files": {path.name: path.stat().st_size for path in source.files},
        "head": head,
        "tensors": len(tensors),
        "parameters": sum(math.prod(tensor.shape) for tensor in tensors.values()),
        "dtypes": dict(Counter(tensor.dtype for tensor in tensors.values())),
        "config": _shape_fields(told) | ({} if config else {"n_head": None}),
        "skipped": source.skipped,
        "missing": [published_name(name) for name in missing],
        "unexpected": unexpected,
    }


def _shape_fields(config) -> dict:
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "activation_function", "tie_word_embeddings")
    return {name: getattr(config, name) for name in names}


def _text(value) -> str:
    if value is None:
        return "unknown, as no config lies beside the file"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(value[:6]) + (f" and {len(value) - 6} more" if len(value) > 6 else "") if value else "none"
    return f"{value:,}" if type(value) is int else str(value)
