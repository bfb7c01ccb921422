"""Prints how fast gpt2_torch and gpt2_tf generate on a CPU, next to their peers, and what the machine could do.

python tests/bench/speed.py [--rounds 3] [--only NAME ...] [--json FILE]

A GPT-2 of 124M random weights, greedy. Each contender runs in a process of its own, on two threads; they take turns
within a round, medians are printed with half their spread. All in float32 must give the same tokens.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.bench.contenders import CONTENDERS  # noqa: E402

# name, rows, tokens of each prompt, new tokens; what decoding takes is told by the difference of two
JOBS = [
    ("one, begun", 1, 32, 2),
    ("one", 1, 32, 66),
    ("prefill 128", 1, 128, 1),
    ("prefill 512", 1, 512, 1),
    ("prefill 1023", 1, 1023, 1),
    ("eight, begun", 8, 32, 2),
    ("eight", 8, 32, 34),
]

LIMITS = """
import json, time, torch
torch.set_num_threads(2)
def best(run):
    return min(run() for _ in range(5))
def timed(run):
    start = time.perf_counter(); run(); return time.perf_counter() - start
x = torch.ones(2**28)
found = {"GB/s": 4 * len(x) / best(lambda: timed(x.sum)) / 1e9}
for dtype in (torch.float32, torch.bfloat16):
    a, b = torch.ones(512, 768, dtype=dtype), torch.ones(3072, 768, dtype=dtype)
    flops = 2 * 512 * 768 * 3072 * 10
    seconds = best(lambda: timed(lambda: [torch.nn.functional.linear(a, b) for _ in range(10)]))
    found[f"GFLOP/s {str(dtype)[6:]}"] = flops / seconds / 1e9
print(json.dumps(found))
"""


def make(folder):
    """Writes the model as each contender reads it."""
    import gpt2_torch
    from gpt2_core import GPT2Config, GPT2Tokenizer

    gpt2_torch.GPT2LMHeadModel(GPT2Config(), seed=0).save_pretrained(folder)
    GPT2Tokenizer.from_pretrained("gpt2").save_pretrained(folder)
    converter = Path(sys.executable).parent / "ct2-transformers-converter"
    command = [converter, "--model", folder, "--output_dir", Path(folder) / "ctranslate2"]
    subprocess.run(command, check=True, capture_output=True)


def child(*arguments):
    """Returns what a process prints as JSON on its last line; None, and why, where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        print(f"{arguments[1]}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def figures(run):
    """Returns the figures of one run of a contender."""
    found = {"load s": run["load"], "peak MB": run["peak MB"], "first call s": run["one, begun"]["first"]}
    for name, tokens in (("one", 64), ("eight", 8 * 32)):
        found[f"decode {name}, tok/s"] = tokens / (run[name]["seconds"] - run[f"{name}, begun"]["seconds"])
    return found | {f"{name}, ms": 1000 * run[name]["seconds"] for name in run if name.startswith("prefill")}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs, limits = {name: [] for name in options.only}, []
    with tempfile.TemporaryDirectory() as folder:
        make(folder)
        for number in range(options.rounds):
            limits.append(child("-c", LIMITS))
            for name in list(runs):
                print(f"\r\033[Kround {number + 1} of {options.rounds}: {name}", end="", file=sys.stderr, flush=True)
                run = child(str(ROOT / "tests/bench/contenders.py"), name, folder, json.dumps(JOBS))
                if run is None:
                    del runs[name]
                else:
                    runs[name].append(run)
    print("\r\033[K", end="", file=sys.stderr)
    exact = [run for name, found in runs.items() if "fp32" in name for run in found]
    texts = {json.dumps([run[job[0]]["tokens"] for job in JOBS]) for run in exact}
    assert len(texts) <= 1, "contenders in float32 gave other tokens"
    report({name: [figures(run) for run in found] for name, found in runs.items()}, limits)
    if options.json:
        options.json.write_text(json.dumps({"runs": runs, "limits": limits}), encoding="utf-8")


def report(found, limits):
    """Prints a table of medians, half the spread in brackets."""
    print("The machine: " + ", ".join(f"{statistics.median(x[key] for x in limits):.0f} {key}" for key in limits[0]))
    names = list(next(iter(found.values()))[0])
    print("| |", " | ".join(names), "|")
    print("|---" * (len(names) + 1) + "|")
    for name, runs in found.items():
        cells = []
        for key in names:
            values = [run[key] for run in runs]
            spread = 50 * (max(values) - min(values)) / statistics.median(values)
            cells.append(f"{statistics.median(values):.3g} (±{spread:.0f} %)")
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
