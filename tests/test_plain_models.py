"""A model is a plain nn.Module, a plain keras.Model: what people do with those works, or says what is wrong."""

import copy
import dataclasses

import keras
import numpy as np
import pytest
import torch

import gpt2_tf
import gpt2_torch
from gpt2_core import GPT2Config, GPT2Error
from gpt2_core.parity import require_close
from tests.frameworks import Keras, Torch, flat, to_numpy

CONFIG = GPT2Config(
    vocab_size=50, n_positions=24, n_embd=24, n_layer=2, n_head=4, initializer_range=0.3, eos_token_id=0, pad_token_id=0
)
R = np.random.default_rng(0)
IDS, CHOICES, CLASSES = R.integers(1, 50, (8, 5)), R.integers(1, 50, (4, 2, 6)), np.array([0, 1] * 4)
MASK = np.ones_like(IDS)


class TorchWithHead(gpt2_torch.GPT2ForSequenceClassification):
    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.extra = torch.nn.Linear(24, 3)
        self.register_buffer("weights", torch.tensor([1.0, 2.0]))


class KerasWithHead(gpt2_tf.TFGPT2ForSequenceClassification):
    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.extra = keras.layers.Dense(3)
        self.extra.build((None, 24))


class TorchWithout(gpt2_torch.GPT2ForSequenceClassification):
    def __init__(self, config):
        super().__init__(config)


class KerasWithout(gpt2_tf.TFGPT2ForSequenceClassification):
    def __init__(self, config):
        super().__init__(config)


@pytest.mark.parametrize("cls", [TorchWithHead, KerasWithHead])
def test_a_subclass_with_weights_of_its_own(cls, tmp_path):
    runner, x = (Torch(), torch.ones(1, 24)) if cls is TorchWithHead else (Keras(), np.ones((1, 24), np.float32))
    plain = runner.create("sequence_classification", CONFIG, seed=3)
    plain.save_pretrained(tmp_path)
    model = cls.from_pretrained(tmp_path)
    expected = runner.run(plain, input_ids=IDS, attention_mask=MASK)
    require_close(runner.run(model, input_ids=IDS, attention_mask=MASK), expected, 0.0)
    assert model.extra(x).shape == (1, 3)
    with pytest.raises(GPT2Error, match="is no GPT2ForSequenceClassification as its config describes it: it has also "):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("cls, words", [(TorchWithout, "no seed"), (KerasWithout, "no seed and no dtype")])
def test_a_subclass_must_hand_on_what_it_is_made_with(cls, words, tmp_path):
    Torch().create("sequence_classification", CONFIG).save_pretrained(tmp_path)
    with pytest.raises(GPT2Error, match=rf"{cls.__name__}.__init__ takes {words}: give it \*\*kwargs"):
        cls.from_pretrained(tmp_path)


def test_a_model_that_lacks_a_layer_is_not_saved(framework, tmp_path):
    model = framework.create("lm_head", dataclasses.replace(CONFIG, tie_word_embeddings=False))
    model.lm_head = None
    with pytest.raises(GPT2Error, match=r"it lacks lm_head\.weight"):
        model.save_pretrained(tmp_path)


