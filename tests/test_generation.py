import numpy as np
import pytest

from gpt2_core import GenerationConfig, GPT2Config, GPT2Error, generation
from gpt2_core.generation.bans import history_steps
from gpt2_core.sampling import uniforms
from tests.frameworks import DATA, FRAMEWORKS, Keras, Torch, to_numpy

LM = DATA / "transformers" / "lm_head"
CONFIG = GPT2Config(
    vocab_size=60,
    n_positions=40,
    n_embd=24,
    n_layer=2,
    n_head=3,
    initializer_range=0.4,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=2,
)
ENDLESS = {"eos_token_id": []}


def ids_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(3, CONFIG.vocab_size, shape)


def generated(framework, model, *arguments, **settings):
    return to_numpy(model.generate(*arguments, **settings))


def test_greedy_equals_transformers(framework):
    model = framework.load("lm_head", LM)
    expected = np.load(LM / "generated.npz")
    ids = generated(framework, model, expected["prompt"], max_new_tokens=20, **ENDLESS)
    np.testing.assert_array_equal(ids, expected["greedy"])


def test_greedy_is_the_likeliest_token_after_each_prefix(framework):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    ids = generated(framework, model, ids_of(2, 4), max_new_tokens=8, **ENDLESS)
    for t in range(4, 12):
        logits = framework.run(model, input_ids=ids[:, :t])["logits"][:, -1]
        np.testing.assert_array_equal(ids[:, t], logits.argmax(-1))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_k": 0, "top_p": 0.8},
        {"temperature": 1.3, "top_k": 30, "top_p": 0.9},
    ],
    ids=str,
)
def test_sampled_ids_are_equal_for_100_seeds(settings):
    models = [(f, f.create("lm_head", CONFIG, seed=1)) for f in FRAMEWORKS]
    prompt = ids_of(1, 5)
    different = []
    texts = set()
    for seed in range(100):
        ids = [
            generated(f, m, prompt, do_sample=True, seed=seed, max_new_tokens=6, **ENDLESS, **settings)
            for f, m in models
        ]
        texts.add(ids[0].tobytes())
        if any(not np.array_equal(ids[0], other) for other in ids[1:]):
            different.append(seed)
    assert not different
    assert len(texts) > 50, "sampling hardly varies"


def test_sampled_ids_are_equal_on_the_trained_model(shakespeare):
    models = [(f, f.load("lm_head", shakespeare)) for f in FRAMEWORKS]
    prompt = [list(range(40, 60))]
    for seed in range(20):
        settings = {"do_sample": True, "seed": seed, "top_p": 0.95, "max_new_tokens": 10}
        ids = [generated(f, m, prompt, **settings) for f, m in models]
        assert all(np.array_equal(ids[0], other) for other in ids[1:]), seed


def test_a_sample_follows_the_inverse_cdf(framework):
    """The token at which the summed probabilities, in the order of ids, pass the uniform number."""
    model = framework.create("lm_head", CONFIG, dtype="float64")
    prompt = ids_of(3, 5)
    logits = framework.run(model, input_ids=prompt)["logits"][:, -1]
    for seed in range(20):
        ids = generated(framework, model, prompt, do_sample=True, top_k=0, seed=seed, max_new_tokens=1)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        reached = np.cumsum(p / p.sum(-1, keepdims=True), -1)
        expected = [
            np.searchsorted(row, u, side="right") for row, u in zip(reached, uniforms(seed, 3, 1)[0], strict=True)
        ]
        np.testing.assert_array_equal(ids[:, -1], expected)


