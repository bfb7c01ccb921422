"""One labelled batch for each head, for tests that ask only whether something works for all of them."""

import numpy as np

from gpt2_core import GPT2Config

CONFIG = GPT2Config(
    vocab_size=50, n_positions=24, n_embd=24, n_layer=2, n_head=4, initializer_range=0.1, num_labels=3, pad_token_id=0
)
TARGETS = {
    "lm_head": ("labels",),
    "double_heads": ("labels", "mc_labels"),
    "sequence_classification": ("labels",),
    "token_classification": ("labels",),
    "question_answering": ("start_positions", "end_positions"),
}


def labelled(head, rows=8, T=7, seed=0):
    """Returns (inputs, targets) of a batch."""
    r = np.random.default_rng(seed)
    ids = r.integers(1, 50, (rows, T))
    if head == "double_heads":
        ids = r.integers(1, 50, (rows, 2, T))
        return {"input_ids": ids}, {"labels": ids, "mc_labels": r.integers(0, 3, (rows, 2))}
    if head == "lm_head":
        return {"input_ids": ids}, {"labels": ids}
    if head == "question_answering":
        return {"input_ids": ids}, {name: r.integers(0, T, rows) for name in TARGETS[head]}
    shape = (rows,) if head == "sequence_classification" else (rows, T)
    return {"input_ids": ids}, {"labels": r.integers(0, 3, shape)}
