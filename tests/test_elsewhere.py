"""What we write opens in other people's code and computes the same there.

transformers 5, KerasHub and CTranslate2 read it here; what transformers 4.57 computed in TensorFlow is stored, with the
hash of each file that it read, by tests/data/make_transformers_4.py.
"""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from gpt2_core import GPT2Config, GPT2Tokenizer, convert
from gpt2_core.parity import TOLERANCE, compare, require_close
from gpt2_core.tokenizer.files import tokenizer_files
from gpt2_core.weights import ARCHITECTURES, HEADS
from tests.data import make_transformers_4 as transformers_4
from tests.frameworks import Torch, to_numpy
from tests.matrix import opens

# As KerasHub and CTranslate2 have it, which read few fields of a config; vocab_size is that of the tokenizer beside it
CONFIG = GPT2Config(
    vocab_size=2048, n_positions=24, n_embd=32, n_layer=2, n_head=4, bos_token_id=2047, eos_token_id=2047
)
# Nothing here is a default, so transformers has it from our config.json
ODD = GPT2Config(
    vocab_size=50,
    n_positions=24,
    n_embd=24,
    n_layer=3,
    n_head=2,
    n_inner=40,
    activation_function="silu",
    layer_norm_epsilon=1e-3,
    scale_attn_by_inverse_layer_idx=True,
    pad_token_id=0,
    summary_activation="tanh",
)
# What convert is told
FORMS = {
    "safetensors": {"to": "safetensors"},
    "safetensors in shards": {"to": "safetensors", "max_shard_size": "50KB"},
    "bin": {"to": "torch"},
    "bin in shards": {"to": "torch", "max_shard_size": "50KB"},
}
START = "<|endoftext|>"
DTYPES = ["float64", "float32", "float16", "bfloat16"]
# Of transformers 5, for each head
AUTO_CLASSES = {
    "model": "AutoModel",
    "lm_head": "AutoModelForCausalLM",
    "double_heads": "GPT2DoubleHeadsModel",
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
}


def model_of(config, head="lm_head"):
    """Returns a model in which no tensor is as it began: a bias of zeros and a gain of ones hide mistakes."""
    model, r = Torch().create(head, config, seed=0), np.random.default_rng(0)
    weights = Torch().weights(model)
    Torch().assign(model, {name: x + r.normal(scale=0.3, size=x.shape) for name, x in weights.items()})
    return model


def converted(model, folder, to="safetensors", dtype="float64", tokenizer=None, **options):
    """Returns a new folder that convert wrote, by way of Keras' file, and the model with the numbers that are there."""
    model.save_pretrained(folder / "source", format="keras")
    for file in tokenizer_files(tokenizer) if tokenizer else ():
        shutil.copy(file, folder / "source")
    convert(folder / "source", folder / "new", to, dtype=dtype, **options)
    return folder / "new", model.to(getattr(torch, dtype)).double()


def token_ids(config, shape=(3,)):
    """Returns rows of every position there is, with the first and the last token among them."""
    ids = np.random.default_rng(1).integers(1, config.vocab_size, (*shape, config.n_positions))
    ids[..., 1], ids[..., 2] = 1, config.vocab_size - 1
    return ids


@torch.no_grad()
def logits_of(model, ids):
    return model(input_ids=torch.as_tensor(ids)).logits.numpy()


def nudged(model):
    """Yields each tensor's name while its last column is larger: in c_attn a value's, as a key's may cancel."""
    for name, weight in model.named_parameters():
        before = weight.data.clone()
        weight.data[..., -1] += 0.1
        yield name
        weight.data = before


