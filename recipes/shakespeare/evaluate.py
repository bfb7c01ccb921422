"""Bits per character of a saved model on the held-out works, and what simpler models reach.

python recipes/shakespeare/evaluate.py [folder] [--threads 2]
"""

from __future__ import annotations

import argparse
import collections
import gzip
import lzma
import math
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [path for path in (str(ROOT), str(Path(__file__).parent)) if path not in sys.path]

import data  # noqa: E402

from gpt2_torch import GPT2LMHeadModel, GPT2Tokenizer  # noqa: E402


def model_bits(model, tokenizer, texts: Iterable[str], batch: int = 32, autocast: bool = False) -> float:
    """Returns the model's bits per character on `texts`, every token of them counted once.

    Each text follows <|endoftext|>, which is context and is not counted. Windows of n_positions tokens advance by
    half: a token has at least half a window before it, or all there is since the start of its text.
    """
    was_training = model.training
    model.eval()
    bits, characters = 0.0, 0
    for text in texts:
        ids = [tokenizer.bos_token_id, *tokenizer.encode(text)]
        for windows, labels in _windows(ids, model.config.n_positions, batch):
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logits = model(windows, use_cache=False).logits  # (B, T, V)
            bits += F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="sum").item()
        characters += len(text)
    model.train(was_training)
    return bits / math.log(2) / characters


def _windows(ids: list[int], length: int, batch: int):
    """Yields (inputs, labels), both (B, length); a label of -100 does not count."""
    stride = max(length // 2, 1)
    rows = []
    for start in range(0, max(len(ids) - 1 - length, 0) + stride, stride):
        window, labels = ids[start : start + length], ids[start + 1 : start + length + 1]
        known = length - stride if start else 0  # counted in the window before
        labels = [-100] * known + labels[known:]
        rows.append((window + [0] * (length - len(window)), labels + [-100] * (length - len(labels))))
    for i in range(0, len(rows), batch):
        inputs, labels = zip(*rows[i : i + batch], strict=True)
        yield torch.tensor(inputs), torch.tensor(labels)


def unigram_bits(training: str, text: str) -> float:
    """Returns bits per character under the characters' frequencies in `training`, one added to each count."""
    counts = collections.Counter(training)
    alphabet = set(training) | set(text)
    total = len(training) + len(alphabet)
    return -sum(n * math.log2((counts[c] + 1) / total) for c, n in collections.Counter(text).items()) / len(text)


def compressed_bits(text: str, compress, known: str = "") -> float:
    """Returns bits per character of `text` compressed; with `known`, what it adds to the compressed size of that."""
    before = len(compress(known.encode())) if known else 0
    return 8 * (len(compress((known + text).encode())) - before) / len(text)


def baselines(training: str, text: str) -> dict[str, float]:
    """Returns name -> bits per character of models without a network."""
    return {
        "character unigram": unigram_bits(training, text),
        "gzip -9": compressed_bits(text, _gzip),
        "gzip -9, after the training text": compressed_bits(text, _gzip, training),
        "xz -9e": compressed_bits(text, _xz),
        "xz -9e, after the training text": compressed_bits(text, _xz, training),
    }


def _gzip(raw: bytes) -> bytes:
    return gzip.compress(raw, 9, mtime=0)


def _xz(raw: bytes) -> bytes:
    return lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bits per character on the held-out works.")
    default = ROOT / "gpt2_core" / "assets" / "shakespeare"
    parser.add_argument("folder", nargs="?", type=Path, default=default, help="the model's folder")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache" / "gpt2-shakespeare", help="where the download is kept"
    )
    parser.add_argument("--threads", type=int, help="torch threads")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    parts = data.split(data.read_texts(data.fetch(arguments.cache)), folio=False, validation=data.VALIDATION)
    model = GPT2LMHeadModel.from_pretrained(arguments.folder)
    tokenizer = GPT2Tokenizer.from_pretrained(arguments.folder)
    for name, text in parts.held_out.items():
        print(f"{model_bits(model, tokenizer, [text]):.4f}  {data.work(name)}, {len(text):,} characters")
    print(f"{model_bits(model, tokenizer, parts.held_out.values()):.4f}  held-out works together")
    for name, bits in baselines("".join(parts.train.values()), "".join(parts.held_out.values())).items():
        print(f"{bits:.4f}  {name}")


if __name__ == "__main__":
    main()
