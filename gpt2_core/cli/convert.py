"""gpt2 convert: any checkpoint that opens into a format that is written, with neither framework."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ..checkpoint import FORMATS, float_name
from ..convert import Report, convert
from .source import hub_options

_SHOWN = 6  # names spelled out


def add_to(commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("convert", help="write a checkpoint in another format", description=__doc__)
    parser.add_argument("source", metavar="SRC", help="a checkpoint folder or file, or a hub id")
    parser.add_argument("target", metavar="DST", type=Path, help="the folder to write")
    parser.add_argument("--revision", help="of a hub id: a branch, tag or commit")
    parser.add_argument("--n-head", type=int, metavar="H", help="of weights without a config, which do not tell it")
    parser.add_argument("--to", choices=list(FORMATS), default="safetensors", help="default: %(default)s")
    parser.add_argument("--dtype", help="float64, float32, bfloat16 or float16; default: as it is")
    parser.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="of one file; default: %(default)s")
    parser.add_argument("--force", action="store_true", help="replace a checkpoint that is there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options) -> int:
    """Writes the checkpoint and says what was done."""
    report = convert(
        options.source,
        options.target,
        options.to,
        dtype=options.dtype,
        max_shard_size=options.max_shard_size,
        force=options.force,
        progress=_show if sys.stderr.isatty() else None,
        **hub_options(options),
        **({} if options.n_head is None else {"n_head": options.n_head}),
    )
    if options.json:
        print(json.dumps({**report._asdict(), "target": str(report.target)}, indent=2))
    else:
        _print(report)
        what = f"values, as {float_name(options.dtype)}" if options.dtype else "bits"
        print(f"checked: {report.checked} tensors hold the source's {what}")
    return 0


def _show(what: str, number: int, total: int, name: str) -> None:
    """Shows how far it is on one line of the terminal, which the next one overwrites."""
    end = "\r" if number < total else "\r\033[K"
    print(f"\r\033[K{what} {number}/{total} {name}", end=end, file=sys.stderr, flush=True)


def _print(report: Report) -> None:
    print(f"{report.read} tensors ({report.head}) from {report.source_format} to {report.target}")
    if report.renamed:
        own, known = next(iter(report.renamed.items()))
        print(f"renamed: {len(report.renamed)}, as {own} to {known}")
    for what, names in (("transposed", report.transposed), ("skipped, as no weights", report.skipped)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            print(f"{what}: {len(names)}, {', '.join(names[:_SHOWN])}{more}")
    if report.tied:
        print("tied: lm_head.weight is wte.weight, which is written once")
