"""What the commands that take a checkpoint share."""

from __future__ import annotations

from .frameworks import FRAMEWORKS


def add_model(parser) -> None:
    """Adds which model to run, and how."""
    parser.add_argument(
        "model", metavar="MODEL", help="a folder with a checkpoint and tokenizer, a hub id, or 'shakespeare'"
    )
    parser.add_argument("--revision", help="of a hub id: a branch, tag or commit")
    parser.add_argument("--framework", choices=list(FRAMEWORKS), default="torch", help="default: %(default)s")
    parser.add_argument("--dtype", help="float64, float32, bfloat16, float16 or auto; default: float32 or wider")


def hub_options(options) -> dict[str, str]:
    """Returns the options of the hub that a command was given; a token comes from HF_TOKEN or a login."""
    return {"revision": options.revision} if options.revision else {}
