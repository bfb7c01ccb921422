"""The exceptions of the project."""

import difflib
from collections.abc import Iterable


class GPT2Error(ValueError):
    """Raised for everything that a user can mend: the message says what was got, what is allowed, what to do."""

    # Keras rewrites the words of an error that passes through a layer's call, unless it finds this mark on it
    _keras_call_info_injected = True


class MissingFrameworkError(GPT2Error, ImportError):
    """Raised on importing a tree whose framework is not installed."""


def missing_framework(package: str, framework: str, extra: str) -> MissingFrameworkError:
    """Returns the error that says how to install what `package` needs."""
    return MissingFrameworkError(
        f'{package} needs {framework}, not installed here: pip install "gpt2-duo[{extra}]" (in a clone ".[{extra}]")'
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns `" Did you mean 'n_embd'?"` for a misspelt name, or an empty string when nothing is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
