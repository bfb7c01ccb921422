"""gpt2 convert: any checkpoint that opens into a format that is written, with neither framework."""

from __future__ import annotations

from pathlib import Path

from ..checkpoint import FORMATS
from ..convert import convert


def add_to(commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("convert", help="write a checkpoint in another format", description=__doc__)
    parser.add_argument("source", metavar="SRC", help="a checkpoint folder or file")
    parser.add_argument("target", metavar="DST", type=Path, help="the folder to write")
    parser.add_argument("--to", choices=list(FORMATS), default="safetensors", help="default: %(default)s")
    parser.add_argument("--dtype", help="float64, float32, bfloat16 or float16; default: as it is")
    parser.add_argument("--force", action="store_true", help="replace a checkpoint that is there")
    parser.set_defaults(run=run)


def run(options) -> int:
    """Writes the checkpoint and says what was done."""
    report = convert(options.source, options.target, options.to, dtype=options.dtype, force=options.force)
    print(f"{report.read} tensors ({report.head}) from {report.source_format} to {report.target}")
    if report.skipped:
        print(f"left out, because they are masks and no weights: {', '.join(report.skipped)}")
    return 0
