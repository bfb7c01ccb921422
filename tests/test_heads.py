"""What each head promises: shapes, pooling, losses, labels, errors."""

import dataclasses

import numpy as np
import pytest

from gpt2_core import GPT2Config
from gpt2_core.config import ACTIVATIONS, SUMMARY_TYPES
from gpt2_core.parity import TOLERANCE, require_close
from gpt2_core.weights import HEADS
from tests import reference
from tests.frameworks import EVERYTHING, Keras, Torch, to_numpy

CONFIG = GPT2Config(
    vocab_size=50, n_positions=24, n_embd=24, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=0, eos_token_id=1
)
EXACT = TOLERANCE["float64"]
B, N, T, C, H, V, L = 2, 3, 7, 24, 4, 50, 2


def ids_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(2, CONFIG.vocab_size, shape)


def changed(**fields):
    return dataclasses.replace(CONFIG, **fields)


class TestDoubleHeads:
    def test_fields_and_shapes(self, framework):
        model = framework.create("double_heads", changed(add_cross_attention=True))
        encoder = np.zeros((B, N, 5, C), np.float32)
        targets = {"labels": ids_of(B, N, T), "mc_labels": [0, 2], "mc_token_ids": ids_of(B, N) % T}
        out = model(ids_of(B, N, T), encoder_hidden_states=encoder, **targets, **EVERYTHING)
        shapes = {
            name: x.shape if hasattr(x, "shape") else x[-1].shape for name, x in out.items() if "past" not in name
        }
        assert {name: tuple(shape) for name, shape in shapes.items()} == {
            "loss": (),
            "mc_loss": (),
            "logits": (B, N, T, V),
            "mc_logits": (B, N),
            "hidden_states": (B, N, T, C),
            "attentions": (B, N, H, T, T),
            "cross_attentions": (B, N, H, T, 5),
        }
        assert [tuple(x.shape) for x in out.past_key_values[0]] == [(B * N, H, T, 6)] * 2 + [(B * N, H, 5, 6)] * 2
        assert list(out.keys())[:4] == ["loss", "mc_loss", "logits", "mc_logits"]

    def test_each_choice_is_a_row_of_the_language_model(self, framework):
        model = framework.create("double_heads", CONFIG, dtype="float64")
        alone = framework.create("lm_head", CONFIG, dtype="float64")
        ids, mask = ids_of(B, N, T), np.ones((B, N, T), np.int64)
        mask[0, 1, 4:] = mask[1, 2, :3] = 0
        run = framework.run(model, input_ids=ids, attention_mask=mask, labels=ids, output_hidden_states=True)
        rows = framework.run(
            alone,
            input_ids=ids.reshape(-1, T),
            attention_mask=mask.reshape(-1, T),
            labels=ids.reshape(-1, T),
            output_hidden_states=True,
        )
        for name in ("loss", "logits", "hidden_states.0", "hidden_states.2", "past_key_values.1.1"):
            require_close({name: run[name].reshape(rows[name].shape)}, {name: rows[name]}, EXACT)

    def test_the_cache_goes_on(self, framework):
        model = framework.create("double_heads", CONFIG, dtype="float64")
        ids = ids_of(B, N, T)
        whole = framework.run(model, input_ids=ids)
        first = framework.run(model, input_ids=ids[..., :4])
        past = tuple(tuple(first[f"past_key_values.{i}.{kv}"] for kv in (0, 1)) for i in range(L))
        rest = framework.run(model, input_ids=ids[..., 4:], past_key_values=past)
        require_close({"logits": rest["logits"]}, {"logits": whole["logits"][..., 4:, :]}, EXACT)
        require_close({"mc_logits": rest["mc_logits"]}, {"mc_logits": whole["mc_logits"]}, EXACT)

    @pytest.mark.parametrize("summary_type", SUMMARY_TYPES)
    @pytest.mark.parametrize("side", ["left", "right"])
    def test_padding_changes_no_score(self, framework, summary_type, side):
        model = framework.create("double_heads", changed(summary_type=summary_type), dtype="float64")
        ids, mask = ids_of(1, 2, T), np.ones((1, 2, T), np.int64)
        kept = slice(3, T) if side == "left" else slice(0, T - 3)
        mask[0, 1] = 0
        mask[0, 1, kept] = 1
        together = framework.run(model, input_ids=ids, attention_mask=mask)["mc_logits"]
        alone = [framework.run(model, input_ids=ids[:, :1])["mc_logits"]]
        alone += [framework.run(model, input_ids=ids[:, 1:, kept])["mc_logits"]]
        require_close({"mc": together}, {"mc": np.concatenate(alone, axis=1)}, EXACT)

    @pytest.mark.parametrize("summary_type", SUMMARY_TYPES)
    @pytest.mark.parametrize(
        "fields",
        [{}, {"summary_use_proj": False}, {"summary_proj_to_labels": False}, {"num_labels": 4}]
        + [{"summary_activation": name} for name in ACTIVATIONS],
        ids=str,
    )
    def test_the_summary_is_what_numpy_says(self, framework, summary_type, fields):
        config = changed(summary_type=summary_type, **fields)
        model = framework.create("double_heads", config, dtype="float64")
        index = ids_of(B, N) % T
        run = framework.run(model, input_ids=ids_of(B, N, T), mc_token_ids=index, output_hidden_states=True)
        x = run[f"hidden_states.{L}"]
        pooled = {
            "first": x[:, :, 0],
            "last": x[:, :, -1],
            "mean": x.mean(axis=2),
            "cls_index": np.take_along_axis(x, index[..., None, None], axis=2)[:, :, 0],
        }[summary_type]
        if config.summary_use_proj:
            weights = framework.weights(model)
            name = "multiple_choice_head.summary"
            pooled = pooled @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        if config.summary_activation:
            pooled = reference.ACTIVATIONS[config.summary_activation](pooled)
        expected = pooled[..., 0] if config.summary_width == 1 else pooled
        require_close({"mc": run["mc_logits"]}, {"mc": expected}, EXACT)

    def test_num_labels_as_configured(self, framework):
        ids, labels = ids_of(B, N, T), np.array([[0, 2, 1], [1, 1, -100]])
        one = framework.run(framework.create("double_heads", CONFIG), input_ids=ids, mc_labels=np.array([2, 0]))
        assert one["mc_logits"].shape == (B, N)
        for config in (changed(num_labels=3), GPT2Config.from_dict({**CONFIG.to_dict(), "num_labels": 3})):
            model = framework.create("double_heads", config, dtype="float64")
            run = framework.run(model, input_ids=ids, mc_labels=labels)
            assert run["mc_logits"].shape == (B, N, 3) and model.config.num_labels == 3
            rows, kept = run["mc_logits"].reshape(-1, 3), labels.ravel() != -100
            picked = rows[kept, labels.ravel()[kept]]
            expected = (np.log(np.exp(rows[kept]).sum(-1)) - picked).mean()
            require_close({"loss": run["mc_loss"]}, {"loss": expected}, EXACT)
        asked = framework.create("double_heads", GPT2Config(**{**SMALL, "num_labels": 2}))
        assert framework.run(asked, input_ids=ids % 20)["mc_logits"].shape == (B, N, 2)

    def test_generate_goes_on_like_the_language_model(self, framework):
        ours, theirs = (framework.create(head, CONFIG) for head in ("double_heads", "lm_head"))
        arguments = {"max_new_tokens": 5, "do_sample": True, "seed": 3}
        np.testing.assert_array_equal(
            *(to_numpy(m.generate(ids_of(2, 4).tolist(), **arguments)) for m in (ours, theirs))
        )


