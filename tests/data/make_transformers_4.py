"""Writes transformers_4_reads_ours/: what transformers 4.57's TensorFlow computes from each tf_model.h5 that we write.

Run by hand from the root of the repository, where transformers 4.57, TensorFlow, tf_keras and regex are installed:

    python -m tests.data.make_transformers_4

The heavy imports are in the functions that need them: the tests take the cases from here.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from gpt2_core import GPT2Config, checkpoint, convert
from gpt2_core.checkpoint import Tensor
from gpt2_core.weights import weight_specs

DATA = Path(__file__).parent
OUT = DATA / "transformers_4_reads_ours"
# Name -> the head, and what convert is told; all but the last begin at the fixtures in transformers/
CASES = {
    "model": ("model", {}),
    "lm_head": ("lm_head", {}),
    "double_heads": ("double_heads", {}),
    "sequence_classification": ("sequence_classification", {}),
    "float16": ("lm_head", {"dtype": "float16"}),
    "float64": ("lm_head", {"dtype": "float64"}),
    "cross_attention": ("lm_head", {}),
}
# Every number of a config that a file of weights shows nothing of is another one than the default
CROSS = GPT2Config(
    vocab_size=61,
    n_positions=16,
    n_embd=12,
    n_layer=2,
    n_head=3,
    n_inner=20,
    activation_function="relu",
    layer_norm_epsilon=1e-3,
    add_cross_attention=True,
)


def scattered(n: int, seed: int = 0) -> np.ndarray:
    """Returns n numbers in [-0.5, 0.5), exact in every type and so the same with every numpy."""
    return ((np.arange(n) + 1000 * seed) * 40503 % 65536 // 64).astype(np.float32) / 1024 - np.float32(0.5)


def write(case: str, folder: Path) -> None:
    """Writes the model of a case as tf-h5, by way of safetensors: so no name and no layout is TensorFlow's own."""
    head, options = CASES[case]
    with tempfile.TemporaryDirectory() as between:
        if case == "cross_attention":
            specs = weight_specs(CROSS, head)
            tensors = {
                name: Tensor.of(scattered(int(np.prod(spec.shape)), seed).reshape(spec.shape))
                for seed, (name, spec) in enumerate(specs.items())
            }
            checkpoint.save(between, CROSS, tensors, head)
        else:
            convert(DATA / "transformers" / head, between)
        convert(between, folder, "tf-h5", **options)


def inputs_of(case: str) -> dict[str, np.ndarray]:
    """Returns the arguments of the call: every position there is, and no padding."""
    if case == "cross_attention":
        encoder = scattered(2 * 5 * CROSS.n_embd).reshape(2, 5, -1)
        return {"input_ids": np.arange(2 * 16).reshape(2, 16) * 29 % 61, "encoder_hidden_states": encoder}
    if case == "double_heads":
        return {"input_ids": np.arange(2 * 64).reshape(1, 2, 64) * 41 % 95, "mc_token_ids": np.array([[63, 7]])}
    return {"input_ids": np.arange(64).reshape(1, 64) * 41 % 95}


def sha256(folder: Path) -> str:
    """Returns the hash of the file of weights in a folder."""
    return hashlib.sha256((folder / "tf_model.h5").read_bytes()).hexdigest()


def main() -> None:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    import tensorflow as tf
    import tf_keras
    import transformers

    classes = {
        "model": transformers.TFGPT2Model,
        "lm_head": transformers.TFGPT2LMHeadModel,
        "double_heads": transformers.TFGPT2DoubleHeadsModel,
        "sequence_classification": transformers.TFGPT2ForSequenceClassification,
    }
    found, read = {}, {}
    for case, (head, _) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            write(case, Path(folder))
            read[case] = sha256(Path(folder))
            model, report = classes[head].from_pretrained(folder, output_loading_info=True)
        if any(report.values()):
            sys.exit(f"{case}: {report}")
        out = model(**{name: tf.constant(x) for name, x in inputs_of(case).items()}, training=False)
        for field in ("logits", "mc_logits", "last_hidden_state"):
            if field in out:
                found[f"{case}/{field}"] = out[field].numpy()
    OUT.mkdir(exist_ok=True)
    np.savez_compressed(OUT / "outputs.npz", **found)
    made_by = {module.__name__: module.__version__ for module in (transformers, tf, tf_keras)}
    text = json.dumps({"made by": made_by, "sha256": read}, indent=2)
    (OUT / "read.json").write_text(text + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
