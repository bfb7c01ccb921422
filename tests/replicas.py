"""Run by test_training: one model on two replicas gives the losses and the weights of one."""

import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent))

import contextlib

import keras
import numpy as np
import tensorflow as tf

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)

import gpt2_tf  # noqa: E402
from gpt2_tf.checkpoint import named_weights  # noqa: E402

CONFIG = gpt2_tf.GPT2Config(
    vocab_size=50, n_positions=12, n_embd=16, n_layer=2, n_head=2, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0
)


def train(strategy):
    ids = np.random.default_rng(0).integers(0, 50, (16, 7))
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = gpt2_tf.TFGPT2LMHeadModel(CONFIG, seed=3)
        model.compile("sgd")
    history = model.fit(ids, ids, batch_size=8, epochs=3, shuffle=False, verbose=0).history["loss"]
    return history, {name: np.asarray(weight) for name, weight in named_weights(model)}


strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
alone, expected = train(None)
together, weights = train(strategy)
np.testing.assert_allclose(together, alone, rtol=1e-5)
assert alone[-1] < alone[0]
for name, x in expected.items():
    np.testing.assert_allclose(weights[name], x, rtol=0, atol=1e-5 * np.abs(x).max())

# of 7 rows in twos the last batch leaves one replica without any
ids = np.random.default_rng(1).integers(0, 50, (7, 5))
for loss in (None, keras.losses.SparseCategoricalCrossentropy(from_logits=True)):
    with strategy.scope():
        model = gpt2_tf.TFGPT2LMHeadModel(CONFIG)
        model.compile("sgd", loss)
    assert np.isfinite(model.fit(ids, ids, batch_size=2, verbose=0).history["loss"]).all()
    assert np.isfinite(model.evaluate(ids, ids, batch_size=2, verbose=0))
print("equal")
