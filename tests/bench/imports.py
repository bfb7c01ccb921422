"""Prints how long importing takes once the framework is there: seconds, medians of processes that take turns.

python tests/bench/imports.py [--rounds 7], with the extra `bench`, which has the peers

Each import is a process of its own, which first imports what comes before; all take turns within a round, after one
that is not counted and leaves the files in memory and their bytecode written, into a folder of the benchmark's own:
where none may be written, a package from a checkout is compiled at each import, and one that pip installed is not.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORTS = (
    ("import numpy", "from gpt2_core import GPT2Config"),
    ("import torch", "from gpt2_torch import GPT2LMHeadModel"),
    ("import torch", "from transformers import GPT2LMHeadModel"),
    ("import keras", "from gpt2_tf import TFGPT2LMHeadModel"),
    ("import keras", "from keras_hub.models import GPT2CausalLM"),
)


def seconds(before: str, after: str, bytecode: str) -> tuple[float, float]:
    """Returns what the first import and then the second took in a new process, each in seconds."""
    code = f"from time import perf_counter as now; a = now()\n{before}; b = now()\n{after}; print(b - a, now() - b)"
    writes = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**writes, "PYTHONPYCACHEPREFIX": bytecode, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
        capture_output=True,  # TensorFlow tells of the GPUs that it did not find
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    first, second = map(float, done.stdout.split())
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        found = [[seconds(*pair, folder) for pair in IMPORTS] for _ in range(rounds + 1)][1:]
    print("| after | that takes, s | import | takes, s | least | most |\n|---|---|---|---|---|---|")
    for (before, after), times in zip(IMPORTS, zip(*found, strict=True), strict=True):
        first, second = zip(*times, strict=True)
        low, middle, high = min(second), statistics.median(second), max(second)
        print(f"| `{before}` | {statistics.median(first):.2f} | `{after}` | {middle:.2f} | {low:.2f} | {high:.2f} |")


if __name__ == "__main__":
    main()
