"""The tokenizer as a Keras layer: eagerly, in graphs, in pipelines, in models, saved and loaded."""

import numpy as np
import pytest

from gpt2_core import GPT2Error, GPT2Tokenizer, GPT2TokenizerFast
from tests.frameworks import DATA

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("strings need TensorFlow", allow_module_level=True)

from gpt2_tf import GPT2Config, TFGPT2LMHeadModel, TFGPT2Tokenizer  # noqa: E402

TEXTS = ["The dog<|endoftext|> wagged  \n twice", "", " é👩🏽‍🚀漢字 naïve   ", "x"]
END = 50256


@pytest.fixture(scope="module")
def tokenizer():
    return GPT2TokenizerFast.from_pretrained("gpt2", pad_token="<|endoftext|>")


def expected(tokenizer, texts=TEXTS, **options):
    return tokenizer(texts, padding="max_length" if "max_length" in options else True, return_tensors="np", **options)


def same(found, reference):
    assert list(found) == ["input_ids", "attention_mask"]
    for name, values in found.items():
        assert values.dtype == tf.int32
        np.testing.assert_array_equal(values.numpy(), reference[name])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("max_length", [None, 3, 30])
def test_equals_the_tokenizer(side, max_length):
    tokenizer = GPT2TokenizerFast.from_pretrained(
        "gpt2", pad_token="<|endoftext|>", padding_side=side, truncation_side=side
    )
    layer = TFGPT2Tokenizer.from_tokenizer(tokenizer, max_length=max_length)
    options = {} if max_length is None else {"max_length": max_length, "truncation": True}
    reference = expected(tokenizer, **options)
    same(layer(TEXTS), reference)
    same(layer(tf.constant(TEXTS)), reference)
    same(tf.function(layer)(tf.constant(TEXTS)), reference)
    same(TFGPT2Tokenizer(tokenizer)(TEXTS, max_length=max_length), reference)


def test_no_retrace_from_length_to_length(tokenizer):
    layer, traces = TFGPT2Tokenizer(tokenizer, max_length=8), []

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def ids(texts):
        traces.append(1)
        return layer(texts)

    for texts in (TEXTS, ["a " * 500], []):
        options = {"max_length": 8, "truncation": True}
        if texts:
            same(ids(tf.constant(texts)), expected(tokenizer, texts, **options))
        else:
            assert ids(tf.constant(texts, tf.string))["input_ids"].shape == (0, 8)
    assert len(traces) == 1


def test_in_a_pipeline_that_trains_a_model(tokenizer):
    layer = TFGPT2Tokenizer(tokenizer, max_length=12)
    texts = [f"{i} bottles of beer<|endoftext|>" for i in range(8)]

    def inputs(batch):
        found = layer(batch)
        return {**found, "labels": tf.where(found["attention_mask"] == 1, found["input_ids"], -100)}

    data = tf.data.Dataset.from_tensor_slices(texts).batch(4, drop_remainder=True).map(inputs)
    assert data.element_spec["input_ids"].shape == (4, 12)
    got = np.concatenate([batch["input_ids"].numpy() for batch in data])
    np.testing.assert_array_equal(got, expected(tokenizer, texts, max_length=12, truncation=True)["input_ids"])
    model = TFGPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=16))
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    history = model.fit(data, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_in_a_functional_model(tokenizer):
    texts = keras.Input((), dtype="string")
    model = keras.Model(texts, TFGPT2Tokenizer(tokenizer, max_length=6)(texts))
    found = model.predict(tf.constant(TEXTS), verbose=0)
    reference = expected(tokenizer, max_length=6, truncation=True)
    np.testing.assert_array_equal(found["input_ids"], reference["input_ids"])


@pytest.mark.parametrize("folder", ["gpt2", DATA / "tokenizers" / "4_57_fast"])
@pytest.mark.parametrize("kind", [GPT2Tokenizer, GPT2TokenizerFast])
def test_saved_within_a_model(tmp_path, folder, kind):
    tokenizer = kind.from_pretrained(folder, pad_token="<|endoftext|>", padding_side="left")
    tokenizer.add_tokens(["<new>"])
    texts = keras.Input((), dtype="string")
    model = keras.Model(texts, TFGPT2Tokenizer(tokenizer, max_length=9)(texts))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    given = tf.constant([*TEXTS, "a<new> <mark>b"])
    for name, values in model(given).items():
        np.testing.assert_array_equal(values, again(given)[name])
    assert (tmp_path / "model.keras").stat().st_size < 60_000


def test_by_name():
    layer = TFGPT2Tokenizer.from_pretrained("gpt2", max_length=4, pad_token_id=0, add_prefix_space=True)
    assert layer(["hello"])["input_ids"].numpy().tolist() == [[23748, 0, 0, 0]]
    assert layer.tokenizer.is_fast and layer.tokenizer.pad_token is None


def test_bytes_that_are_no_text(tokenizer):
    layer = TFGPT2Tokenizer(tokenizer)
    np.testing.assert_array_equal(layer([b"a\xff"])["input_ids"], layer(["a�"])["input_ids"])


def test_bad_input(tokenizer):
    with pytest.raises(GPT2Error, match="need a pad_token_id"):
        TFGPT2Tokenizer.from_pretrained("gpt2")
    with pytest.raises(GPT2Error, match="max_length=0"):
        TFGPT2Tokenizer(tokenizer, max_length=0)
    with pytest.raises(GPT2Error, match=r"shape \(B,\), got \(1, 1\)"):
        TFGPT2Tokenizer(tokenizer)(tf.constant([["a"]]))