def opened(transformers_class, folder):
    """Returns transformers' model of a folder, all of whose tensors it found and knew."""
    model, report = transformers_class.from_pretrained(folder, dtype="auto", output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()


class InTransformers:
    name, title, forms, tolerance = "transformers", "transformers 5", FORMS, TOLERANCE["float64"]
    dtypes = DTYPES

    def logits(self, folder, ids):
        transformers = pytest.importorskip("transformers", minversion="5")
        model = opened(transformers.AutoModelForCausalLM, folder)
        assert type(model) is transformers.GPT2LMHeadModel
        assert str(model.dtype) == f"torch.{json.loads((folder / 'config.json').read_text())['dtype']}"
        return logits_of(model.double(), ids)  # exact, so that the smallest difference of a weight shows

    def continued(self, folder, text, tokens):
        transformers = pytest.importorskip("transformers", minversion="5")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        prompt = tokenizer(START + text, return_tensors="pt")
        ids = opened(transformers.AutoModelForCausalLM, folder).generate(
            **prompt, max_new_tokens=tokens, do_sample=False, pad_token_id=0
        )
        return tokenizer.decode(ids[0, 1:])


class InKerasHub:
    name = title = "KerasHub"
    forms, tolerance = ["safetensors", "safetensors in shards"], TOLERANCE["float32"]
    dtypes = DTYPES

    def logits(self, folder, ids):
        keras_hub = pytest.importorskip("keras_hub")
        backbone = keras_hub.models.GPT2Backbone.from_preset(str(folder), dtype="float32")
        hidden = backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
        return to_numpy(backbone.token_embedding(hidden, reverse=True))

    def continued(self, folder, text, tokens):
        keras_hub = pytest.importorskip("keras_hub")
        model = keras_hub.models.GPT2CausalLM.from_preset(str(folder), dtype="float32")
        model.compile(sampler="greedy")
        length = len(model.preprocessor.tokenizer(text)) + 1  # it puts the start token in front itself
        return model.generate(text, max_length=length + tokens, stop_token_ids=None)


class InCTranslate2:
    name = title = "CTranslate2"
    forms, tolerance = FORMS, TOLERANCE["float32"]
    dtypes = DTYPES[1:]  # it has no float64

    def generator(self, folder):
        ctranslate2 = pytest.importorskip("ctranslate2")
        pytest.importorskip("transformers")  # it reads by it
        made = ctranslate2.converters.TransformersConverter(str(folder)).convert(str(folder / "ctranslate2"))
        return ctranslate2.Generator(made, compute_type="float32", intra_threads=1)

    def logits(self, folder, ids):
        """The tokens are given as text: so its vocabulary is in our order."""
        tokenizer = GPT2Tokenizer.from_pretrained(folder)
        rows = [tokenizer.convert_ids_to_tokens(row) for row in ids.tolist()]
        return np.asarray(self.generator(folder).forward_batch(rows))

    def continued(self, folder, text, tokens):
        tokenizer = GPT2Tokenizer.from_pretrained(folder)
        (found,) = self.generator(folder).generate_batch(
            [tokenizer.tokenize(START + text)], max_length=tokens, include_prompt_in_result=False
        )
        return text + tokenizer.decode(found.sequences_ids[0])


READERS = [InTransformers(), InKerasHub(), InCTranslate2()]
each_reader = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)


@pytest.mark.parametrize(
    "reader, form, dtype",
    [pytest.param(r, f, d, id=f"{r.name}-{f}-{d}") for r in READERS for f in r.forms for d in r.dtypes],
)
def test_a_language_model_has_equal_logits(reader, form, dtype, tmp_path, shakespeare, record_property):
    folder, model = converted(model_of(CONFIG), tmp_path, dtype=dtype, tokenizer=shakespeare, **FORMS[form])
    assert ("shards" in form) == (len([*folder.glob("*-of-*")]) > 1)
    ids = token_ids(CONFIG)
    require_close({"logits": reader.logits(folder, ids)}, {"logits": logits_of(model, ids)}, reader.tolerance)
    opens(record_property, f"convert to {FORMS[form]['to']}", reader.title, "lm_head")


