"""Training as users of either framework do it: gradients computed again, mixed precision, several processes, fit."""

import copy
import dataclasses
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from gpt2_core import GPT2Error
from gpt2_core.outputs import ModelOutput
from gpt2_core.parity import require_close
from gpt2_core.weights import HEADS, weight_specs
from tests.comparing import measured_by_the_largest
from tests.frameworks import EVERYTHING, FRAMEWORKS, RUNNERS, Keras, Torch, flat, objective, to_numpy
from tests.heads import CONFIG, TARGETS, labelled

ROOT = Path(__file__).parent.parent
LEARNERS = list(TARGETS)


def learn_in_training(runner, model, inputs):
    if isinstance(runner, Torch):
        torch.manual_seed(5)
    else:
        model.start_dropout(5)
    return runner.learn(model, training=True, **inputs)


NO_DROPOUT = dict.fromkeys(
    ("embd_pdrop", "attn_pdrop", "resid_pdrop", "summary_first_dropout", "summary_last_dropout", "classifier_dropout"),
    0.0,
)
DROPOUTS = [
    ("lm_head", "embd_pdrop"),
    ("lm_head", "attn_pdrop"),
    ("lm_head", "resid_pdrop"),
    ("double_heads", "summary_first_dropout"),
    ("double_heads", "summary_last_dropout"),
    ("token_classification", "classifier_dropout"),
]


@pytest.mark.parametrize("head, field", DROPOUTS)
def test_each_dropout_acts_in_training_only(framework, head, field):
    still = framework.create(head, dataclasses.replace(CONFIG, **NO_DROPOUT))
    model = framework.create(head, dataclasses.replace(CONFIG, **NO_DROPOUT | {field: 0.5}))
    inputs = labelled(head)[0]
    output = "mc_logits" if head == "double_heads" else "logits"
    quiet = framework.run(model, **inputs)[output]
    np.testing.assert_array_equal(framework.run(model, **inputs)[output], quiet)
    np.testing.assert_array_equal(framework.run(still, training=True, **inputs)[output], quiet)
    noisy = [framework.run(model, training=True, **inputs)[output] for _ in range(2)]
    assert np.abs(noisy[0] - noisy[1]).max() > 0.01 and np.abs(noisy[0] - quiet).max() > 0.01


# Graphs and XLA take seconds to compile, so they see one head
AGAIN = [(runner, head) for runner in RUNNERS for head in HEADS if head == "lm_head" or runner in FRAMEWORKS]


@pytest.mark.parametrize("learner, head", AGAIN, ids=lambda x: getattr(x, "name", x))
def test_gradients_computed_again_are_the_same(learner, head):
    """With every dropout on, and with all that a block is given: a past, an encoder, a head_mask."""
    config = dataclasses.replace(CONFIG, add_cross_attention=True)
    inputs, targets = labelled(head, rows=2) if head != "model" else (labelled("lm_head", rows=2)[0], {})
    rows, r = (4 if head == "double_heads" else 2), np.random.default_rng(1)
    past = tuple(tuple(r.normal(size=(rows, 4, 3, 6)).astype(np.float32) for _ in range(2)) for _ in range(2))
    shape = (2, 2, 5, 24) if head == "double_heads" else (2, 5, 24)
    encoder, head_mask = r.normal(size=shape).astype(np.float32), r.random((2, 4)).astype(np.float32)
    inputs |= targets | {"past_key_values": past, "encoder_hidden_states": encoder, "head_mask": head_mask}
    plain, again = (learner.create(head, config, seed=3) for _ in range(2))
    again.gradient_checkpointing_enable()
    expected, ours = (learn_in_training(learner, model, inputs) for model in (plain, again))
    fields = [name for name in expected[0] if not name.startswith("past")]
    has_cache = [len(fields) < len(run[0]) for run in (expected, ours)]
    assert has_cache == [head not in ("token_classification", "question_answering"), False]  # it must be asked for
    require_close({name: ours[0][name] for name in fields}, {name: expected[0][name] for name in fields}, 1e-6)
    gradients = (measured_by_the_largest(run[1], expected[1], "float32") for run in (ours, expected))
    require_close(*gradients, 1e-5)
    kept = learn_in_training(learner, again, inputs | {"use_cache": True})[0]
    assert "past_key_values.1.3" in kept
    again.gradient_checkpointing_disable()
    require_close(learn_in_training(learner, again, inputs)[0], expected[0], 1e-6)


