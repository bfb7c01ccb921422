"""What speed.py found, as Markdown and as a plot, into docs/performance.md between its markers."""

import datetime
import importlib.metadata
import os
import platform
import re
import statistics
from pathlib import Path

BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
LIBRARIES = ("torch", "transformers", "ctranslate2", "tensorflow", "keras", "keras-hub")
ONE, EIGHT = "decode 1, tok/s", "decode 8, tok/s"

# what is compared, of which contenders, and the least ratio that is aimed at
BARS = [
    (ONE, "gpt2_torch fp32", "transformers 5 fp32", 2),
    (ONE, "gpt2_torch fp32", "CTranslate2 fp32", 0.9),
    (ONE, "gpt2_torch bf16", "transformers 5 bf16", 2),
    (ONE, "gpt2_torch bf16", "CTranslate2 int8", 1.5),
    (ONE, "gpt2_torch int8", "CTranslate2 int8", 1.8),
    ("prefill 512, ms", "gpt2_torch fp32", "transformers 5 fp32", 2.2),
    ("prefill 512, ms", "gpt2_torch fp32", "CTranslate2 fp32", 1.2),
    (ONE, "gpt2_tf fp32", "transformers 4 TF fp32", 1.25),
    (ONE, "gpt2_tf fp32", "KerasHub fp32", 2),
    ("first call, s", "gpt2_tf fp32", "transformers 4 TF fp32", 5),
    (EIGHT, "gpt2_torch bf16", "CTranslate2 int8", 1.2),
    (EIGHT, "gpt2_torch bf16", "transformers 5 bf16", 1.2),
    (EIGHT, "gpt2_tf fp32", "KerasHub fp32", 1.3),
    ("load, s", "gpt2_torch fp32", "transformers 5 fp32", 1 / 1.2),
    ("load, s", "gpt2_tf fp32", "transformers 4 TF fp32", 8),
    ("peak MB", "gpt2_torch fp32", "transformers 5 fp32", 1),
    ("peak MB", "gpt2_tf fp32", "transformers 4 TF fp32", 2),
    ("step, s", "gpt2_torch", "transformers 5", 1.3),
    ("step, s", "gpt2_tf", "KerasHub", 1.5),
    ("step, s", "gpt2_tf, XLA", "KerasHub, XLA", 1.5),
    ("step, s", "gpt2_torch, bf16", "transformers 5, bf16", 1.3),
    ("step, s", "gpt2_tf, bf16", "KerasHub, bf16", 1.5),
]
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
WEIGHTS = 124439808


def table(rows):
    """Returns rows, the first of them the heading, in Markdown."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def middle(runs, key):
    return statistics.median(run[key] for run in runs)


def cell(runs, key):
    """Returns the median of a figure, and half its spread where there were several runs."""
    values, median = [run[key] for run in runs], middle(runs, key)
    spread = f" ±{50 * (max(values) - min(values)) / median:.0f} %" if len(values) > 1 else ""
    return f"{median:.3g}{spread}" if median < 1000 else f"{median:.0f}{spread}"


def figures(found):
    """Returns a table of each contender's figures, and of decoding's share of what memory allows."""
    limit = middle(found["limits"], "GB/s") * 1e9 / WEIGHTS
    names = list(next(iter(found["writing"].values()))[0])
    rows = [["", *names, "of the limit"]]
    for name, runs in found["writing"].items():
        share = middle(runs, ONE) * BYTES[name.split()[-1]] / limit
        rows.append([name, *(cell(runs, key) for key in names), f"{100 * share:.0f} %"])
    return table(rows)


def ratios(found):
    """Returns a table of how many times as good ours is."""
    rows = [["", "ours", "the other", "times as good", "aim"]]
    every = {**found["writing"], **found["learning"]}
    for key, ours, other, aim in BARS:
        if ours in every and other in every:
            ratio = middle(every[ours], key) / middle(every[other], key)
            rows.append([key, ours, other, f"{ratio if 'tok/s' in key else 1 / ratio:.2f}", f"{aim:.3g}"])
    return table(rows)


def growth(found, kind):
    """Returns a table of ms a token by context or by batch; – where the machine's noise was larger than that."""
    sizes = list(next(iter(found["growth"].values()))[kind])
    rows = [[kind, *sizes]]
    rows += [
        [name, *(f"{kinds[kind][size]:.1f}" if kinds[kind][size] > 0 else "–" for size in sizes)]
        for name, kinds in found["growth"].items()
    ]
    return table(rows)


def plot(found, path):
    """Draws how ms a token grow with the context and with the batch."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "gpt2"  # the same picture gives the same file
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for panel, kind in zip(panels, ("context", "batch"), strict=True):
        for name, kinds in found["growth"].items():
            ours = name.startswith("gpt2_")
            line = {"linewidth": 2} if ours else {"linewidth": 1, "linestyle": "--"}
            known = {int(n): ms for n, ms in kinds[kind].items() if ms > 0}
            panel.plot(list(known), list(known.values()), label=name, **line)
        panel.set(xlabel={"context": "tokens so far", "batch": "rows"}[kind], ylabel="ms a step", ylim=0)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, metadata={"Date": None})


def text(found):
    """Returns all tables, with what they were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else None
    machine = f"{os.cpu_count()} cores of {model[1] if model else platform.processor()}"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    limits = ", ".join(f"{middle(found['limits'], key):.0f} {key}" for key in found["limits"][0])
    parts = [
        f"{machine}; {limits}; {datetime.date.today()}, `make bench`, {len(found['limits'])} rounds; {versions}.",
        figures(found),
        f"Of others than float32, these tokens are those of float32: {found['same']}.",
        "How many times as good, by these medians:",
        ratios(found),
    ]
    if found["learning"]:
        keys = ("forward, s", "step, s", "peak MB")
        rows = [["two rows of 256 tokens", *keys]]
        rows += [[name, *(cell(runs, key) for key in keys)] for name, runs in found["learning"].items()]
        parts.append(table(rows))
    if found["growth"]:
        parts += ["Milliseconds a step, by tokens so far (one row) and by rows (64 tokens so far):"]
        parts += [growth(found, "context"), growth(found, "batch"), "![ms a step](performance.svg)"]
    return "\n\n".join(parts)


def write(found, docs):
    """Puts the tables between the markers of a file, and the plot beside it."""
    old = docs.read_text(encoding="utf-8")
    before, _, rest = old.partition(BEGIN)
    after = rest.partition(END)[2]
    docs.write_text(f"{before}{BEGIN}\n\n{text(found)}\n\n{END}{after}", encoding="utf-8")
    if found["growth"]:
        plot(found, docs.with_suffix(".svg"))
