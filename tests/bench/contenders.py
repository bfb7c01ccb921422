"""The libraries that are timed, each behind the same three calls; run in a process of its own by speed.py.

python tests/bench/contenders.py NAME FOLDER JOBS    prints a line of JSON

NAME is a key of CONTENDERS, JOBS a JSON list of [name, rows, prompt, new]: greedy texts, of so many prompts of so many
tokens. Each job is run once before it is timed, unless that takes a minute; its first run is told too. This file runs
also in an environment that has neither our packages nor PyTorch, that of transformers 4.
"""

import gc
import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np

THREADS = 2
LONG = 60  # seconds of a job that is not run again
VOCABULARY = 50257


class Torch:
    """gpt2_torch."""

    def __init__(self, dtype="float32", **options):
        self.dtype, self.options = dtype, options

    def load(self, folder):
        import torch

        torch.set_num_threads(THREADS)
        from gpt2_torch import GPT2LMHeadModel

        began = time.perf_counter()
        self.model = GPT2LMHeadModel.from_pretrained(folder, dtype=self.dtype, **self.options)
        return began

    def generate(self, ids, new):
        return self.model.generate(ids, max_new_tokens=new, eos_token_id=[], pad_token_id=0).numpy()


class Keras(Torch):
    """gpt2_tf."""

    def load(self, folder):
        tensorflow_threads()
        from gpt2_tf import TFGPT2LMHeadModel

        began = time.perf_counter()
        self.model = TFGPT2LMHeadModel.from_pretrained(folder)
        return began


class Transformers(Torch):
    """transformers 5."""

    def load(self, folder):
        import torch
        from transformers import GPT2LMHeadModel, logging  # which is imported when it is asked for, seconds of it

        torch.set_num_threads(THREADS)
        logging.set_verbosity_error()
        began = time.perf_counter()
        self.model = GPT2LMHeadModel.from_pretrained(folder, dtype=getattr(torch, self.dtype)).eval()
        return began

    def generate(self, ids, new):
        import torch

        ids = torch.as_tensor(ids)
        settings = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        return self.model.generate(ids, attention_mask=torch.ones_like(ids), **settings).numpy()


class CTranslate2(Torch):
    """CTranslate2's generator of the converted model."""

    def load(self, folder):
        import ctranslate2

        from gpt2_core import GPT2Tokenizer

        self.tokenizer = GPT2Tokenizer.from_pretrained("gpt2")
        began = time.perf_counter()
        self.model = ctranslate2.Generator(
            str(Path(folder) / "ctranslate2"), intra_threads=THREADS, compute_type=self.dtype
        )
        return began

    def generate(self, ids, new):
        tokens = [self.tokenizer.convert_ids_to_tokens(row) for row in ids.tolist()]
        found = self.model.generate_batch(
            tokens, max_length=new, min_length=new, sampling_topk=1, include_prompt_in_result=False, end_token=[]
        )
        return np.concatenate([ids, [one.sequences_ids[0] for one in found]], axis=1)


class KerasHub(Torch):
    """KerasHub's GPT2CausalLM, on TensorFlow."""

    def load(self, folder):
        tensorflow_threads()
        import keras_hub

        began = time.perf_counter()
        self.model = keras_hub.models.GPT2CausalLM.from_preset(folder, dtype=self.dtype)
        self.model.compile(sampler="greedy")
        return began

    def generate(self, ids, new):
        tokens = np.pad(ids, ((0, 0), (0, new))).astype("int32")
        mask = np.pad(np.ones_like(ids), ((0, 0), (0, new))).astype(bool)
        function = self.model.make_generate_function()
        found = function({"token_ids": tokens, "padding_mask": mask}, stop_token_ids=None)
        return np.asarray(found["token_ids"])


class Transformers4(Torch):
    """transformers 4's TFGPT2LMHeadModel, compiled by XLA as its documentation says."""

    def load(self, folder):
        tf = tensorflow_threads()
        from transformers import TFGPT2LMHeadModel

        began = time.perf_counter()
        self.model = TFGPT2LMHeadModel.from_pretrained(Path(folder) / "tf")
        self.compiled = tf.function(self.model.generate, jit_compile=True)
        self.first = tf.function(self.next_token, jit_compile=True)
        return began

    def generate(self, ids, new):
        import tensorflow as tf

        ids = tf.constant(ids.astype("int32"))
        if new == 1:  # which its generate cannot compile
            return tf.concat([ids, self.first(ids)], axis=1).numpy()
        return self.compiled(ids, attention_mask=tf.ones_like(ids), max_new_tokens=new, pad_token_id=0).numpy()

    def next_token(self, ids):
        import tensorflow as tf

        return tf.argmax(self.model(ids).logits[:, -1:], axis=-1, output_type=tf.int32)


def tensorflow_threads():
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    return tf


CONTENDERS = {
    "gpt2_torch fp32": Torch(),
    "gpt2_torch bf16": Torch("bfloat16"),
    "gpt2_torch fp16": Torch("float16"),
    "gpt2_torch int8": Torch(quantize="int8"),
    "transformers 5 fp32": Transformers(),
    "transformers 5 bf16": Transformers("bfloat16"),
    "CTranslate2 fp32": CTranslate2(),
    "CTranslate2 int8": CTranslate2("int8"),
    "gpt2_tf fp32": Keras(),
    "KerasHub fp32": KerasHub(),
    "transformers 4 TF fp32": Transformers4(),
}


def main(name, folder, jobs):
    contender = CONTENDERS[name]
    before = time.perf_counter()
    began = contender.load(folder)
    found = {"import": began - before, "load": time.perf_counter() - began}
    random = np.random.default_rng(0)
    for job, rows, prompt, new in jobs:
        ids = random.integers(0, VOCABULARY, (rows, prompt))
        times = []
        while len(times) < 2 and sum(times) < LONG:
            gc.collect()
            start = time.perf_counter()
            out = contender.generate(ids, new)
            times.append(time.perf_counter() - start)
        assert out.shape == (rows, prompt + new), (name, job, out.shape)
        found[job] = {"first": times[0], "seconds": times[-1], "tokens": out[:, prompt:].tolist()}
    found["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
