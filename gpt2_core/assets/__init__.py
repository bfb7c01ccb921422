"""Data that ships with the package: GPT-2's vocabulary, and a small GPT-2 trained on Shakespeare."""

from pathlib import Path

GPT2_VOCABULARY = Path(__file__).parent / "gpt2"
SHAKESPEARE = Path(__file__).parent / "shakespeare"
