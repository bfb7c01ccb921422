"""The GPU's benchmark on a CPU: every contender takes part and gives the same, and what it counts is computed."""

import contextlib
import io
import json
import sys

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gpt2_torch import GPT2LMHeadModel
from tests.bench import gpu
from tests.bench.gpu_contenders import Setting, our_writers
from tests.bench.gpu_jobs import Counts

TINY = ["--device", "cpu", "--dtype", "float32", "--shapes", "tiny", "--backend", "eager", "--rounds", "2"]
WRITERS = {
    "gpt2_torch",
    "gpt2_torch, CUDA graph",
    "gpt2_torch, that graph without generate",
    "gpt2_torch, torch.compile",
    "transformers 5",
    "transformers 5, static cache, compiled",
}
LEARNERS = {"gpt2_torch", "gpt2_torch, torch.compile", "transformers 5", "transformers 5, torch.compile"}


def run(*arguments):
    """Returns what the benchmark found, and printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        found = gpu.main([*TINY, *arguments])
    return found, printed.getvalue()


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    file = tmp_path_factory.mktemp("bench") / "found.json"
    found, printed = run("--batches", "1", "3", "--only", "gpt2_torch", "transformers", "--json", str(file))
    assert json.loads(file.read_text(encoding="utf-8")) == found
    return found, printed


def test_every_contender_takes_part(everything):
    found, _ = everything
    assert found["absent"] == {}
    took = {}
    for row in found["rows"]:
        took.setdefault((row["job"], row.get("rows")), set()).add(row["contender"])
    assert took == {
        ("writing", 1): WRITERS,
        ("writing", 3): WRITERS,
        ("reading", None): {"gpt2_torch", "transformers 5"},
        ("training", None): LEARNERS,
    }


def test_all_give_the_same(everything):
    found, _ = everything
    same = {row["contender"]: row["same tokens"] for row in found["rows"] if "same tokens" in row}
    assert same == {name: None if name.endswith("without generate") else 1.0 for name in WRITERS}
    losses = [row["loss"] for row in found["rows"] if "loss" in row]
    assert len(losses) == len(LEARNERS) and np.ptp(losses) < 1e-4 * np.mean(losses)


def test_rates_are_positive_and_printed(everything):
    found, printed = everything
    rates = [row[name] for row in found["rows"] for name in row if name in ("tokens/s", "% of GEMM", "MFU, %")]
    assert min(found["bytes/s"], found["flop/s"], *rates) > 0
    for row in found["rows"]:
        assert f"| {row['contender']} |" in printed and f"| {gpu.cell(row['tokens/s'])} |" in printed


def test_texts_are_no_repetition():
    config = gpu.config_of("tiny", initializer_range=gpu.SPREAD)
    write = our_writers(config, Setting("cpu", "float32", None))["gpt2_torch"].write
    for text in write(np.random.default_rng(0).integers(0, config.vocab_size, (3, 128)), 60):
        assert len(np.unique(text)) > 8


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    found, printed = run("--jobs", "prefill", "--only", "gpt2_torch", "transformers")
    assert [row["contender"] for row in found["rows"]] == ["gpt2_torch"]
    assert "\nLeft out: transformers. ModuleNotFoundError: import of transformers" in printed


def test_operations_are_those_that_pytorch_counts():
    config, rows, T = gpu.config_of("tiny"), 2, 96
    model, ids = GPT2LMHeadModel(config).eval(), torch.arange(rows * T).reshape(rows, T)
    model.pack_weights = False  # oneDNN's products are not counted
    counts = Counts(config)
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as reading:
            model.generate(ids, max_new_tokens=1, eos_token_id=[], pad_token_id=0)
        with FlopCounterMode(display=False) as learning:
            model(ids, labels=ids, use_cache=False).loss.backward()
    # biases and norms are counted as if they were matrices; generate attends to its cache's free slots too
    assert reading.get_total_flops() == pytest.approx(counts.flops_of_prompt(rows, T), rel=0.1)
    assert learning.get_total_flops() == pytest.approx(counts.flops_of_training(rows, T), rel=0.03)
