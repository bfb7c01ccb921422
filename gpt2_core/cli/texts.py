"""What the commands that take text share: files, standard input, tokenizers."""

from __future__ import annotations

import codecs
import contextlib
import importlib.util
import io
import sys
from collections.abc import Iterator
from typing import TextIO

from ..errors import GPT2Error
from ..tokenizer import GPT2Tokenizer, GPT2TokenizerFast


@contextlib.contextmanager
def opened(name: str, errors: str = "strict") -> Iterator[TextIO]:
    """Opens a UTF-8 text, "-" for standard input; its line breaks stay as they are."""
    try:
        codecs.lookup_error(errors)
        number = sys.stdin.fileno() if name == "-" else name
        file = open(number, encoding="utf-8", errors=errors, newline="", closefd=name != "-")  # noqa: SIM115
    except LookupError:
        raise GPT2Error(f"--errors {errors}: it must be strict, replace, ignore or another of Python's") from None
    except OSError as error:
        raise GPT2Error(f"{name} cannot be read: {error.strerror}") from error
    try:
        with file:
            yield file
    except UnicodeDecodeError as error:
        raise GPT2Error(f"{name} is no UTF-8 text ({error}): --errors replace takes it nevertheless") from None


def add_text_options(parser) -> None:
    """Adds where a text comes from."""
    parser.add_argument("--file", metavar="FILE", help="a UTF-8 text, '-' for standard input")
    parser.add_argument("--errors", default="strict", help="what bytes that are no UTF-8 become; default: %(default)s")


def text_of(options, given: str | None) -> str:
    """Returns the text of a command: as it was given, or of --file or standard input, less the line end at its end."""
    with lines_of(options, given) as lines:
        text = "".join(lines)
    return text if given is not None else without_line_end(text)


def without_line_end(text: str) -> str:
    """Returns a text less one line end at its end.

    >>> without_line_end("a\\n\\r\\n")
    'a\\n'
    """
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\r\n") else text.removesuffix("\n")


@contextlib.contextmanager
def lines_of(options, given: str | None) -> Iterator[TextIO]:
    """Opens the text of a command; its lines end as they do in it."""
    if given is not None and options.file is not None:
        raise GPT2Error("the text is given, and --file too: which of them?")
    if given is not None:
        yield io.StringIO(given, newline="")
    elif options.file is None and sys.stdin.isatty():
        raise GPT2Error("no text was given: write it on the command line, name a --file, or pipe it in")
    else:
        with opened(options.file or "-", options.errors) as file:
            yield file


def tokenizer_of(name: str, **hub: str) -> GPT2Tokenizer:
    """Returns a model's tokenizer, the fast one where its engine is installed."""
    compiled = importlib.util.find_spec("gigatoken") is not None
    return (GPT2TokenizerFast if compiled else GPT2Tokenizer).from_pretrained(name, **hub)