def test_nothing_is_computed_again_outside_of_training(framework):
    model = framework.create("lm_head", CONFIG)
    ids = labelled("lm_head")[0]["input_ids"]
    expected = framework.run(model, input_ids=ids)
    model.gradient_checkpointing_enable()
    require_close(framework.run(model, input_ids=ids), expected, 0.0)


def test_less_is_kept_for_the_gradients():
    """PyTorch counts what autograd keeps."""
    ids = torch.randint(1, 50, (4, 24))
    kept = {}
    for name in ("plain", "again"):
        model = Torch().create("lm_head", dataclasses.replace(CONFIG, n_layer=6)).train()
        if name == "again":
            model.gradient_checkpointing_enable()
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: (s.append(x.nbytes), x)[1], lambda x: x):
            out = model(ids, labels=ids)
        kept[name] = sum(sizes)
        out.loss.backward()
    assert kept["again"] < kept["plain"] / 5


class TestKeras:
    @pytest.mark.parametrize("head, jit_compile", [*((head, False) for head in LEARNERS), ("double_heads", True)])
    def test_every_head_fits_with_its_own_loss(self, head, jit_compile):
        inputs, targets = labelled(head)
        model = Keras().create(head, CONFIG)
        expected = float(objective(model(**inputs, **targets)))
        model.compile("adam", jit_compile=jit_compile)
        as_targets = targets if len(targets) > 1 else targets["labels"]
        assert model.evaluate(inputs, as_targets, verbose=0) == pytest.approx(expected, rel=1e-5)
        assert model.evaluate({**inputs, **targets}, verbose=0) == pytest.approx(expected, rel=1e-5)
        losses = model.fit(inputs, as_targets, epochs=6, batch_size=4, verbose=0).history["loss"]
        batches = tf.data.Dataset.from_tensor_slices({**inputs, **targets}).batch(4)
        losses += model.fit(batches, epochs=6, verbose=0).history["loss"]
        assert losses[-1] < losses[0]

    @pytest.mark.parametrize("head", LEARNERS)
    def test_every_head_fits_with_a_loss_of_the_user_s(self, head):
        inputs, targets = labelled(head)
        model = Keras().create(head, dataclasses.replace(CONFIG, num_labels=3))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if len(targets) > 1:
            model.compile("adam", loss=dict.fromkeys(targets, loss))
            losses = model.fit(inputs, targets, epochs=6, batch_size=4, verbose=0).history["loss"]
        else:
            model.compile("adam", loss=loss, metrics=["accuracy"])
            history = model.fit(inputs, targets["labels"], epochs=6, batch_size=4, verbose=0).history
            among = model.fit({**inputs, **targets}, epochs=6, batch_size=4, verbose=0).history  # the labels are inputs
            losses = history["loss"] + among["loss"]
            assert all(0 <= x <= 1 for x in history["accuracy"] + among["accuracy"])
        assert losses[-1] < losses[0]

    def test_what_cannot_be_learnt(self):
        inputs, targets = labelled("double_heads")
        model = Keras().create("double_heads", CONFIG)
        model.compile("adam")
        with pytest.raises(GPT2Error, match="does not learn start_positions, but labels, mc_labels"):
            model.fit(inputs, {"start_positions": targets["mc_labels"]}, verbose=0)
        with pytest.raises(GPT2Error, match='need labels: pass them as targets, or as "labels" or "mc_labels"'):
            model.fit(inputs, verbose=0)
        with pytest.raises(GPT2Error, match=r"mc_labels has shape \(8,\)|mc_labels has shape \(None,\)"):
            model.fit(inputs, {"mc_labels": targets["mc_labels"][:, 0]}, verbose=0)
        with pytest.raises(GPT2Error, match="takes no weights: set labels to -100"):
            model.fit(inputs, targets, sample_weight=np.ones(8), verbose=0)
        tuples = Keras().create("double_heads", dataclasses.replace(CONFIG, return_dict=False))
        tuples.compile("adam")
        with pytest.raises(GPT2Error, match="return_dict=True"):
            tuples.fit(inputs, targets, verbose=0)
        trunk = Keras().create("model", CONFIG)
        trunk.compile("adam")
        with pytest.raises(GPT2Error, match="TFGPT2Model has no loss of its own: give compile one"):
            trunk.fit(labelled("lm_head")[0], np.zeros((8, 7, 24)), verbose=0)

    def test_a_trunk_fits_hidden_states(self):
        trunk = Keras().create("model", CONFIG)
        trunk.compile("adam", loss="mse")
        states = np.random.default_rng(0).normal(size=(8, 7, 24))
        losses = trunk.fit(labelled("lm_head")[0], states, epochs=4, verbose=0).history["loss"]
        assert losses[-1] < losses[0]

    @pytest.mark.parametrize("head", HEADS)
    def test_files_predict_and_the_summary(self, head, tmp_path, capsys):
        inputs = labelled(head if head != "model" else "lm_head", rows=5)[0]
        model = Keras().create(head, CONFIG)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        require_close(Keras().run(again, **inputs), Keras().run(model, **inputs), 0.0)
        out = model.predict(inputs, batch_size=2, verbose=0)
        assert isinstance(out, ModelOutput)
        name = out.keys()[0]
        require_close({name: out[name]}, {name: Keras().run(model, **inputs)[name]}, 1e-5)
        if "past_key_values" in out:  # its batches are joined too
            assert out.past_key_values[1][0].shape == (10 if head == "double_heads" else 5, 4, 7, 6)
        model.summary()
        assert f"{model.num_parameters():,}" in capsys.readouterr().out
        assert again.config == model.config

    def test_callbacks(self, tmp_path):
        inputs, targets = labelled("lm_head")
        model = Keras().create("lm_head", dataclasses.replace(CONFIG, **NO_DROPOUT))
        model.compile("adam")
        file = tmp_path / "best.weights.h5"
        saved = keras.callbacks.ModelCheckpoint(file, save_weights_only=True, monitor="loss", save_best_only=True)
        stop = keras.callbacks.EarlyStopping("loss", patience=0, mode="max")  # as soon as it falls
        history = model.fit(
            inputs, targets["labels"], epochs=5, shuffle=False, verbose=0, callbacks=[saved, stop]
        ).history
        assert len(history["loss"]) == 2
        other = Keras().create("lm_head", CONFIG, seed=9)
        other.load_weights(file)
        require_close(Keras().weights(other), Keras().weights(model), 0.0)

    @pytest.mark.parametrize("head", HEADS)
    def test_mixed_precision(self, head, tmp_path):
        inputs, targets = labelled(head) if head != "model" else (labelled("lm_head")[0], {})
        wide = Keras().create(head, CONFIG)
        wide.save_pretrained(tmp_path)
        for model in (
            Keras().create(head, CONFIG, dtype="mixed_bfloat16"),
            Keras().load(head, tmp_path, "mixed_bfloat16"),
        ):
            assert {str(weight.dtype) for weight in model.trainable_variables} == {"float32"}
            out = model(**inputs)
            assert out[0].dtype == "bfloat16"
            require_close({"out": to_numpy(out[0])}, {"out": to_numpy(wide(**inputs)[0])}, 4e-2)
            require_close(Keras().weights(model), Keras().weights(wide), 0.0)
        if targets:
            model.compile("adam")
            losses = model.fit({**inputs, **targets}, epochs=6, verbose=0).history["loss"]
            assert losses[-1] < losses[0]

    def test_the_seed_decides_what_drops(self):
        def losses(seed):
            model = Keras().create("lm_head", dataclasses.replace(CONFIG, embd_pdrop=0.5), seed=seed)
            model.set_weights(Keras().create("lm_head", CONFIG, seed=1).get_weights())
            model.start_dropout(seed)
            model.compile("sgd")
            inputs, targets = labelled("lm_head")
            return model.fit(inputs, targets["labels"], epochs=2, verbose=0, shuffle=False).history["loss"]

        assert losses(1) == losses(1) != losses(2)

    @pytest.mark.parametrize("asked", ["auto", False])
    @pytest.mark.parametrize("head", LEARNERS)
    def test_adam_steps_as_pytorchs_does(self, head, asked):
        """Of words that a batch has several times, too: what their places add up to is squared, not each alone."""
        config = dataclasses.replace(CONFIG, **NO_DROPOUT, tie_word_embeddings=False)
        inputs, targets = labelled(head)
        model, theirs = (runner.create(head, config, seed=3, dtype="float64") for runner in (Keras(), Torch()))
        rate, betas = 2**-7, (0.875, 0.9375)  # Keras rounds them to float32, also for float64
        model.compile(keras.optimizers.Adam(rate, *betas, epsilon=1e-18), jit_compile=asked)
        optimizer = torch.optim.Adam(theirs.train().parameters(), rate, betas, eps=1e-18)
        given = {name: torch.as_tensor(x) for name, x in {**inputs, **targets}.items()}
        for _ in range(3):
            model.train_on_batch({**inputs, **targets})
            optimizer.zero_grad()
            objective(theirs(**given)).backward()
            optimizer.step()
        ours, expected = (runner.weights(x) for runner, x in ((Keras(), model), (Torch(), theirs)))
        # others may have gradients that are rounding alone, of which Adam makes whole steps
        tables = ("transformer.wte.weight", "transformer.wpe.weight")
        require_close({name: ours[name] for name in tables}, {name: expected[name] for name in tables}, 1e-9)

    def test_two_replicas_learn_as_one(self):
        """MirroredStrategy over two logical CPUs, which must be made before TensorFlow starts."""
        done = subprocess.run(
            [sys.executable, ROOT / "tests" / "replicas.py"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.split()[-1] == "equal"


class TestTorch:
    @pytest.mark.parametrize("head", HEADS)
    def test_it_compiles_as_one_graph(self, head):
        inputs, targets = labelled(head) if head != "model" else (labelled("lm_head")[0], {})
        tensors = {name: torch.as_tensor(x) for name, x in {**inputs, **targets}.items()}
        config = dataclasses.replace(CONFIG, add_cross_attention=True)
        model = Torch().create(head, config)
        shape = (8, 2, 3, 24) if head == "double_heads" else (8, 3, 24)
        tensors |= {"encoder_hidden_states": torch.ones(shape), "head_mask": torch.ones(4) / 2}
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        require_close(flat(compiled(**tensors, **EVERYTHING)), flat(model(**tensors, **EVERYTHING)), 0.0)
        model.train().gradient_checkpointing_enable()
        torch.compile(model, fullgraph=True, backend="eager")(**tensors)[0].sum().backward()

    @pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler, and there is no g++")
    def test_inductor_computes_the_same(self):
        inputs, targets = labelled("sequence_classification")
        tensors = {name: torch.as_tensor(x) for name, x in {**inputs, **targets}.items()}
        model = Torch().create("sequence_classification", CONFIG)
        compiled = torch.compile(model, fullgraph=True)
        require_close(flat(compiled(**tensors)), flat(model(**tensors)), 1e-5)

    @pytest.mark.parametrize("head", HEADS)
    def test_copies_pickles_and_state_dicts(self, head, tmp_path):
        inputs = labelled(head if head != "model" else "lm_head")[0]
        config = dataclasses.replace(CONFIG, add_cross_attention=True)
        model = Torch().create(head, config)
        assert list(model.state_dict()) == list(weight_specs(config, head))
        torch.save(model, tmp_path / "model.pt")
        loaded = torch.load(tmp_path / "model.pt", weights_only=False)
        expected = Torch().run(model, **inputs)
        for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
            require_close(Torch().run(again, **inputs), expected, 0.0)
            assert again.config == model.config
            torch.nn.init.zeros_(again.get_input_embeddings().weight)  # of its own
        require_close(Torch().run(model, **inputs), expected, 0.0)
        other = Torch().create(head, config, seed=8)
        other.load_state_dict(model.state_dict(), strict=True)
        require_close(Torch().weights(other), Torch().weights(model), 0.0)

    def test_a_tied_head_s_weight_may_be_in_a_state_dict(self):
        """transformers writes it; one that is not the word table's would be lost."""
        model = Torch().create("lm_head", CONFIG)
        state = Torch().create("lm_head", CONFIG, seed=1).state_dict()
        model.load_state_dict({**state, "lm_head.weight": state["transformer.wte.weight"]})
        require_close(Torch().weights(model), {name: to_numpy(x) for name, x in state.items()}, 0.0)
        with pytest.raises(GPT2Error, match="tie_word_embeddings=False"):
            model.load_state_dict({**state, "lm_head.weight": state["transformer.wte.weight"] + 1})

    def test_autocast_of_every_head(self):
        for head in LEARNERS:
            inputs, targets = labelled(head)
            tensors = {name: torch.as_tensor(x) for name, x in {**inputs, **targets}.items()}
            model = Torch().create(head, CONFIG)
            with torch.autocast("cpu", torch.bfloat16):
                out = model(**tensors)
            objective(out).backward()
            logits = "start_logits" if head == "question_answering" else "logits"
            assert out.loss.dtype == torch.float32 and out[logits].dtype == torch.bfloat16
            assert {weight.grad.dtype for weight in model.parameters() if weight.grad is not None} == {torch.float32}
            expected = Torch().run(model, **{name: x.numpy() for name, x in tensors.items()})
            ours = {name: to_numpy(out[name]) for name in ("loss", logits)}
            require_close(ours, {name: expected[name] for name in ours}, 4e-2)

    def test_two_processes_average_to_the_joined_batch(self):
        done = subprocess.run(
            [sys.executable, ROOT / "tests" / "processes.py"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.split()[-1] == "equal"