@each_reader
def test_a_mistake_in_any_tensor_shows(reader, tmp_path, shakespeare):
    """The comparison above would have failed, whichever tensor was written wrong."""
    folder, model = converted(model_of(CONFIG), tmp_path, tokenizer=shakespeare, dtype="float32")
    ids = token_ids(CONFIG)
    theirs = {"logits": reader.logits(folder, ids)}
    require_close({"logits": logits_of(model, ids)}, theirs, reader.tolerance)
    for name in nudged(model):
        (far,) = compare({"logits": logits_of(model, ids)}, theirs)
        assert not far.within(10 * reader.tolerance), name
    require_close({"logits": logits_of(model, ids)}, theirs, reader.tolerance)


@each_reader
def test_another_file_shows(reader, tmp_path, shakespeare):
    """And it is the file that is compared: with one number in it changed it is another model there."""
    folder, model = converted(model_of(CONFIG), tmp_path, tokenizer=shakespeare, dtype="float32")
    ids = token_ids(CONFIG)
    (file,) = folder.glob("*.safetensors")
    data = bytearray(file.read_bytes())
    assert data[-4:] == model.transformer.ln_f.bias[-1:].detach().float().numpy().tobytes()
    data[-4:] = np.float32(0.5).tobytes()
    file.write_bytes(data)
    with pytest.raises(AssertionError, match="beyond"):
        require_close({"logits": reader.logits(folder, ids)}, {"logits": logits_of(model, ids)}, reader.tolerance)


@each_reader
def test_a_trained_model_goes_on_alike(reader, tmp_path, shakespeare):
    """With the tokenizer that convert took along: text in, text out."""
    convert(shakespeare, tmp_path, dtype="float32")
    tokenizer, prompt = GPT2Tokenizer.from_pretrained(tmp_path), "First Citizen:\nBefore we proceed"
    model = Torch().load("lm_head", tmp_path)
    ids = model.generate(torch.tensor([tokenizer.encode(START + prompt)]), max_new_tokens=20)
    text = tokenizer.decode(ids[0, 1:])
    assert text.startswith(prompt) and len(text) > len(prompt) + 20
    assert reader.continued(tmp_path, prompt, 20) == text


@pytest.mark.parametrize(
    "changes",
    [
        *({"activation_function": name} for name in ("gelu", "gelu_fast", "quick_gelu", "relu", "silu")),
        {"n_inner": 48, "tie_word_embeddings": False},
    ],
    ids=str,
)
def test_what_more_ctranslate2_has_of_a_config(changes, tmp_path, shakespeare):
    config = dataclasses.replace(CONFIG, **changes)
    folder, model = converted(model_of(config), tmp_path, dtype="float32", tokenizer=shakespeare)
    ids = token_ids(config)
    theirs = InCTranslate2().logits(folder, ids)
    require_close({"logits": theirs}, {"logits": logits_of(model, ids)}, InCTranslate2.tolerance)


@pytest.mark.parametrize("head", HEADS)
def test_keras_hub_takes_the_trunk_of_every_head(head, tmp_path, record_property):
    keras_hub = pytest.importorskip("keras_hub")
    folder, model = converted(model_of(CONFIG, head), tmp_path, dtype="float32")
    ids = token_ids(CONFIG)
    backbone = keras_hub.models.GPT2Backbone.from_preset(str(folder))
    hidden = backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    with torch.no_grad():
        expected = getattr(model, "transformer", model)(input_ids=torch.as_tensor(ids)).last_hidden_state
    require_close({"hidden": to_numpy(hidden)}, {"hidden": to_numpy(expected)}, InKerasHub.tolerance)
    opens(record_property, "convert to safetensors", "KerasHub", "model" if head != "lm_head" else head)


# --- transformers 5 alone has the other heads and every field of the config


def call_of(head, cross):
    """Returns the arguments of a call of a model of ODD."""
    if head == "double_heads":
        return {"input_ids": token_ids(ODD, (2, 3)), "mc_token_ids": np.array([[23, 0, 5], [11, 7, 23]])}
    encoder = {"encoder_hidden_states": np.random.default_rng(3).normal(size=(3, 4, ODD.n_embd))}
    return {"input_ids": token_ids(ODD), **(encoder if cross else {})}


