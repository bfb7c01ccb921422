"""gpt2 verify: do both frameworks compute the same; do two checkpoints hold the same weights, or compute the same?"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from .. import checkpoint, parity
from ..config import GPT2Config
from ..errors import GPT2Error
from ..plain import check_seed
from ..weights import ARCHITECTURES
from .frameworks import FRAMEWORKS, outputs, require_both
from .table import print_table

DTYPES = ("float64", "float32")


def add_to(commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("verify", help="compare both frameworks, or two checkpoints", description=__doc__)
    parser.add_argument("a", metavar="A", help="a checkpoint folder or file, or 'shakespeare'")
    parser.add_argument(
        "b", metavar="B", nargs="?", help="compare A's weights with B's, bit for bit, without a framework"
    )
    parser.add_argument("--framework", choices=list(FRAMEWORKS), help="compare the outputs of A and B in this one")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options) -> int:
    """Prints the table; returns 1 where a difference passes the tolerance, else 0."""
    if options.b is not None and options.framework is None:
        return _run_weights(options)
    if options.b is not None:
        sides = [(options.framework, options.a), (options.framework, options.b)]
        title = f"Largest difference between {options.a} and {options.b} in {FRAMEWORKS[options.framework].title}:"
    elif options.framework is not None:
        raise GPT2Error("--framework is for two checkpoints: one is run through both frameworks")
    else:
        require_both()
        sides = [("torch", options.a), ("tf", options.a)]
        title = f"Largest difference between PyTorch and Keras, {options.a}:"
    found = compare_outputs(sides, options.seed)
    if options.json:
        print(json.dumps({dtype: [_as_json(d) for d in rows] for dtype, rows in found.items()}, indent=2))
    else:
        print(title)
        print_outputs(found)
    return 0 if all_within(found) else 1


def all_within(found: dict[str, list[parity.Difference]]) -> bool:
    """Returns whether every difference lies within the tolerance of its type."""
    return all(d.within(parity.TOLERANCE[dtype]) for dtype, rows in found.items() for d in rows)


def compare_outputs(sides: Sequence[tuple[str, str]], seed: int) -> dict[str, list[parity.Difference]]:
    """Returns, for each type, the worst Difference of each output field between two (framework, checkpoint)."""
    return {dtype: _compare_in(sides, dtype, seed) for dtype in DTYPES}


def _compare_in(sides: Sequence[tuple[str, str]], dtype: str, seed: int) -> list[parity.Difference]:
    heads: dict[str, str] = {}
    inputs: dict[str, np.ndarray] = {}
    for source in dict.fromkeys(source for _, source in sides):
        with checkpoint.open(source) as opened:
            head = checkpoint.find_head(opened)
            heads[source] = head = "lm_head" if head == "model" else head  # a trunk alone is a tied language model
            checkpoint.match(opened, head, dtype)  # says what is wrong before a framework is asked
            inputs = inputs or example_inputs(opened.require_config(), head, seed)
    if len(set(heads.values())) > 1:
        kinds = ", ".join(f"{source} a {ARCHITECTURES[head]}" for source, head in heads.items())
        raise GPT2Error(f"their outputs cannot be compared: {kinds}. Without --framework their weights are")
    reference, other = (outputs(framework, source, head, dtype, inputs) for framework, source in sides)
    return parity.worst_by_field(parity.compare(other, reference))


def example_inputs(config: GPT2Config, head: str, seed: int) -> dict[str, np.ndarray]:
    """Returns three rows of random ids, padded right, left and not at all, with labels; as choices for double heads."""
    length = min(48, config.n_positions)
    generator = np.random.Generator(np.random.Philox(check_seed(seed)))
    ids = generator.integers(0, config.vocab_size, (3, length))
    mask = np.ones_like(ids)
    mask[0, length - length // 4 :] = 0
    mask[1, : length // 3] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if head in ("lm_head", "double_heads") and length > 1:  # one token predicts nothing
        inputs["labels"] = np.where(mask == 1, ids, -100)
    if head == "token_classification":
        inputs["labels"] = np.where(mask == 1, ids % config.num_labels, -100)
    if head == "question_answering":
        inputs |= {"start_positions": np.array([0, length - 1, 1]), "end_positions": np.array([1, length - 1, 2])}
    if head == "double_heads":  # three texts to choose from
        inputs = {name: x[None] for name, x in inputs.items()}
    return inputs


def print_outputs(found: dict[str, list[parity.Difference]]) -> None:
    """Prints one row an output field, the differences of each dtype beside each other."""
    rows = []
    for same_field in zip(*found.values(), strict=True):
        row = [same_field[0].name, f"{same_field[0].largest:.4g}"]
        for d, dtype in zip(same_field, found, strict=True):
            row += [f"{d.absolute:.2e}", f"{d.relative:.2e}", "ok" if d.within(parity.TOLERANCE[dtype]) else "TOO FAR"]
        rows.append(row)
    heading = ["output", "largest value"]
    for dtype in found:
        heading += [dtype, "relative", f"<= {parity.TOLERANCE[dtype]:g}"]
    print_table(rows, heading)


def _run_weights(options) -> int:
    with checkpoint.open(options.a) as a, checkpoint.open(options.b) as b:
        unequal = unequal_weights(a, b)
        total = len({*a, *b})
    if options.json:
        print(json.dumps({"tensors": total, "unequal": [_as_json(d) for d in unequal]}, indent=2))
    else:
        print(f"{total - len(unequal)} of {total} tensors are equal bit for bit")
        if unequal:
            print_table(
                [(d.name, d.shape, f"{d.absolute:.2e}", d.note) for d in unequal],
                ("tensor", "shape", "largest difference", ""),
            )
    return 1 if unequal else 0


def unequal_weights(a: checkpoint.Checkpoint, b: checkpoint.Checkpoint) -> list[parity.Difference]:
    """Returns a Difference for every tensor whose type, shape or bits are not the same, one in memory at a time."""
    unequal = []
    for name in dict.fromkeys([*a, *b]):
        ours, theirs = (_tensor(source, name) for source in (a, b))
        if ours and theirs and ours.same_bits(theirs):
            continue
        (found,) = parity.compare(*({name: t.array()} if t else {} for t in (ours, theirs)))
        if ours and theirs and ours.dtype != theirs.dtype:
            found = found._replace(note=f"{ours.dtype} and {theirs.dtype} {found.note}".strip())
        unequal.append(found)
    return unequal


def _tensor(source: checkpoint.Checkpoint, name: str) -> checkpoint.Tensor | None:
    """Returns a tensor by its name; a tied head is the word table, whether or not the file repeats it."""
    tied = source.config is None or source.config.tie_word_embeddings
    return source.tensors.get(name) or (source.tensors.get("wte.weight") if tied and name == "lm_head.weight" else None)


def _as_json(d: parity.Difference) -> dict:
    return {"name": d.name, "shape": list(d.shape), "absolute": d.absolute, "relative": d.relative, "note": d.note}