def slow_filter(scores, top_k=None, top_p=None):
    """Returns the kept token ids of one row, by sorting pairs: ties go to the lower id."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    if top_k is not None:
        return set(order[:top_k])
    p = np.exp(scores - max(scores))
    p = p / p.sum()
    kept, total = set(), 0.0
    for i in order:
        if kept and total >= top_p:
            break
        kept.add(i)
        total += p[i]
    return kept


@pytest.mark.parametrize(
    "name, value", [("top_k", 1), ("top_k", 4), ("top_k", 11), ("top_p", 1e-9), ("top_p", 0.5), ("top_p", 0.97)]
)
def test_filters_equal_a_slow_one_with_ties_and_minus_infinity(name, value):
    import keras
    import torch

    import gpt2_tf.logits
    import gpt2_torch.logits

    r = np.random.default_rng(0)
    scores = r.integers(-3, 3, (60, 12)) * 1.1  # many ties
    scores[::3] = r.normal(size=(20, 12)) * 3
    scores[::4, 5:8] = -np.inf
    ours = to_numpy(gpt2_torch.logits.STEPS[name](torch.as_tensor(scores), value, 1))
    theirs = to_numpy(gpt2_tf.logits.STEPS[name](keras.ops.convert_to_tensor(scores), value, 1))
    np.testing.assert_array_equal(ours, theirs)
    for row, filtered in zip(scores, ours, strict=True):
        kept = set(np.flatnonzero(filtered > -np.inf).tolist())
        assert kept == {i for i in slow_filter(row, **{name: value}) if row[i] > -np.inf}
        assert all(filtered[i] == row[i] for i in kept)


def test_the_steps_of_the_plan_are_the_functions_of_both_trees():
    import gpt2_tf.logits
    import gpt2_torch.logits

    settings = GenerationConfig(
        do_sample=True, temperature=0.5, top_k=3, top_p=0.5, min_p=0.1, typical_p=0.9, repetition_penalty=1.1,
        suppress_tokens=[4],
    )  # fmt: skip
    plan = generation.plan(CONFIG, settings, {}, [[3]], None, 0)
    steps = [*history_steps(plan, generation.texts_of(plan), None), *plan.steps]
    assert list(gpt2_torch.logits.STEPS) == list(gpt2_tf.logits.STEPS) == [step.name for step in steps]


@pytest.mark.parametrize("sample", [False, True])
def test_a_row_continues_as_it_would_alone(framework, sample):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    prompts = [ids_of(n, seed=n).tolist() for n in (7, 2, 5)]
    settings = {"max_new_tokens": 6, "do_sample": sample, **ENDLESS}
    together = generated(framework, model, prompts, seed=[4, 5, 6], **settings)
    padded_right = np.array([row + [0] * (7 - len(row)) for row in prompts])
    mask = np.array([[1] * len(row) + [0] * (7 - len(row)) for row in prompts])
    from_right = generated(framework, model, padded_right, mask, seed=[4, 5, 6], **settings)
    np.testing.assert_array_equal(together, from_right)
    for row, (prompt, seed) in enumerate(zip(prompts, (4, 5, 6), strict=True)):
        alone = generated(framework, model, [prompt], seed=seed, **settings)[0]
        np.testing.assert_array_equal(together[row, 7 - len(prompt) :], alone)


def test_without_the_cache_the_same_ids(framework):
    model = framework.create("lm_head", CONFIG, dtype="float64")
    prompts = [ids_of(n, seed=n).tolist() for n in (6, 3)]
    settings = {"do_sample": True, "seed": 3, "max_new_tokens": 8, **ENDLESS}
    np.testing.assert_array_equal(
        generated(framework, model, prompts, **settings),
        generated(framework, model, prompts, use_cache=False, **settings),
    )


def test_a_finished_row_is_padded_and_all_finished_stops(framework):
    model = framework.create("lm_head", CONFIG)
    free = generated(framework, model, ids_of(2, 3), max_new_tokens=10, **ENDLESS)
    end = int(free[0, 5])
    stopped = generated(framework, model, ids_of(2, 3), max_new_tokens=10, eos_token_id=[end, 59])
    row = stopped[0].tolist()
    first = row.index(end, 3)
    assert row[: first + 1] == free[0, : first + 1].tolist() and set(row[first + 1 :]) <= {CONFIG.pad_token_id}
    alone = generated(framework, model, ids_of(2, 3)[:1], max_new_tokens=10, eos_token_id=end)
    assert alone.shape[1] == first + 1, "it went on after the only row had ended"


def test_the_empty_prompt_and_flat_lists(framework):
    model = framework.create("lm_head", CONFIG)
    np.testing.assert_array_equal(
        generated(framework, model, max_new_tokens=3),
        generated(framework, model, [CONFIG.bos_token_id], max_new_tokens=3),
    )
    np.testing.assert_array_equal(
        generated(framework, model, [], max_new_tokens=3), generated(framework, model, max_new_tokens=3)
    )


def test_lengths(framework):
    model = framework.create("lm_head", CONFIG)
    assert generated(framework, model, [5, 6], **ENDLESS).shape == (1, 22)
    assert generated(framework, model, [5, 6], max_length=5, **ENDLESS).shape == (1, 5)
    assert generated(framework, model, [5, 6], max_length=5, max_new_tokens=7, **ENDLESS).shape == (1, 9)
    assert generated(framework, model, ids_of(1, 39), **ENDLESS).shape == (1, 40)
    config = GenerationConfig(max_new_tokens=4, eos_token_id=())
    assert generated(framework, model, [5, 6], None, config).shape == (1, 6)
    assert generated(framework, model, [5, 6], None, config, max_new_tokens=5).shape == (1, 7)


def test_prompts_and_settings_in_any_type_of_number(framework):
    import tensorflow as tf
    import torch

    model = framework.create("lm_head", CONFIG)
    settings = {
        "max_new_tokens": np.int64(3),
        "do_sample": np.bool_(True),
        "temperature": np.float32(0.5),
        "top_p": None,
    }
    expected = generated(framework, model, [[5, 6]], max_new_tokens=3, do_sample=True, temperature=0.5, seed=1)
    for prompt in (
        np.array([5, 6], np.uint16),
        [np.int64(5), np.int64(6)],
        (5, 6),
        torch.tensor([[5, 6]]),
        torch.tensor([5, 6]),
        tf.constant([[5, 6]]),
        tf.ragged.constant([[5, 6]]),
    ):
        ids = generated(framework, model, prompt, seed=np.int64(1), **settings)
        np.testing.assert_array_equal(ids, expected)
    for mask in ([1, 1], np.array([[True, True]]), torch.ones(1, 2, dtype=torch.bfloat16)):
        np.testing.assert_array_equal(generated(framework, model, [5, 6], mask, seed=1, **settings), expected)
    eos = int(expected[0, 3])
    for given in (eos, np.int64(eos), [eos], {eos}, np.array([eos]), torch.tensor([eos])):
        assert generated(framework, model, [5, 6], seed=1, eos_token_id=given, **settings).shape == (1, 4)


def test_without_the_cache_every_step_sees_everything(framework):
    model = framework.create("lm_head", CONFIG)
    step = model.step
    for use_cache, widths in ((True, [3, 1]), (False, [3, 4, 5])):
        seen = []
        model.step = lambda new, *rest, seen=seen, **named: seen.append(new.shape[1]) or step(new, *rest, **named)
        model.generate([5, 6, 7], max_new_tokens=len(widths), use_cache=use_cache, **ENDLESS)
        assert seen == widths


def test_16_bit_models_generate(framework):
    for dtype in ("bfloat16", "float16"):
        model = framework.create("lm_head", CONFIG, dtype=dtype)
        assert generated(framework, model, [[5, 6], [7]], do_sample=True, max_new_tokens=3, **ENDLESS).shape == (2, 5)


def test_without_a_seed_each_run_differs(framework):
    model = framework.create("lm_head", CONFIG)
    runs = {generated(framework, model, [5], do_sample=True, max_new_tokens=12, **ENDLESS).tobytes() for _ in range(4)}
    assert len(runs) == 4


def test_one_trace_serves_every_prompt_batch_and_step():
    model = Keras().create("lm_head", CONFIG)
    for batch, length in ((1, 1), (1, 9), (3, 4), (2, 30)):
        model.generate(ids_of(batch, length), max_new_tokens=5, **ENDLESS)
        for temperature in (0.5, 0.7):
            model.generate(ids_of(batch, length), do_sample=True, temperature=temperature, max_new_tokens=5)
        model.generate(ids_of(batch, length), num_beams=2, max_new_tokens=5)
    counts = {key[0]: graph.experimental_get_tracing_count() for key, graph in model._graphs.items()}
    assert counts == {"step": 1, "direct": 1, "process": 1, "pick": 1}


def test_off_the_cpu_the_likeliest_is_found_where_the_scores_are(monkeypatch):
    """The same tokens as by numpy."""
    from gpt2_tf.inference import decoder

    found, run = [], decoder.pick
    monkeypatch.setattr(decoder, "pick", lambda *given: (found.append(1), run(*given))[1])
    model = Keras().create("lm_head", CONFIG)
    expected = model.generate(ids_of(2, 5), max_new_tokens=4, **ENDLESS)
    assert not found
    monkeypatch.setattr(decoder, "on_cpu", lambda: False)
    assert np.array_equal(model.generate(ids_of(2, 5), max_new_tokens=4, **ENDLESS), expected) and len(found) == 4


def test_training_mode_is_refused():
    model = Torch().create("lm_head", CONFIG).train()
    with pytest.raises(GPT2Error, match=r"call eval\(\) first"):
        model.generate([5])


@pytest.mark.parametrize(
    "call, words",
    [
        (dict(temperature=0.0), ["temperature=0.0", "do_sample=False"]),
        (dict(temperature=-1), ["temperature=-1"]),
        (dict(top_p=0.0), ["top_p=0.0", "at most 1"]),
        (dict(top_p=1.5), ["top_p=1.5"]),
        (dict(top_k=-1), ["top_k=-1"]),
        (dict(max_new_tokens=0), ["max_new_tokens=0", "at least 1"]),
        (dict(max_new_tokens=39), ["2 tokens and 39 new ones pass n_positions=40", "at most 38"]),
        (dict(max_length=2), ["max_length=2", "max_new_tokens"]),
        (dict(max_tokens=3), ["no setting 'max_tokens'", "Did you mean"]),
        (dict(input_ids=[[60]]), ["input_ids holds 60", "= 59"]),
        (dict(input_ids=[[0.5]]), ["whole numbers"]),
        (dict(input_ids=[[3] * 40]), ["40 tokens", "n_positions=40"]),
        (dict(attention_mask=[[1]]), ["attention_mask covers [1]"]),
        (dict(do_sample=True, seed=[1, 2]), ["seed lists 2 numbers for 1 rows"]),
        (dict(do_sample=True, seed=-1), ["seed=-1"]),
        (dict(seed="zzz"), ["seed='zzz'"]),
        (dict(do_sample="no"), ["do_sample='no'", "True or False"]),
        (dict(pad_token_id=60, input_ids=[[5], [6, 7]]), ["pad_token_id=60 is no token"]),
        (dict(pad_token_id=-1), ["pad_token_id=-1"]),
        (dict(bos_token_id="x", input_ids=None), ["bos_token_id='x'"]),
        (dict(bos_token_id=60, input_ids=None), ["bos_token_id=60"]),
        (dict(eos_token_id=1.5), ["eos_token_id=1.5"]),
        (dict(eos_token_id="ab"), ["eos_token_id='ab'"]),
        (dict(input_ids=5), ["input_ids must be whole numbers"]),
        (dict(input_ids="hello"), ["input_ids must be whole numbers"]),
        (dict(attention_mask=1), ["attention_mask must have the shape"]),
        (dict(generation_config={"top_k": 3}), ["generation_config is a dict"]),
    ],
    ids=str,
)
def test_bad_settings_raise_the_same_words_before_any_work(call, words):
    said = []
    for framework in FRAMEWORKS:
        model = framework.create("lm_head", CONFIG)
        model.step = None  # any work would fail on this
        with pytest.raises(GPT2Error) as raised:
            model.generate(**{"input_ids": [[5, 6]], **call})
        said.append(str(raised.value))
    assert said[0] == said[1] and all(word in said[0] for word in words), said[0]


def test_uniform_numbers_are_counted_not_drawn():
    table = uniforms(7, rows=3, steps=1000)
    assert table.shape == (1000, 3) and table.dtype == np.float64
    assert ((0 <= table) & (table < 1)).all() and abs(table.mean() - 0.5) < 0.02
    np.testing.assert_array_equal(uniforms(7, 3, 10), table[:10])  # a step's number does not depend on how many follow
    np.testing.assert_array_equal(uniforms(7, 1, 10), table[:10, :1])  # nor a row's on how many rows there are
    np.testing.assert_array_equal(uniforms([9, 7], 2, 10)[:, 1], table[:10, 0])  # a seed per row: as if alone
    assert len(np.unique(table)) == table.size and not np.array_equal(uniforms(8, 1, 10), table[:10, :1])
    # Philox 4x64 with key (7, 0), first word: fixed, so that a seed means the same text for ever
    assert table[0, 0] == (np.random.Philox(key=np.array([7, 0], np.uint64)).random_raw() >> np.uint64(11)) / 2**53