@torch.no_grad()
def outputs_of(model, call):
    """Returns name -> array of all that either's model puts out, but for a cache."""
    out = model(**{name: torch.as_tensor(x) for name, x in call.items()}, use_cache=False)
    fields = out.items() if isinstance(out, dict) else zip(out._fields, out, strict=True)
    return {name: x.numpy() for name, x in fields}


each_head = pytest.mark.parametrize(
    "head, changes",
    [
        *((head, {"num_labels": 5} if head != "double_heads" else {}) for head in HEADS),
        ("lm_head", {"tie_word_embeddings": False}),
        ("double_heads", {"tie_word_embeddings": False}),
        ("model", {"add_cross_attention": True}),
        ("lm_head", {"add_cross_attention": True}),
    ],
    ids=str,
)


@pytest.mark.parametrize("form", FORMS)
@each_head
def test_every_head_opens_in_transformers_5(head, changes, form, tmp_path, record_property):
    transformers = pytest.importorskip("transformers", minversion="5")
    folder, model = converted(model_of(dataclasses.replace(ODD, **changes), head), tmp_path, **FORMS[form])
    theirs = opened(getattr(transformers, AUTO_CLASSES[head]), folder)
    assert type(theirs).__name__ == ARCHITECTURES[head]
    call = call_of(head, model.config.add_cross_attention)
    require_close(outputs_of(theirs, call), outputs_of(model, call), TOLERANCE["float64"])
    opens(record_property, f"convert to {FORMS[form]['to']}", "transformers 5", head)


@each_head
def test_a_mistake_in_any_tensor_of_any_head_shows(head, changes, tmp_path):
    transformers = pytest.importorskip("transformers", minversion="5")
    folder, model = converted(model_of(dataclasses.replace(ODD, **changes), head), tmp_path)
    call = call_of(head, model.config.add_cross_attention)
    theirs = outputs_of(opened(getattr(transformers, AUTO_CLASSES[head]), folder), call)
    for name in nudged(model):
        assert max(d.relative for d in compare(outputs_of(model, call), theirs)) > 1e-4, name


# --- transformers 4's TensorFlow, stored


def read_by_transformers_4(case):
    """Returns the hash of the file that transformers 4.57 read, and the outputs that it computed."""
    read = json.loads((transformers_4.OUT / "read.json").read_text())["sha256"][case]
    with np.load(transformers_4.OUT / "outputs.npz") as outputs:
        return read, {name.removeprefix(f"{case}/"): outputs[name] for name in outputs if name.startswith(f"{case}/")}


@pytest.mark.parametrize("case", transformers_4.CASES)
def test_transformers_4_computes_the_same_from_our_tf_h5(case, framework, tmp_path, record_property):
    read, theirs = read_by_transformers_4(case)
    transformers_4.write(case, tmp_path)
    assert transformers_4.sha256(tmp_path) == read, "run tests/data/make_transformers_4.py again"
    model = framework.load(transformers_4.CASES[case][0], tmp_path, "float32")
    ours = framework.run(model, **transformers_4.inputs_of(case))
    require_close({name: ours[name] for name in theirs}, theirs, TOLERANCE["float32"])
    opens(record_property, "convert to tf-h5", "transformers 4.57 TF", transformers_4.CASES[case][0])


@pytest.mark.parametrize("case", transformers_4.CASES)
def test_a_mistake_in_any_tensor_shows_in_transformers_4(case, tmp_path):
    read, theirs = read_by_transformers_4(case)
    transformers_4.write(case, tmp_path)
    inputs, torch_ = transformers_4.inputs_of(case), Torch()
    model = torch_.load(transformers_4.CASES[case][0], tmp_path, "float32")
    for name in nudged(model):
        ours = torch_.run(model, **inputs)
        assert max(d.relative for d in compare({n: ours[n] for n in theirs}, theirs)) > 10 * TOLERANCE["float32"], name
    changed = bytearray((tmp_path / "tf_model.h5").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "tf_model.h5").write_bytes(changed)
    assert transformers_4.sha256(tmp_path) != read
