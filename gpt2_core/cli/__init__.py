"""The command `gpt2`: one file a subcommand."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..errors import GPT2Error
from ..version import VERSION
from . import convert, demo, generate, info, tokenize, verify

COMMANDS = (info, verify, convert, tokenize, generate, demo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code of one command: 0, 1 where a comparison failed, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="gpt2", description="One GPT-2 in PyTorch and in Keras 3.")
    parser.add_argument("--version", action="version", version=f"gpt2-duo {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    options = parser.parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character of the text shows "?"
    try:
        return options.run(options) or 0
    except GPT2Error as error:
        print(f"gpt2: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
