"""Prints how fast gpt2_torch and gpt2_tf write and learn on a GPU, next to transformers 5, and what the card could do.

python tests/bench/gpu.py [--shapes gpt2 gpt2-xl] [--jobs decoding prefill training] [--rounds 5] [--json FILE]

Needs PyTorch alone; transformers 5, and Keras on JAX or TensorFlow, take part where they are installed. Random weights
without dropout, greedy texts, bfloat16; training has float32 weights under autocast. Contenders take turns, but in
training, where each has the memory to itself; medians of the rounds are printed, and half their spread.

The same tokens are those that are also the first contender's: all of a CUDA graph's, which computes alike, and nearly
all in float32; in 16 bits another order of sums soon makes another text.
"""

import argparse
import datetime
import importlib.metadata
import json
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from gpt2_core import GPT2Config  # noqa: E402
from gpt2_core.config import PRESETS  # noqa: E402
from tests.bench.gpu_jobs import LIBRARIES, Bench  # noqa: E402

JOBS = ("decoding", "prefill", "training")
TINY = dict(vocab_size=512, n_positions=256, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
SPREAD = 0.1  # of the weights that write: with GPT-2's 0.02 they repeat a token, and a wrong cache would not show
FIXED = dict(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)


def config_of(shape, **overrides):
    fields = {**FIXED, **overrides}
    return GPT2Config(**TINY, **fields) if shape == "tiny" else GPT2Config.preset(shape, **fields)


def results(bench, shape):
    """Yields (title, rows) of each job."""
    jobs, writers = bench.options.jobs, {}
    config = config_of(shape, initializer_range=SPREAD)
    if "decoding" in jobs or "prefill" in jobs:
        writers = bench.contenders(0, config)
    if "decoding" in jobs:
        yield bench.decoding(config, writers)
    if "prefill" in jobs:
        yield bench.prefill(config, writers, shape)
    writers.clear()
    bench.free()
    if "training" in jobs:
        yield bench.training(config_of(shape, use_cache=False), shape)


def cell(value):
    if value is None or isinstance(value, str):
        return value or "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(rows):
    """Returns rows, dicts of the same columns, in Markdown."""
    names = [name for name in (rows[0] if rows else []) if any(row[name] is not None for row in rows)]
    lines = [names, ["---"] * len(names), *([cell(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def versions():
    """Returns the versions of what is installed."""
    found = {"CUDA": torch.version.cuda} if torch.version.cuda else {}
    for name in ("torch", "transformers", "keras", "jax", "tensorflow"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--shapes", nargs="+", choices=[*PRESETS, "tiny"], default=["gpt2", "gpt2-xl"])
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32], help="rows of the texts that are written")
    parser.add_argument("--only", nargs="+", choices=list(LIBRARIES), default=list(LIBRARIES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--no-compile", action="store_true", help="leave out what needs torch.compile")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here: --device cpu --shapes tiny shows that the benchmark runs")
    return options


def main(arguments=None):
    """Prints a table of each job, and returns all."""
    options = parsed(arguments)
    bench = Bench(options)
    device = torch.cuda.get_device_name() if options.device == "cuda" else "a CPU"
    found = {"device": device, "date": str(datetime.date.today()), "dtype": options.dtype, "versions": versions()}
    print(f"{device}, {found['date']}, {options.dtype};", ", ".join(f"{k} {v}" for k, v in versions().items()))
    print(f"The device copies {bench.bandwidth / 1e9:.0f} GB/s and multiplies {bench.rate / 1e12:.4g} TFLOP/s.")
    found |= {"bytes/s": bench.bandwidth, "flop/s": bench.rate, "rows": [], "absent": bench.absent}
    for shape in options.shapes:
        for title, rows in results(bench, shape):
            print(f"\n{shape}: {title}\n\n{table(rows)}", flush=True)
            found["rows"] += [{"shape": shape, "job": title.partition(" ")[0].strip(","), **row} for row in rows]
            if options.json:
                options.json.write_text(json.dumps(found), encoding="utf-8")
    for name, why in bench.absent.items():
        print(f"\nLeft out: {name}. {why}")
    return found


if __name__ == "__main__":
    main()
