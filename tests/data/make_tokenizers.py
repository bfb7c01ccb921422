"""Writes tests/data/tokenizers: folders that transformers' tokenizers saved, each with the ids that it gives to texts.

Run with transformers 4.28, 4.57 and 5.23, each in an environment of its own, from this folder:
python make_tokenizers.py NAME
"""

import json
import sys
from pathlib import Path

import transformers
from transformers import AddedToken

HERE = Path(__file__).parent / "tokenizers"
MERGES = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("Ġ", "d"), ("o", "g"), ("e", "n"), ("Ã", "©")]
TEXTS = [
    "The dog <mark>!<pad> plain<x> né<|endoftext|> end",
    " two",
    "the  <mark>dog\n\nplainly",
    "<x>",
    "",
    "dog<mark>the<pad>plain<x>né<|endoftext|>end",
]
END = "<|endoftext|>"


def byte_symbols():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [symbols[byte] for byte in range(256)]


def write_vocabulary(folder):
    tokens = [*byte_symbols(), *(first + second for first, second in MERGES), END]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES))


def main(name):
    source = HERE / "source"
    write_vocabulary(source)
    kinds = {"fast": transformers.GPT2TokenizerFast}
    if transformers.__version__ < "5":
        kinds["slow"] = transformers.GPT2Tokenizer
    for speed, kind in kinds.items():
        tokenizer = kind.from_pretrained(source)
        tokenizer.add_tokens([AddedToken("<mark>", lstrip=True), "plain"])
        tokenizer.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<x>"]})
        folder = HERE / f"{name}_{speed}"
        tokenizer.save_pretrained(folder)
        ids = {text: kind.from_pretrained(folder).encode(text) for text in TEXTS}
        (folder / "ids.json").write_text(json.dumps(ids, indent=1) + "\n")
    for file in source.iterdir():
        file.unlink()
    source.rmdir()


if __name__ == "__main__":
    main(sys.argv[1])
