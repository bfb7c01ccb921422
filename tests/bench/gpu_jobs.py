"""What gpu.py measures, on one device: the device itself, texts begun and continued, steps of training."""

import functools
import gc
import statistics
import time

import numpy as np
import torch

from gpt2_core.weights import parameter_count
from tests.bench import gpu_contenders, gpu_keras

# library -> functions of (config, setting) that return writers, and functions that make learners, by name
LIBRARIES = {
    "gpt2_torch": (gpu_contenders.our_writers, gpu_contenders.our_learners),
    "transformers": (gpu_contenders.their_writers, gpu_contenders.their_learners),
    "gpt2_tf": (gpu_keras.writers, gpu_keras.learners),  # the last, since its memory does not come back
}

# What a step takes follows from two texts, of which one is 60 tokens longer. A cache of 192 slots holds both, and some
# steps come before the 60, in which what was compiled may be recorded again for a cache at another address.
PROMPT, SHORT, LONG = 128, 4, 64
ROWS = {"gpt2": 32, "distilgpt2": 32, "gpt2-medium": 8}  # of prompts that fill the context; of others 1
BATCH = {"gpt2": 8, "distilgpt2": 8, "gpt2-medium": 4}  # of a step of training; of others 2
WARM = 3  # steps of training that are not timed


class Counts:
    """The least that each job has to read and to compute."""

    def __init__(self, config):
        self.head = config.vocab_size * config.n_embd
        self.read = parameter_count(config, "lm_head") - config.n_positions * config.n_embd  # N, all but wpe
        self.layers = config.n_layer * config.n_embd  # L * C

    def bytes_of_step(self, size, rows, tokens):
        """Bytes of the weights, and of the keys and values of so many tokens of each row."""
        return size * (self.read + 2 * self.layers * rows * tokens)

    def flops_of_prompt(self, rows, T):
        """Operations up to the logits of the last token; attention is counted as if each token saw all."""
        return rows * (2 * (self.read - self.head) * T + 4 * self.layers * T * T + 2 * self.head)

    def flops_of_training(self, rows, T):
        """Operations forward and backward, 6 N + 12 L C T a token, as PaLM's model FLOPs utilisation counts them."""
        return rows * T * (6 * self.read + 12 * self.layers * T)


class Bench:
    """The device's clock and limits, and the jobs, each of which returns what it is and a row of each contender.

    absent: why contenders are left out, by name.
    """

    def __init__(self, options):
        self.options, self.device, self.absent = options, options.device, {}
        self.setting = gpu_contenders.Setting(
            options.device, options.dtype, None if options.no_compile else options.backend
        )
        self.dtype = getattr(torch, options.dtype)
        self.random = np.random.default_rng(0)
        self.bandwidth, self.rate = self.limits()

    def seconds(self, run):
        """Returns how long a call takes until the device is done, and what it returns."""
        if self.device == "cpu":
            start = time.perf_counter()
            out = run()
            return time.perf_counter() - start, out
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        out = run()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000, out

    def limits(self):
        """Returns bytes a second of a copy, read and written, and operations a second of a large product."""
        count, width = (2**28, 8192) if self.device == "cuda" else (2**22, 256)
        x = torch.randn(count, device=self.device)
        y = torch.empty_like(x)
        a, b = (torch.randn(width, width, device=self.device).to(self.dtype) for _ in range(2))
        copying = min(self.seconds(lambda: y.copy_(x))[0] for _ in range(20))
        multiplying = min(self.seconds(lambda: [a @ b for _ in range(10)])[0] for _ in range(10))
        return 2 * 4 * count / copying, 10 * 2 * width**3 / multiplying

    def attempt(self, name, run):
        """Returns what a call returns; remembers why where it fails, as one is no reason to lose the others."""
        try:
            return run()
        except Exception as error:
            self.absent[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            return None

    def contenders(self, which, config):
        """Returns by name the writers (0) of all libraries, or what makes their learners (1)."""
        found = {}
        for library in self.options.only:
            found |= self.attempt(library, functools.partial(LIBRARIES[library][which], config, self.setting)) or {}
        return found

    def alternately(self, writers, run):
        """Returns a row of each writer: medians of rounds in which each has its turn. run: returns (seconds, tokens).

        same tokens: the share of those that are the first contender's.
        """
        able = {name: writer for name, writer in writers.items() if self.attempt(name, lambda w=writer: run(w))}
        rounds = [{name: run(writer) for name, writer in able.items()} for _ in range(self.options.rounds)]
        rows, first = [], None
        for name in able:
            tokens = rounds[0][name][1]
            first = tokens if first is None else first
            same = None if tokens is None else float(np.mean(tokens == first))
            rows.append({"contender": name, **measured([found[name][0] for found in rounds]), "same tokens": same})
        return rows

    def decoding(self, config, writers):
        found = []
        for rows in self.options.batches:
            self.free()  # else what is compiled for a second number of rows would be for any number
            ids = self.random.integers(0, config.vocab_size, (rows, PROMPT))

            def step(writer, ids=ids):
                long, tokens = self.seconds(lambda: writer.write(ids, LONG))  # first: transformers keeps its length
                return (long - self.seconds(lambda: writer.write(ids, SHORT))[0]) / (LONG - SHORT), tokens

            read = Counts(config).bytes_of_step(self.dtype.itemsize, rows, PROMPT + (SHORT + LONG) / 2)
            for row in self.alternately(writers, step):
                share = 1e5 * read / row["ms"] / self.bandwidth
                found.append({"rows": rows, **row, "tokens/s": 1000 * rows / row["ms"], "% of copy": share})
        return f"writing after {PROMPT} tokens, a step", found

    def prefill(self, config, writers, shape):
        rows, T = ROWS.get(shape, 1), config.n_positions - 1
        ids = self.random.integers(0, config.vocab_size, (rows, T))
        readers = {name: writer for name, writer in writers.items() if writer.reads}
        found = self.alternately(readers, lambda writer: self.seconds(lambda: writer.write(ids, 1)))
        flops = Counts(config).flops_of_prompt(rows, T)
        for row in found:
            row |= {"tokens/s": 1000 * rows * T / row["ms"], "% of GEMM": 1e5 * flops / row["ms"] / self.rate}
        return f"reading {rows}×{T} tokens, up to the first new one", found

    def training(self, config, shape):
        rows, T = BATCH.get(shape, 2), config.n_positions
        ids, found = self.random.integers(0, config.vocab_size, (rows, T)), []
        flops = Counts(config).flops_of_training(rows, T)
        for name, make in self.contenders(1, config).items():
            row = self.attempt(name, functools.partial(self.learned, make, ids))
            self.free()
            if row:
                rates = {"tokens/s": 1000 * rows * T / row["ms"], "MFU, %": 1e5 * flops / row["ms"] / self.rate}
                found.append({"contender": name, **row, **rates})
        return f"training, {rows}×{T} tokens a step", found

    def learned(self, make, ids):
        """Returns what a learner does, which is made and forgotten here."""
        on_gpu = self.device == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        learn = make()
        runs = [self.seconds(lambda: learn(ids)) for _ in range(WARM + 2 * self.options.rounds)]
        peak = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None
        return measured([seconds for seconds, _ in runs[WARM:]]) | {"loss": float(runs[-1][1]), "PyTorch's GB": peak}

    def free(self):
        """Gives back the memory of what is no longer used."""
        torch._dynamo.reset()
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()


def measured(seconds):
    median = statistics.median(seconds)
    return {"ms": 1000 * median, "±%": 50 * (max(seconds) - min(seconds)) / median}
