"""Prints how fast PyTorch multiplies rows with all the weights of a GPT-2 of 124M, in several ways, on two threads.

python tests/bench/layouts.py [--rows 1 2 8]

What gpt2_torch/inference/layouts.py does follows from it. Ways take turns; medians of 9 rounds.
"""

import argparse
import statistics
import sys
import time
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from gpt2_torch.inference.layouts import by_shares  # noqa: E402

SHAPES = [(768, 2304), (768, 768), (768, 3072), (3072, 768)] * 12 + [(768, 50257)]
ROUNDS = 9


def packed(rows):
    return lambda w: torch.ops.mkldnn._reorder_linear_weight(w, rows)


def by_onednn(x, w):
    return torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "")


def by_fbgemm(x, w):
    return torch.ops.quantized.linear_dynamic_fp16(x.float(), w).to(x.dtype)


def widened(x, w):
    return F.linear(x.float(), w.float()).to(x.dtype)


def in_shares(x, w):
    return by_shares(x, w, None)


def as_it_lies(w):
    """Returns a weight (out, in) as a GPT-2's lies: (in, out), but for the head's."""
    return w if len(w) == SHAPES[-1][1] else w.t().contiguous().t()


def without_onednn(x, w):
    with torch.backends.mkldnn.flags(enabled=False):
        return F.linear(x, w)


# name -> (dtype, layout of a weight (out, in), product)
WAYS = {
    "float32, F.linear, (in, out)": (torch.float32, lambda w: w.t().contiguous().t(), F.linear),
    "float32, as the transpose, (in, out)": (torch.float32, lambda w: w.t().contiguous().t(), lambda x, w: (w @ x.T).T),
    "float32, F.linear, (out, in)": (torch.float32, lambda w: w, F.linear),
    "float32, in shares": (torch.float32, as_it_lies, in_shares),
    "float32, oneDNN, (in, out)": (torch.float32, lambda w: w.t().contiguous().t(), by_onednn),
    "float32, oneDNN, (out, in)": (torch.float32, lambda w: w, by_onednn),
    "float32, oneDNN, packed": (torch.float32, packed(16), by_onednn),
    "bfloat16, F.linear, (in, out)": (torch.bfloat16, lambda w: w.t().contiguous().t(), F.linear),
    "bfloat16, oneDNN, packed": (torch.bfloat16, packed(16), by_onednn),
    "bfloat16, F.linear without oneDNN, (out, in)": (torch.bfloat16, lambda w: w, without_onednn),
    "bfloat16, made float32": (torch.bfloat16, lambda w: w.t().contiguous().t(), widened),
    "float16, F.linear, (in, out)": (torch.float16, lambda w: w.t().contiguous().t(), F.linear),
    "float16, FBGEMM": (torch.float16, lambda w: torch.ops.quantized.linear_prepack_fp16(w.float(), None), by_fbgemm),
    "float16, made float32": (torch.float16, lambda w: w.t().contiguous().t(), widened),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 8])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    print("| way |", " | ".join(f"{rows} rows, ms (GB/s)" for rows in options.rows), "|")
    print("|---" * (len(options.rows) + 1) + "|")
    seconds = {(way, rows): [] for way in WAYS for rows in options.rows}
    weights = {}
    for way, (dtype, layout, _) in WAYS.items():
        try:
            weights[way] = [layout((torch.randn(o, i) * 0.02).to(dtype)) for i, o in SHAPES]
        except RuntimeError:
            print(f"{way}: not on this processor", file=sys.stderr)
            seconds = {key: found for key, found in seconds.items() if key[0] != way}
    for _ in range(ROUNDS):
        for (way, rows), found in seconds.items():
            dtype, _, product = WAYS[way]
            x = {width: torch.randn(rows, width).to(dtype) for width in (768, 3072)}
            start = time.perf_counter()
            for (width, _), w in zip(SHAPES, weights[way], strict=True):
                product(x[width], w)
            found.append(time.perf_counter() - start)
    count = sum(i * o for i, o in SHAPES)
    for way in weights:
        dtype = WAYS[way][0]
        medians = [statistics.median(seconds[way, rows]) for rows in options.rows]
        cells = [f"{1000 * m:.1f} ({count * dtype.itemsize / m / 1e9:.0f})" for m in medians]
        print(f"| {way} |", " | ".join(cells), "|")


if __name__ == "__main__":
    with torch.no_grad():
        main()