class TestTorch:
    def test_functional_transforms(self):
        model, ids = Torch().create("lm_head", CONFIG), torch.as_tensor(IDS)
        weights = dict(model.named_parameters())

        def loss(weights, ids):
            return torch.func.functional_call(model, weights, (ids,), {"labels": ids}).loss

        each = torch.func.vmap(torch.func.grad(lambda w, row: loss(w, row[None])), (None, 0))(weights, ids)
        whole = torch.func.grad(loss)(weights, ids)
        expected = Torch().gradients(model, input_ids=IDS, labels=IDS)
        for name, x in whole.items():
            np.testing.assert_allclose(to_numpy(x), expected[name], rtol=0, atol=1e-5 * np.abs(expected[name]).max())
            mean = to_numpy(each[name]).mean(0)  # every row has as many labels
            np.testing.assert_allclose(mean, expected[name], rtol=0, atol=1e-5 * np.abs(expected[name]).max() + 1e-8)

    def test_autocast_keeps_upcast_scores(self):
        config = dataclasses.replace(CONFIG, reorder_and_upcast_attn=True, scale_attn_weights=False)
        model = Torch().create("lm_head", config)
        for block in model.transformer.h:  # scores beyond what float16 holds
            torch.nn.init.constant_(block.ln_1.weight, 120)
        with torch.autocast("cpu", torch.float16), torch.no_grad():
            assert model(IDS).logits.isfinite().all()

    def test_state_dicts_of_a_module_around_it(self):
        model, around = Torch().create("lm_head", CONFIG, seed=1), torch.nn.Module()
        around.lm = Torch().create("lm_head", CONFIG)
        state = {f"lm.{name}": x for name, x in model.state_dict().items()}
        wte = state["lm.transformer.wte.weight"]
        around.load_state_dict({**state, "lm.lm_head.weight": wte})
        require_close(Torch().weights(around.lm), Torch().weights(model), 0.0)
        around.load_state_dict({"lm.lm_head.weight": wte * 2}, strict=False)  # alone it is the table
        assert torch.equal(around.lm.transformer.wte.weight, wte * 2)
        with pytest.raises(GPT2Error, match="tie_word_embeddings=False"):
            around.load_state_dict({**state, "lm.lm_head.weight": wte + 1})

    def test_arrays_of_every_layout(self):
        model = Torch().create("lm_head", CONFIG)
        expected = Torch().run(model, input_ids=IDS)
        for ids in (IDS[:, ::-1][:, ::-1], IDS.astype(">i4"), np.asfortranarray(IDS)):
            require_close(flat(model(ids)), expected, 0.0)

    def test_compiled_places_that_rows_lack_are_nan(self):
        model = torch.compile(Torch().create("double_heads", CONFIG), backend="eager")
        finite = [model(CHOICES, mc_token_ids=np.full((4, 2), i)).mc_logits.isfinite().all() for i in (5, 6, -1, 99)]
        assert finite == [True, False, False, False]


