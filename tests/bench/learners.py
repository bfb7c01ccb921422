"""One step of training, and the forward pass alone, of a GPT-2 of 124M; run in a process of its own by speed.py.

python tests/bench/learners.py NAME FOLDER    prints a line of JSON

Two rows of 256 tokens, without dropout, which FOLDER's config has to say, since KerasHub hears of it nowhere else; the
libraries' own AdamW; float32 or, where the name says so, bfloat16, weights and all. Keras' steps are those of one `fit`
after its first, which compiles, as a graph or, where the name says so, compiled by XLA.
"""

import functools
import json
import os
import resource
import statistics
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np

from tests.bench.contenders import LONG, THREADS, VOCABULARY, tensorflow_threads

ROWS, TOKENS, STEPS = 2, 256, 5


def timed(run):
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def repeated(run, least=1):
    """Returns (seconds, result) of each of STEPS runs; of fewer, but `least`, where they take minutes."""
    found, began = [], time.perf_counter()
    while len(found) < least or (len(found) < STEPS and time.perf_counter() - began < LONG):
        found.append(timed(run))
    return found


def torch_steps(model, ids):
    """Returns seconds of forward passes, seconds of steps, and the first loss."""
    import torch

    ids = torch.tensor(ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    def forward():
        with torch.no_grad():
            return float(model(ids, labels=ids).loss)

    forwards = repeated(forward)
    model.train()
    # the second is the first whose gradients are in memory beside the optimizer's state
    steps = [seconds for seconds, _ in repeated(step, least=2)]
    return [seconds for seconds, _ in forwards], steps, forwards[0][1]


def ours_in_torch(folder, ids, dtype="float32"):
    import torch

    from gpt2_torch import GPT2LMHeadModel

    torch.set_num_threads(THREADS)
    return torch_steps(GPT2LMHeadModel.from_pretrained(folder, dtype=dtype), ids)


def transformers(folder, ids, dtype="float32"):
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(THREADS)
    return torch_steps(GPT2LMHeadModel.from_pretrained(folder, dtype=dtype).eval(), ids)


def keras_steps(model, x, y, loss, xla):
    """Returns seconds of `predict_on_batch`, seconds of steps of `fit`, and the first loss."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.began = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            steps.append(time.perf_counter() - self.began)
            losses.append(float(logs["loss"]))
            self.model.stop_training = sum(steps[1:]) > LONG

    steps, losses = [], []
    model.compile(keras.optimizers.AdamW(1e-4), loss=loss, jit_compile=True if xla else "auto")
    many = {name: np.tile(array, (STEPS + 2, 1)) for name, array in x.items()}
    targets = None if y is None else np.tile(y, (STEPS + 2, 1))
    model.fit(many, targets, batch_size=ROWS, verbose=0, shuffle=False, callbacks=[Clock()])
    model.predict_on_batch(x)
    forwards = [seconds for seconds, _ in repeated(lambda: model.predict_on_batch(x))]
    return forwards, steps[1:], losses[0]


def ours_in_keras(folder, ids, xla=False, dtype="float32"):
    tensorflow_threads()
    from gpt2_tf import TFGPT2LMHeadModel

    ids = ids.astype("int32")
    model = TFGPT2LMHeadModel.from_pretrained(folder, use_cache=False, dtype=dtype)
    return keras_steps(model, {"input_ids": ids, "labels": ids}, None, None, xla)


def keras_hub(folder, ids, xla=False, dtype="float32"):
    tensorflow_threads()
    import keras
    import keras_hub

    model = keras_hub.models.GPT2CausalLM.from_preset(folder, preprocessor=None, dtype=dtype)
    x = {"token_ids": ids.astype("int32"), "padding_mask": np.ones(ids.shape, "int32")}
    labels = np.concatenate([ids[:, 1:], np.full((ROWS, 1), -100)], axis=1).astype("int32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-100)
    return keras_steps(model, x, labels, loss, xla)


LEARNERS = {
    "gpt2_torch": ours_in_torch,
    "transformers 5": transformers,
    "gpt2_tf": ours_in_keras,
    "KerasHub": keras_hub,
    "gpt2_tf, XLA": functools.partial(ours_in_keras, xla=True),
    "KerasHub, XLA": functools.partial(keras_hub, xla=True),
    "gpt2_torch, bf16": functools.partial(ours_in_torch, dtype="bfloat16"),
    "transformers 5, bf16": functools.partial(transformers, dtype="bfloat16"),
    "gpt2_tf, bf16": functools.partial(ours_in_keras, dtype="bfloat16"),
    "KerasHub, bf16": functools.partial(keras_hub, dtype="bfloat16"),
}


def main(name, folder):
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, TOKENS))
    forwards, steps, loss = LEARNERS[name](folder, ids)
    found = {"forward": statistics.median(forwards[1:] or forwards), "step": statistics.median(steps[1:] or steps)}
    found["loss"] = loss
    found["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
