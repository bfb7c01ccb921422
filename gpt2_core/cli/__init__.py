"""The command `gpt2`: one file a subcommand."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence

from ..errors import GPT2Error, nearest
from ..version import VERSION
from . import convert, demo, generate, info, score, tokenize, verify

COMMANDS = (info, verify, convert, tokenize, generate, score, demo)


def with_hyphens(arguments: Iterable[str]) -> Iterator[str]:
    """Yields arguments with the options' names spelt as they are here; transformers' scripts have underscores.

    >>> list(with_hyphens(["--stop_token=a_b", "--", "--a_b"]))
    ['--stop-token=a_b', '--', '--a_b']
    """
    options = True
    for argument in arguments:
        options = options and argument != "--"
        name, equals, value = argument.partition("=")
        yield name.replace("_", "-") + equals + value if options and name.startswith("--") else argument


def _no_option(argument: str, command: argparse.ArgumentParser) -> GPT2Error:
    name = argument.partition("=")[0]
    if not name.startswith("-"):
        return GPT2Error(f"{argument!r} is one argument too many, see {command.prog} --help")
    return GPT2Error(f"no option {name}, see {command.prog} --help.{nearest(name, command._option_string_actions)}")


def _note(message: Warning | str, *_where: object, **_line: object) -> None:
    print(f"note: {message}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code of one command: 0, 1 where a comparison failed, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="gpt2", description="One GPT-2 in PyTorch and in Keras 3.")
    parser.add_argument("--version", action="version", version=f"gpt2-duo {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_to(commands)
    given = list(with_hyphens(sys.argv[1:] if arguments is None else arguments))
    command: argparse.ArgumentParser | None = commands.choices.get(given[0]) if given else None
    if command is None:
        parser.parse_args(given)  # help, the version, or what is wrong
        return 0
    options, unknown = command.parse_known_intermixed_args(given[1:])  # an option may stand between two arguments
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character of the text shows "?"
    try:
        if unknown:
            raise _no_option(unknown[0], command)
        with warnings.catch_warnings():
            warnings.showwarning = _note
            return options.run(options) or 0
    except GPT2Error as error:
        print(f"gpt2: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
