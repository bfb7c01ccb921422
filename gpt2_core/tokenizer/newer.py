"""Letters and digits that Unicode has gained since version 16.

Libraries know different versions of Unicode, and what one takes for a letter and another for a sign is split in another
way from what is around it. So that a text has the same ids everywhere, today and in ten years, a letter or a digit is
what was one in Unicode 16, which tiktoken 0.14 and tokenizers 0.23 know. Source: which characters those two split as
signs, and regex 2026.11 (Unicode 18) or gigatoken 0.10 (Unicode 17) as letters or digits.
"""

from __future__ import annotations

import functools

import numpy as np

RANGES = (
    (0x558, 0x558), (0x58B, 0x58C), (0x88F, 0x88F), (0xC5C, 0xC5C), (0xCDC, 0xCDC), (0x208F, 0x208F),
    (0x209D, 0x209F), (0xA7CE, 0xA7CF), (0xA7D2, 0xA7D2), (0xA7D4, 0xA7D4), (0xA7DD, 0xA7DD), (0xA7E2, 0xA7E2),
    (0xA7F1, 0xA7F1), (0xAB6C, 0xAB6D), (0x107BB, 0x107BF), (0x10940, 0x10959), (0x10EC5, 0x10EC7),
    (0x10ED9, 0x10EEE), (0x11B0A, 0x11B0A), (0x11DB0, 0x11DDB), (0x11DE0, 0x11DE9), (0x11DF1, 0x11DF1),
    (0x1246F, 0x1246F), (0x12475, 0x1247F), (0x12550, 0x12686), (0x16EA0, 0x16EB8), (0x16EBB, 0x16ED3),
    (0x16FF2, 0x16FF6), (0x187F8, 0x187FF), (0x18CD6, 0x18CDA), (0x18D09, 0x18D20), (0x18D80, 0x18DF2),
    (0x18E00, 0x19191), (0x191A0, 0x191D2), (0x1B123, 0x1B128), (0x1B168, 0x1B168), (0x1D6A6, 0x1D6A6),
    (0x1DF1F, 0x1DF24), (0x1DF2B, 0x1DF81), (0x1DF90, 0x1DF96), (0x1DFCD, 0x1DFFF), (0x1E6C0, 0x1E6DE),
    (0x1E6E0, 0x1E6E2), (0x1E6E4, 0x1E6E5), (0x1E6E7, 0x1E6ED), (0x1E6F0, 0x1E6F4), (0x1E6FE, 0x1E6FF),
    (0x2B73A, 0x2B73F), (0x2B81E, 0x2B81E), (0x2CEA2, 0x2CEAD), (0x323B0, 0x33479), (0x3D000, 0x3FC3F),
)  # fmt: skip
CHARACTERS = "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in RANGES) + "]"  # as a pattern has them
_FOUR_BYTES = sorted({chr(code).encode()[:1] for both in RANGES for code in both if code > 0xFFFF})


@functools.cache
def _table() -> np.ndarray:
    table = np.zeros(0x110000, bool)
    for first, last in RANGES:
        table[first : last + 1] = True
    return table


@functools.cache
def _by_first_byte() -> dict[bytes, list[str]]:
    """Such characters by their first byte in UTF-8; those of four bytes are too many to look for each."""
    found: dict[bytes, list[str]] = {}
    for first, last in RANGES:
        for character in map(chr, range(first, min(last, 0xFFFF) + 1)):
            found.setdefault(character.encode()[:1], []).append(character)
    return found


def in_text(text: str) -> bool:
    """Returns whether a text has such a character; for most texts their bytes tell, which is fast."""
    if text.isascii():
        return False
    data = text.encode("utf-8", "surrogatepass")
    for first, characters in _by_first_byte().items():
        if first in data and any(character in text for character in characters):
            return True
    if not any(first in data for first in _FOUR_BYTES):
        return False
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return bool(_table().take(codes).any())