class TestKeras:
    def test_clones_are_fresh_models(self):
        inputs = keras.Input((None,), dtype="int32")
        model = keras.Model(inputs, Keras().create("sequence_classification", CONFIG)(inputs).logits)
        clone = keras.models.clone_model(model)
        clone.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        losses = clone.fit(IDS, CLASSES, epochs=12, shuffle=False, verbose=0).history["loss"]
        assert losses[-1] < losses[0] / 2
        one = Keras().create("lm_head", CONFIG, seed=4)
        require_close(Keras().weights(type(one).from_config(one.get_config())), Keras().weights(one), 0.0)

    def test_copies_drop_by_the_same_seed(self, tmp_path):
        model = Keras().create("token_classification", CONFIG, seed=7)
        model.save(tmp_path / "a.keras")
        for other in (copy.deepcopy(model), keras.saving.load_model(tmp_path / "a.keras")):
            states = [[to_numpy(x.seeds.state) for x in (m, m.transformer)] for m in (model, other)]
            np.testing.assert_array_equal(*states)
        assert (states[0][0] != states[0][1]).any()

    def test_what_is_added_to_the_loss(self):
        plain, model = (Keras().create("lm_head", CONFIG) for _ in range(2))
        model.transformer.wte.weight.regularizer = keras.regularizers.L2(1.0)
        losses = []
        for m in (plain, model):
            m.compile("sgd")
            losses.append(m.evaluate(IDS, IDS, verbose=0))
        assert losses[1] - losses[0] == pytest.approx(float(model.losses[0]), rel=1e-4) and float(model.losses[0]) > 1

    def test_weights_of_losses_are_refused(self):
        model = Keras().create("double_heads", CONFIG)
        model.compile("sgd", loss_weights={"labels": 2.0, "mc_labels": 1.0})
        with pytest.raises(GPT2Error, match="is the sum of its losses: give compile a loss for each"):
            model.evaluate(CHOICES, {"labels": CHOICES}, verbose=0)

    def test_targets_in_a_list(self):
        model = Keras().create("question_answering", CONFIG)
        model.compile("sgd")
        expected = model.evaluate(IDS, {"start_positions": CLASSES, "end_positions": CLASSES + 1}, verbose=0)
        assert model.evaluate(IDS, [CLASSES, CLASSES + 1], verbose=0) == expected

    @pytest.mark.parametrize("place", ["ids", "labels"])
    def test_types_are_looked_at_in_graphs_too(self, place):
        model = Keras().create("sequence_classification", CONFIG)
        model.compile("sgd")
        x, y = (IDS > 0, CLASSES) if place == "ids" else (IDS, CLASSES > 0)
        with pytest.raises(GPT2Error, match="holds truth values: ids must be whole numbers"):
            model.fit(x, y, verbose=0)
        x, y = (IDS + 0.5, CLASSES) if place == "ids" else (IDS, CLASSES + 0.5)
        assert np.isnan(model.evaluate(x, y, verbose=0))  # whole ones pass, as Keras traces with such
        assert np.isfinite(model.evaluate(IDS.astype("f4"), CLASSES.astype("f4"), verbose=0))

    def test_numbers_of_64_bits_are_not_wrapped(self):
        model = Keras().create("lm_head", CONFIG)
        model.compile("sgd")
        assert np.isnan(model.evaluate(IDS, IDS + 2**32, verbose=0))
        assert np.isnan(model.predict(IDS + 2**32, verbose=0).logits).all()
        cut_off = np.full(8, 2**32 + 1)
        losses = [
            r.run(
                r.create("question_answering", CONFIG), input_ids=IDS, start_positions=cut_off, end_positions=cut_off
            )["loss"]
            for r in (Torch(), Keras())
        ]
        assert np.isnan(losses).all()  # none of them counts

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
    def test_labels_keep_their_type(self, policy):
        config = dataclasses.replace(CONFIG, num_labels=1)
        labels = np.full(8, 1003.0, np.float32)
        losses = [
            Keras().run(model, input_ids=IDS, labels=labels)["loss"]
            for model in (Keras().create("sequence_classification", config, dtype=d) for d in (policy, "float32"))
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # 1003 is 1004 in bfloat16, which is 2e-3

    def test_arguments_mean_what_python_says(self):
        class Own(gpt2_tf.TFGPT2LMHeadModel):
            def call(self, *args, **kwargs):
                return super().call(*args, **kwargs)

        model, mask = Keras().create("lm_head", CONFIG), MASK.copy()
        mask[:, :2] = 0
        expected = Keras().run(model, input_ids=IDS, attention_mask=mask)
        require_close(flat(model({"input_ids": IDS}, None, mask)), expected, 0.0)
        require_close(flat(model(IDS, None, mask)), expected, 0.0)
        assert Own(CONFIG)(IDS).logits.shape == (8, 5, 50)
        with pytest.raises(TypeError, match="multiple values for argument 'input_ids'"):
            model(IDS, input_ids=IDS)
        with pytest.raises(TypeError, match="too many positional arguments"):
            model(IDS, *[None] * 20)

    def test_generate_sees_a_layer_that_was_replaced(self):
        model, other = (Keras().create("lm_head", CONFIG, seed=seed) for seed in (0, 3))
        before = to_numpy(model.generate(IDS[:1], max_new_tokens=8))
        model.transformer.h[0].attn.c_attn = other.transformer.h[0].attn.c_attn
        expected = IDS[:1]
        for _ in range(8):
            logits = Keras().run(model, input_ids=expected)["logits"]
            expected = np.concatenate([expected, logits[:, -1:].argmax(-1)], axis=1)
        np.testing.assert_array_equal(to_numpy(model.generate(IDS[:1], max_new_tokens=8)), expected)
        assert (before != expected).any()
