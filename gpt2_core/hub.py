"""Files of models on the Hugging Face hub: through huggingface_hub, its cache, its token and its offline mode."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import GPT2Error

# What says which version of a hub's model, and how to get it; as in huggingface_hub
OPTIONS = ("revision", "token", "cache_dir", "local_files_only")
# The names under which GPT-2 was first published
SHORT = {name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")}
SHORT["distilgpt2"] = "distilbert/distilgpt2"
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Repository:
    """A model on the hub whose files are fetched one by one, each when it is asked for and not in the cache."""

    def __init__(self, name: str, options: Mapping[str, Any]):
        self.name = name
        self._options = dict(options)
        self._unreached = False  # the hub did not answer, or is not to be asked

    def file(self, name: str) -> Path | None:
        """Returns the path of a file in the cache; None where the model, or offline the cache, has none of the name."""
        try:
            from huggingface_hub import errors, hf_hub_download
        except ImportError:
            raise GPT2Error(
                f'no file or folder {self.name!r}; to take the hub\'s model of that name: pip install "gpt2-duo[hub]"'
            ) from None
        try:
            return Path(hf_hub_download(self.name, name, **self._options))
        except errors.LocalEntryNotFoundError:
            self._unreached = True
            self._options["local_files_only"] = True  # the next file need not wait for an answer again
        except errors.EntryNotFoundError:
            pass
        except (OSError, ValueError) as error:
            raise GPT2Error(f"no file or folder {self.name!r}, and from the hub: {_reason(error)}") from None
        return None

    def first(self, names: Iterable[str]) -> Path | None:
        """Returns the path of the first of these files that there is."""
        return next((path for path in map(self.file, names) if path is not None), None)

    def lacks(self, what: str, names: Sequence[str] = ()) -> GPT2Error:
        """Returns the error for what is not there, which could have had any of these names."""
        if self._unreached:
            return GPT2Error(
                f"no file or folder {self.name!r}, and the cache holds no {what} of the hub's model: the hub was not "
                "reached, or is not to be asked (local_files_only, HF_HUB_OFFLINE). Go online once"
            )
        looked = f": looked for {', '.join(names)}" if names else ""
        return GPT2Error(f"the hub's model {self.name!r} has no {what}{looked}")


def repository(source: str | Path, options: Mapping[str, Any]) -> Repository | None:
    """Returns the hub's model of a name, None where a file or folder is called that or no model could be.

    >>> repository("gpt2-xl", {}).name
    'openai-community/gpt2-xl'
    """
    name = SHORT.get(str(source), str(source))
    return Repository(name, options) if _ID.fullmatch(name) and not Path(source).expanduser().exists() else None


def split_options(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the hub's options among some keyword arguments, and the others."""
    options = {name: value for name, value in settings.items() if name in OPTIONS}
    return options, {name: value for name, value in settings.items() if name not in OPTIONS}


def _reason(error: Exception) -> str:
    """Returns the first sentence of an error of huggingface_hub's, which gives its way out in many lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}" if lines else type(error).__name__
