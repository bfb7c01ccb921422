"""Files replaced as a whole: an interrupted save leaves either what was there before or all of the new.

New files are written beside the old ones under temporary names. A journal that lists them, put in place by one rename,
is the moment from which the new ones count; renaming them afterwards can be finished by whoever comes next.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from pathlib import Path

from .errors import GPT2Error

JOURNAL = ".replacing.json"
_TEMPORARY = re.compile(r"\.[^/\\]+\.[0-9a-f]{8}\.tmp")
_PLAIN = re.compile(r"[^/\\]+")
_REMOVABLE = re.compile(r"(tf_|pytorch_)?model[-.][^/\\]+")  # checkpoint files: a journal may have nothing else deleted
_INTERVAL = 0.02  # seconds between two flushes of what is being written
_ABANDONED = 3600  # seconds after which a temporary file that nobody writes to is the rest of a killed save


class Replacement:
    """New files for a folder, written beside the old ones and put in their place together at the end.

    `path(name)` gives the temporary path to write `name` to. Leaving the `with` block flushes every file to the
    disk and puts it in place; an error before that removes the new files and leaves the old ones whole.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        self._new: dict[str, Path] = {}
        self._old: list[str] = []
        self._flusher = _Flusher()

    def path(self, name: str) -> Path:
        """Returns where to write the file that will be called `name`."""
        self._flusher.path = self._new[name] = self.folder / _temporary(name)
        return self._new[name]

    def remove(self, name: str) -> None:
        """Has the old file `name` deleted once the new ones are in place, unless it is one of them."""
        self._old.append(name)

    def __enter__(self) -> Replacement:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            settle(self.folder)
            _clear(self.folder)
        except OSError as error:
            raise GPT2Error(
                f"cannot save into {self.folder}: {error.strerror}. Give a folder that can be made or written to"
            ) from error
        self._flusher.start()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self._flusher.stop()
        try:
            if kind is None:
                if self._flusher.failure is not None:
                    raise self._flusher.failure
                self._commit()
        except OSError as failure:
            raise GPT2Error(self._failed(failure)) from failure
        finally:
            if not (self.folder / JOURNAL).exists():
                for path in self._new.values():
                    with contextlib.suppress(OSError):
                        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise GPT2Error(self._failed(error)) from error

    def _commit(self) -> None:
        for path in self._new.values():
            _flush(path)
        entry = {
            "rename": {name: path.name for name, path in self._new.items()},
            "remove": [name for name in self._old if name not in self._new],
        }
        # another process that finishes an older save may take this journal for that one's: then it is placed again
        while any(path.exists() for path in self._new.values()):
            self._decide(json.dumps(entry))
            settle(self.folder)

    def _decide(self, entry: str) -> None:
        """Puts the journal in place: from this rename on, the new files count."""
        journal = self.folder / _temporary(JOURNAL)
        try:
            journal.write_text(entry, encoding="utf-8")
            _flush(journal)
            _flush_folder(self.folder)
            os.replace(journal, self.folder / JOURNAL)
        finally:
            journal.unlink(missing_ok=True)
        _flush_folder(self.folder)

    def _failed(self, error: OSError) -> str:
        decided = (self.folder / JOURNAL).exists()
        state = "The new files are put in place when it is next opened" if decided else "What was there is unchanged"
        return f"saving into {self.folder} failed: {error.strerror or error}. {state}"


class _Flusher(threading.Thread):
    """Has the disk write a file while it is being made: flushed at the end alone, a save would take twice as long.

    The system tells of a failure once, and perhaps to this thread: it is kept.
    """

    def __init__(self) -> None:
        super().__init__(name="flusher", daemon=True)
        self.path: Path | None = None
        self.failure: OSError | None = None
        self._over = threading.Event()

    def run(self) -> None:
        """Flushes `path` again and again, whichever it is by then."""
        while not self._over.wait(_INTERVAL):
            try:
                if self.path is not None:
                    _flush(self.path)
            except (FileNotFoundError, PermissionError):  # not there yet, or closed to others (Windows)
                pass
            except OSError as error:
                self.failure = error

    def stop(self) -> None:
        """Returns once nothing is being flushed any more."""
        self._over.set()
        self.join()


def settle(folder: Path) -> None:
    """Finishes a replacement that was decided and then interrupted; does nothing where there is none.

    Two processes may do so at once: each rename succeeds for one of them.
    """
    journal = folder / JOURNAL
    if not journal.exists():
        return
    try:
        _finish(folder, journal)
    except OSError as error:
        raise GPT2Error(
            f"{folder} holds a save that was interrupted, and finishing it failed: {error.strerror or error}. "
            "Make the folder writable"
        ) from error


def _finish(folder: Path, journal: Path) -> None:
    try:
        text = journal.read_text(encoding="utf-8")
        entry = json.loads(text)
    except FileNotFoundError:
        return
    except ValueError:
        raise GPT2Error(f"{journal} is damaged: it should list the files of an unfinished save") from None
    _check(journal, entry)
    for name, temporary in entry["rename"].items():
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder / temporary, folder / name)
    for name in entry["remove"]:
        (folder / name).unlink(missing_ok=True)
    _flush_folder(folder)
    with contextlib.suppress(FileNotFoundError):
        if journal.read_text(encoding="utf-8") == text:  # and not already the next save's
            journal.unlink()


def _clear(folder: Path) -> None:
    """Deletes what killed saves have left: temporary files that nobody has written to for an hour."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if _TEMPORARY.fullmatch(path.name) and time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def _check(journal: Path, entry: object) -> None:
    """Refuses a journal that no save wrote: one that reaches outside its folder, or for files that are not ours."""
    try:
        sound = all(_PLAIN.fullmatch(name) and name not in (".", "..") for name in entry["rename"])  # type: ignore[index]
        sound = sound and all(_REMOVABLE.fullmatch(name) for name in entry["remove"])  # type: ignore[index]
        sound = sound and all(_TEMPORARY.fullmatch(name) for name in entry["rename"].values())  # type: ignore[index]
    except (TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        raise GPT2Error(f"{journal} is not the journal of a save: delete it")


def _temporary(name: str) -> str:
    return f".{name}.{os.urandom(4).hex()}.tmp"


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Makes renames durable, where the system lets a folder be opened (Windows does not)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