SMALL = {"vocab_size": 20, "n_positions": 12, "n_embd": 8, "n_layer": 1, "n_head": 2, "bos_token_id": 0}


class TestSequenceClassification:
    def pooled_at(self, framework, config, **inputs):
        """Returns the place of each row whose logits the model took."""
        model = framework.create("sequence_classification", config, dtype="float64")
        run = framework.run(model, **inputs, output_hidden_states=True)
        everywhere = run[f"hidden_states.{L}"] @ framework.weights(model)["score.weight"].T
        near = np.abs(everywhere - run["logits"][:, None]).max(-1) < 1e-12
        assert (near.sum(axis=1) == 1).all()
        return near.argmax(axis=1).tolist()

    def test_the_end_of_a_row(self, framework):
        ids = ids_of(4, T)
        mask = np.ones_like(ids)
        mask[0, 4:] = mask[1, :3] = mask[2, [1, 5, 6]] = 0  # right, left, with a hole
        padded = np.where(mask == 1, ids, 9)
        padded[3, 2] = 9  # inside
        rows = np.array([[9, 9, 9, 9, 9, 9, 9], ids[0]])
        both = dataclasses.replace(CONFIG, pad_token_id=1)  # the same as eos_token_id
        assert self.pooled_at(framework, CONFIG, input_ids=ids, attention_mask=mask) == [3, 6, 4, 6]
        assert self.pooled_at(framework, changed(pad_token_id=9), input_ids=padded) == [3, 6, 4, 6]
        assert self.pooled_at(framework, changed(pad_token_id=9), input_ids=rows) == [6, 6]
        assert self.pooled_at(framework, both, input_ids=np.where(mask == 1, ids, 1)) == [3, 6, 4, 6]
        # the mask wins over the padding
        assert (
            self.pooled_at(framework, changed(pad_token_id=9), input_ids=padded, attention_mask=mask * 0 + 1) == [6] * 4
        )
        embeds = np.random.default_rng(0).normal(size=(4, T, C))
        assert self.pooled_at(framework, CONFIG, inputs_embeds=embeds, attention_mask=mask) == [3, 6, 4, 6]
        assert self.pooled_at(framework, CONFIG, inputs_embeds=embeds[:1]) == [6]
        assert self.pooled_at(framework, CONFIG, input_ids=ids[:1]) == [6]
        nothing = np.zeros_like(mask)
        assert np.isfinite(self.pooled_at(framework, CONFIG, input_ids=ids[:1], attention_mask=nothing[:1])).all()

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_a_padded_row_gives_what_it_gives_alone(self, runner, side):
        model = runner.create("sequence_classification", CONFIG, dtype="float64")
        ids, mask = ids_of(2, T), np.ones((2, T), np.int64)
        kept = slice(3, T) if side == "left" else slice(0, T - 3)
        mask[1] = 0
        mask[1, kept] = 1
        together = runner.run(model, input_ids=ids, attention_mask=mask)["logits"]
        alone = runner.run(model, input_ids=ids[1:, kept])["logits"]
        require_close({"logits": together[1:]}, {"logits": alone}, EXACT)

    def test_a_dialogrpt_has_one_label_and_regresses(self, framework):
        model = framework.create("sequence_classification", changed(num_labels=1), dtype="float64")
        assert framework.weights(model)["score.weight"].shape == (1, C)
        mask, labels = np.ones((2, T), np.int64), np.array([0.5, -1.5])
        for shape in ((2,), (2, 1)):
            run = framework.run(model, input_ids=ids_of(2, T), attention_mask=mask, labels=labels.reshape(shape))
            assert run["logits"].shape == (2, 1)
            require_close({"loss": run["loss"]}, {"loss": np.mean((run["logits"][:, 0] - labels) ** 2)}, EXACT)

    @pytest.mark.parametrize(
        "problem, labels",
        [
            (None, [2, 0]),
            (None, [[2], [0]]),
            ("single_label_classification", [2, -100]),
            (None, [[1.0, 0.0, 0.25], [0.0, 1.0, 1.0]]),
            (None, [[1, 0, 0], [0, 1, 1]]),
            ("multi_label_classification", [[True, False, True], [False, False, True]]),
            ("regression", [[0.5, -2.0, 3.0], [1.0, 0.0, 7.5]]),
        ],
        ids=str,
    )
    def test_the_loss_of_each_problem(self, runner, problem, labels):
        config = changed(num_labels=3, problem_type=problem)
        model = runner.create("sequence_classification", config, dtype="float64")
        labels = np.array(labels)
        run = runner.run(model, input_ids=ids_of(2, T), attention_mask=np.ones((2, T), np.int64), labels=labels)
        x = run["logits"]
        if problem == "regression":
            expected = np.mean((x - labels) ** 2)
        elif labels.shape == (2, 3):
            p = 1 / (1 + np.exp(-x))
            expected = -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))
        else:
            kept = labels.ravel() != -100
            expected = np.mean((np.log(np.exp(x).sum(-1)) - x[np.arange(2), labels.ravel() % 3])[kept])
        require_close({"loss": run["loss"]}, {"loss": expected}, EXACT)
        assert model.config is config and config.problem_type == problem  # nothing is written back

    def test_losses_stay_finite_where_the_sigmoid_saturates(self, framework):
        model = framework.create("sequence_classification", changed(num_labels=3, initializer_range=30.0))
        inputs = {"input_ids": ids_of(2, T), "attention_mask": np.ones((2, T), np.int64)}
        run = framework.run(model, **inputs, labels=np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
        assert np.abs(run["logits"]).max() > 100 and np.isfinite(run["loss"])


def test_answers_that_were_cut_off_do_not_count(framework):
    model = framework.create("question_answering", CONFIG, dtype="float64")
    ids, starts, ends = ids_of(3, T), np.array([1, T + 5, -100]), np.array([3, 2, T])
    run = framework.run(model, input_ids=ids, start_positions=starts, end_positions=ends)
    x, y = run["start_logits"], run["end_logits"]
    start = np.log(np.exp(x[0]).sum()) - x[0, 1]
    end = np.mean([np.log(np.exp(y[i]).sum()) - y[i, at] for i, at in ((0, 3), (1, 2))])
    require_close({"loss": run["loss"]}, {"loss": (start + end) / 2}, EXACT)
    assert "past_key_values.0.0" not in run and x.shape == y.shape == (3, T)


def test_tokens_are_told_apart(framework):
    model = framework.create("token_classification", changed(num_labels=5), dtype="float64")
    labels = ids_of(2, T) % 5
    labels[0, :4] = -100
    run = framework.run(model, input_ids=ids_of(2, T), labels=labels, use_cache=True)
    x, kept = run["logits"], labels != -100
    losses = np.log(np.exp(x).sum(-1)) - np.take_along_axis(x, np.abs(labels)[..., None] % 5, -1)[..., 0]
    require_close({"loss": run["loss"]}, {"loss": losses[kept].mean()}, EXACT)
    assert x.shape == (2, T, 5) and "past_key_values.0.0" in run


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("format", ["safetensors", "tf-h5"])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_crosses_over_and_back_bit_for_bit(tmp_path, head, format, dtype):
    config = changed(num_labels=3, add_cross_attention=head in ("model", "double_heads"))
    first = Torch().create(head, config, seed=4, dtype=dtype)
    first.save_pretrained(tmp_path / "a", format=format)
    second = Keras().load(head, tmp_path / "a")
    second.save_pretrained(tmp_path / "b", format=format)
    third = Torch().load(head, tmp_path / "b")
    for ours in (Keras().weights(second), Torch().weights(third)):
        assert list(ours) == list(Torch().weights(first))
        require_close(ours, Torch().weights(first), 0.0)
    assert third.config.num_labels == 3 and third.config.add_cross_attention == config.add_cross_attention
