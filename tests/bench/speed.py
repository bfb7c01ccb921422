"""Measures how fast gpt2_torch and gpt2_tf write and learn on a CPU, next to their peers and to the machine's limits.

python tests/bench/speed.py [--rounds 3] [--only NAME ...] [--brief] [--write] [--json FILE]

A GPT-2 of 124M random weights, greedy. Each contender runs in a process of its own, on two threads; they take turns
within a round, medians are told with half their spread; who takes minutes runs in the first one alone. All in float32
must give the same tokens. --write puts the tables into docs/performance.md; --json keeps what was found so far.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.bench import elder, report  # noqa: E402
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
ELDER = "transformers 4 TF fp32"  # compiles for each length, a quarter of a minute: one round
PATIENCE = 300  # seconds of a contender that is asked in one round only
LEARNERS = ("gpt2_torch", "transformers 5", "gpt2_tf", "KerasHub", "gpt2_tf, XLA", "KerasHub, XLA")
LEARNERS += tuple(f"{name}, bf16" for name in LEARNERS[:4])
GROWING = ("gpt2_torch fp32", "gpt2_torch bf16", "gpt2_torch int8", "gpt2_tf fp32", "transformers 5 fp32")
GROWING += ("CTranslate2 fp32", "CTranslate2 int8")
MORE = 12  # tokens, after the first two, that tell how long a step is
TURNS = 3  # in which each size is asked for
GROWTH = {
    "context": [(f"{n} tokens", 1, n - MORE // 2, str(n)) for n in (64, 256, 512, 1008)],
    "batch": [(f"{n} rows", n, 64 - MORE // 2, str(n)) for n in (1, 2, 4, 8, 16, 32)],
}

LIMITS = """
import json, time, torch
torch.set_num_threads(2)
torch.set_grad_enabled(False)
def best(run):
    return min(run() for _ in range(20))
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

    config = GPT2Config(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)  # all learn the same thing
    model = gpt2_torch.GPT2LMHeadModel(config, seed=0)
    model.save_pretrained(folder)
    model.save_pretrained(Path(folder) / "tf", format="tf-h5")
    GPT2Tokenizer.from_pretrained("gpt2").save_pretrained(folder)
    converter = Path(sys.executable).parent / "ct2-transformers-converter"
    command = [converter, "--model", folder, "--output_dir", Path(folder) / "ctranslate2"]
    subprocess.run(command, check=True, capture_output=True)


def child(label, *arguments, python=sys.executable):
    """Returns what a process prints as JSON on its last line; None, and why, where it fails."""
    print(f"\r\033[K{label}", end="", file=sys.stderr, flush=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([python, *arguments], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        print(f"\r\033[K{label}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def written(name, folder, jobs, elders):
    python = elder.python_of(elders) if name == ELDER else sys.executable
    return child(name, ROOT / "tests/bench/contenders.py", name, folder, json.dumps(jobs), python=python)


def patiently(name, once, run):
    """Returns what a contender is found to do; None where it took minutes in a round before, which `once` notes."""
    if name in once:
        return None
    began = time.perf_counter()
    found = run()
    if name == ELDER or time.perf_counter() - began > PATIENCE:
        once.add(name)
    return found


def figures(run):
    """Returns the figures of one run of a contender."""
    found = {"import, s": run["import"], "load, s": run["load"], "peak MB": run["peak MB"]}
    found["first call, s"] = run["one, begun"]["first"]
    for name, rows, tokens in (("one", 1, 64), ("eight", 8, 32)):
        seconds = run[name]["seconds"] - run[f"{name}, begun"]["seconds"]
        found[f"decode {rows}, tok/s"] = rows * tokens / seconds
    return found | {f"{name}, ms": 1000 * run[name]["seconds"] for name in run if name.startswith("prefill")}


def grown(name, folder, elders):
    """Returns ms of a step by context and by batch: of a few turns the median, since a difference doubles the noise."""
    sizes = [size for kind in GROWTH.values() for size in kind]
    jobs = [
        (f"{job}, {new}, {turn}", rows, prompt, new)
        for turn in range(TURNS)
        for job, rows, prompt, _ in sizes
        for new in (2, 2 + MORE)
    ]
    if (run := written(name, folder, jobs, elders)) is None:
        return None

    def seconds(job, new):
        return statistics.median(run[f"{job}, {new}, {turn}"]["seconds"] for turn in range(TURNS))

    def step(job):
        return 1000 * (seconds(job, 2 + MORE) - seconds(job, 2)) / MORE

    return {kind: {size: step(job) for job, _, _, size in found} for kind, found in GROWTH.items()}


def same_tokens(runs):
    """Raises where contenders in float32 gave other tokens; returns which share of them each of the others gave."""

    def tokens(run):
        return [token for job in JOBS for row in run[job[0]]["tokens"] for token in row]

    first = {name: tokens(found[0]) for name, found in runs.items()}
    exact = {name: found for name, found in first.items() if name.endswith("fp32")}
    expected = next(iter(exact.values()), [])
    others = [name for name, found in exact.items() if found != expected]
    assert not others, f"in float32 {', '.join(others)} gave other tokens than {next(iter(exact))}"
    shares = {
        name: sum(a == b for a, b in zip(found, expected, strict=True)) / len(expected)
        for name, found in first.items()
        if expected and name not in exact
    }
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items()) or "none were asked"


def check_losses(learnt):
    """Raises where learners in float32 began with another loss: then they do not learn the same thing."""
    losses = [(run["loss"], name) for name, found in learnt.items() if not name.endswith("bf16") for run in found]
    assert not losses or max(losses)[0] - min(losses)[0] < 1e-3, f"the first losses differ: {losses}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--brief", action="store_true", help="neither training nor growth with context and batch")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--elder", type=Path, default=ROOT / ".bench", help="environment of transformers 4")
    options = parser.parse_args()
    runs, learnt, limits, growing, once = {}, {}, [], {}, set()
    found = {"limits": limits, "learning": learnt, "growth": growing}

    def keep():
        found["writing"] = {name: list(map(figures, each)) for name, each in runs.items()}
        if options.json:
            options.json.write_text(json.dumps(found), encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder:
        make(folder)
        for _ in range(options.rounds):
            limits.append(child("the machine", "-c", LIMITS))
            for name in options.only:
                if run := patiently(name, once, functools.partial(written, name, folder, JOBS, options.elder)):
                    runs.setdefault(name, []).append(run)
            for name in LEARNERS if options.only == list(CONTENDERS) and not options.brief else ():
                label = f"{name} learns"
                learn = functools.partial(child, label, ROOT / "tests/bench/learners.py", name, folder)
                if run := patiently(label, once, learn):
                    step = {"forward, s": run["forward"], "step, s": run["step"]}
                    learnt.setdefault(name, []).append(step | {key: run[key] for key in ("peak MB", "loss")})
                    check_losses(learnt)
            keep()
        for name in options.only:
            if name in GROWING and not options.brief and (run := grown(name, folder, options.elder)):
                growing[name] = run
                keep()
    print("\r\033[K", end="", file=sys.stderr)
    found["same"] = same_tokens(runs)
    keep()
    print(report.text(found))
    if options.write:
        report.write(found, ROOT / "docs/performance.md")


if __name__ == "__main__":
    main()
