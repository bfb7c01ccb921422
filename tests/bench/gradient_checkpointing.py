"""Prints what gradient checkpointing saves: the peak of memory of training steps, each in a process of its own.

python tests/bench/gradient_checkpointing.py
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHAPE = {"vocab_size": 5000, "n_positions": 256, "n_embd": 256, "n_layer": 12, "n_head": 4}
ROWS, STEPS = 16, 3


def peak_mb() -> float:
    """Returns the most memory that this process has held, in MB; Linux only."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def train_torch(again: bool) -> tuple[float, float]:
    import torch

    from gpt2_torch import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(**SHAPE)).train()
    if again:
        model.gradient_checkpointing_enable()
    optimizer, ids = torch.optim.SGD(model.parameters(), 0.1), torch.randint(0, 5000, (ROWS, 256))
    start, seconds = peak_mb(), []
    for _ in range(STEPS):
        began = time.perf_counter()
        model(ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    return peak_mb() - start, min(seconds)


def train_keras(again: bool) -> tuple[float, float]:
    import keras
    import numpy as np

    from gpt2_tf import GPT2Config, TFGPT2LMHeadModel

    model = TFGPT2LMHeadModel(GPT2Config(**SHAPE, use_cache=False))
    if again:
        model.gradient_checkpointing_enable()
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    ids = np.random.default_rng(0).integers(0, 5000, (ROWS, 256))
    start, seconds = peak_mb(), []
    for _ in range(STEPS):
        began = time.perf_counter()
        model.train_on_batch(ids, ids)
        seconds.append(time.perf_counter() - began)
    return peak_mb() - start, min(seconds)


def main() -> None:
    if len(sys.argv) > 1:
        memory, seconds = {"torch": train_torch, "keras": train_keras}[sys.argv[1]](sys.argv[2] == "again")
        print(f"{memory:.0f} MB {seconds:.2f} s")
        return
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    for framework in ("torch", "keras"):
        for kept in ("everything", "again"):
            command = [sys.executable, __file__, framework, kept]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            print(f"{framework}, {kept}: {done.stdout.splitlines()[-1]} a step", flush=True)


if __name__ == "__main__":
    main()
