"""Files replaced as a whole: an interrupted save leaves what was there before."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from .errors import GPT2Error


class Replacement:
    """New files for a folder, written beside the old ones and put in their place together at the end.

    `path(name)` gives the temporary path to write `name` to. Leaving the `with` block flushes every file to the
    disk and renames it; an error before that removes the new files and leaves the old ones whole.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._new: dict[str, Path] = {}
        self._old: list[str] = []

    def path(self, name: str) -> Path:
        """Returns where to write the file that will be called `name`."""
        self._new[name] = self.folder / f".{name}.{secrets.token_hex(4)}.tmp"
        return self._new[name]

    def remove(self, name: str) -> None:
        """Has the old file `name` deleted once the new ones are in place, unless it is one of them."""
        self._old.append(name)

    def __enter__(self) -> Replacement:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GPT2Error(
                f"cannot save into {self.folder}: {error.strerror}. Give a folder that can be made or written to"
            ) from error
        return self

    def __exit__(self, kind, error, traceback) -> None:
        try:
            if kind is None:
                self._commit()
        except OSError as failure:
            raise GPT2Error(self._failed(failure)) from failure
        finally:
            for path in self._new.values():
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise GPT2Error(self._failed(error)) from error

    def _commit(self) -> None:
        for path in self._new.values():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        for name, path in self._new.items():
            os.replace(path, self.folder / name)
        for name in self._old:
            if name not in self._new:
                (self.folder / name).unlink(missing_ok=True)
        _flush_folder(self.folder)

    def _failed(self, error: OSError) -> str:
        return f"saving into {self.folder} failed: {error.strerror or error}. What was there before is unchanged"


def _flush_folder(folder: Path) -> None:
    """Makes the renames durable, where the system lets a folder be opened (Windows does not)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
