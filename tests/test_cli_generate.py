"""gpt2 generate and gpt2 score, as a user types them."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import gpt2_torch
from gpt2_core import GPT2Config, GPT2Error, GPT2Tokenizer
from gpt2_core.cli import main
from gpt2_core.cli.generate import Writer
from gpt2_core.scoring import chosen, log_probabilities
from tests.test_cli import refused, said

PROMPT = "ROMEO:\nO"


@pytest.fixture(scope="module")
def tokenizer(shakespeare):
    return GPT2Tokenizer.from_pretrained(shakespeare)


@pytest.fixture(scope="module")
def model(shakespeare):
    return gpt2_torch.GPT2LMHeadModel.from_pretrained(shakespeare)


def generated(capfd, *arguments, prompt=PROMPT):
    """Returns what gpt2 generate prints, less the end of its last line."""
    return said(capfd, "generate", "shakespeare", "--prompt", prompt, *arguments).removesuffix("\n")


def in_json(text):
    return [json.loads(line) for line in text.splitlines()]


def expected(model, tokenizer, prompt=PROMPT, **settings):
    ids = model.generate([tokenizer.encode(prompt)], **settings)
    return [tokenizer.decode(row, skip_special_tokens=True) for row in ids.tolist()]


SPELT = {
    "its own names": "--max-new-tokens 20 --temperature 0.7 --top-k 30 --top-p 0.9 --repetition-penalty 1.2 --seed 5",
    "run_generation.py's": "--length 20 --temperature 0.7 --k 30 --p 0.9 --repetition_penalty 1.2 --seed 5",
    "with equals signs": "--length=20 --temperature=0.7 --k=30 --p=0.9 --repetition_penalty=1.2 --seed=5",
}


@pytest.mark.parametrize("tree", ["torch", "tf"])
@pytest.mark.parametrize("spelt", SPELT)
def test_options_reach_generate(capfd, model, tokenizer, spelt, tree):
    settings = {"temperature": 0.7, "top_k": 30, "top_p": 0.9, "repetition_penalty": 1.2}
    text = expected(model, tokenizer, do_sample=True, max_new_tokens=20, seed=[5], **settings)[0]
    assert generated(capfd, *SPELT[spelt].split(), "--framework", tree) == text


OTHERS = {
    "--num-beams 3 --length-penalty 0.5 --early-stopping true": {
        "num_beams": 3, "length_penalty": 0.5, "early_stopping": True},
    "--no-repeat-ngram-size 2 --min-new-tokens 5": {"no_repeat_ngram_size": 2, "min_new_tokens": 5},
    "--prompt-lookup-num-tokens 3": {},
    "--assistant-model shakespeare --num-assistant-tokens 2": {},
    "--min-p 0.2 --typical-p 0.8 --seed 2 --overflow slide": {
        "do_sample": True, "min_p": 0.2, "typical_p": 0.8, "seed": [2], "overflow": "slide"},
}  # fmt: skip


@pytest.mark.parametrize("options", OTHERS)
def test_settings_of_generate(capfd, model, tokenizer, options):
    text = expected(model, tokenizer, max_new_tokens=30, **OTHERS[options])[0]
    assert generated(capfd, "--length", 30, *options.split()) == text


def test_a_stop_token_ends_the_text_and_its_absence_costs_nothing(capfd):
    whole = generated(capfd, "--length", 30)
    assert generated(capfd, "--length", 30, "--stop_token", "no such text") == whole
    cut = generated(capfd, "--length", 30, "--stop_token", ",", "--stop", ".")
    new = whole.removeprefix(PROMPT)
    assert cut == PROMPT + new[: min(new.index(mark) for mark in ",." if mark in new)] != whole
    assert json.loads(generated(capfd, "--length", 30, "--stop", ",", "--stop", ".", "--json"))["text"] in cut


def test_a_prefix_is_read_and_not_printed(capfd, model, tokenizer):
    whole = expected(model, tokenizer, "KING.\n" + PROMPT, max_new_tokens=10)[0]
    assert generated(capfd, "--length", 10, "--prefix", "KING.\n") == whole.removeprefix("KING.\n")


def test_bad_words(capfd):
    plain = generated(capfd, "--length", 30)
    word = next(word for word in plain.removeprefix(PROMPT).split() if word.isalpha())
    assert word not in generated(capfd, "--length", 30, "--bad-word", word).removeprefix(PROMPT).split()


def test_several_texts(capfd, model, tokenizer):
    options = ["--num_return_sequences", 3, "--seed", 4, "--length", 8]
    texts = expected(model, tokenizer, do_sample=True, seed=[4], num_return_sequences=3, max_new_tokens=8)
    found = in_json(generated(capfd, *options, "--json"))
    assert [PROMPT + one["text"] for one in found] == texts and len(set(texts)) > 1
    assert {(one["prompt"], one["seed"]) for one in found} == {(PROMPT, 4)}
    headed = "\n".join(f"=== GENERATED SEQUENCE {n} ===\n{text}" for n, text in enumerate(texts, 1))
    assert generated(capfd, *options) == headed


def test_the_seed_that_was_taken_is_told(capfd):
    options = ["generate", "shakespeare", "--prompt", PROMPT, "--do-sample", "--length", "12"]
    assert main(options) == 0
    out, err = capfd.readouterr()
    seed = err.split("--seed ")[1].split()[0]
    assert said(capfd, *options, "--seed", seed) == out
    assert in_json(said(capfd, *options, "--json"))[0]["seed"] >= 0


@pytest.mark.parametrize("tree", ["torch", "tf"])
def test_a_batch_writes_what_each_prompt_is_given_alone(capfd, tmp_path, tree):
    prompts = ["ROMEO:", "", "A longer prompt than the others,", "JULIET. O"]
    (tmp_path / "prompts.txt").write_bytes("\r\n".join(prompts).encode() + b"\r\n")
    options = ["--length", 12, "--k", 20, "--json", "--framework", tree]
    batch = ["generate", "shakespeare", "--file", tmp_path / "prompts.txt", "--batch", "--seed", 7, *options]
    alone = [in_json(generated(capfd, "--seed", 7 + n, *options, prompt=p))[0] for n, p in enumerate(prompts)]
    assert in_json(said(capfd, *batch)) == alone
    assert in_json(said(capfd, *batch, "--batch-size", 3)) == alone


def test_a_batch_of_prompts_with_unequal_room(capfd, tmp_path):
    lines = ["a " * 240, "b " * 200, "c"]
    (tmp_path / "prompts.txt").write_text("\n".join(lines))
    found = in_json(said(capfd, "generate", "shakespeare", "--file", tmp_path / "prompts.txt", "--batch", "--json"))
    alone = [in_json(generated(capfd, "--json", prompt=line))[0] for line in lines]
    assert found == alone and all(len(one["ids"]) <= 256 for one in found)
    text = said(capfd, "generate", "shakespeare", "--prompt", "A\nB", "--batch", "--length", 3)
    assert text.startswith("=== PROMPT 1 ===\nA") and "\n=== PROMPT 2 ===\nB" in text


def test_lengths(capfd, tmp_path, shakespeare):
    ids = in_json(generated(capfd, "--length", -1, "--json", "--min-new-tokens", 250, prompt="ROMEO"))[0]["ids"]
    assert len(ids) == 256
    assert "ask for at most" in refused(capfd, "generate", "shakespeare", "--prompt", "x", "--length", 300)
    said(capfd, "convert", shakespeare, tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text('{"max_new_tokens": 3, "do_sample": true}')
    command = ["generate", tmp_path / "model", "--prompt", PROMPT, "--json"]
    (found,) = in_json(said(capfd, *command))
    assert len(found["ids"]) == len(GPT2Tokenizer.from_pretrained(shakespeare).encode(PROMPT)) + 3
    assert found["seed"] is not None
    assert in_json(said(capfd, *command, "--no-do-sample"))[0]["seed"] is None


def test_prompts_of_files_and_of_standard_input(capfd, tmp_path):
    text = generated(capfd, "--length", 6)
    (tmp_path / "prompt.txt").write_bytes(PROMPT.encode() + b"\n")
    assert generated_from(capfd, tmp_path / "prompt.txt") == text + "\n"
    command = [sys.executable, "-m", "gpt2_core", "generate", "shakespeare", "--length", "6"]
    done = subprocess.run(command, input=PROMPT + "\n", capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (text + "\n", "")
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    assert "no UTF-8 text" in refused(capfd, "generate", "shakespeare", "--file", tmp_path / "bad.txt")


def generated_from(capfd, file):
    return said(capfd, "generate", "shakespeare", "--file", file, "--length", 6)


def test_fp16_is_float16(capfd):
    assert generated(capfd, "--fp16", "--length", 10) == generated(capfd, "--dtype", "float16", "--length", 10)


def test_text_comes_in_pieces(model, tokenizer):
    writer = Writer(model, tokenizer, {"max_new_tokens": 40})
    pieces = list(writer.pieces(PROMPT))
    ((found,),) = writer([PROMPT])
    assert len(pieces) > 20 and "".join(pieces) == found.text


def test_only_the_text_is_printed_by_keras(capfd):
    """TensorFlow's own lines would stand in the middle of it."""
    command = [sys.executable, "-m", "gpt2_core", "generate", "shakespeare", "--framework", "tf", "--prompt", "O"]
    done = subprocess.run([*command, "--length", "3"], capture_output=True, text=True, check=True)
    assert done.stderr == "" and done.stdout.startswith("O")


@pytest.mark.parametrize(
    "options, message",
    [
        ("--temperature 0", "temperature=0.0: it must be above 0; for the likeliest token"),
        ("--p 1.5", "top_p=1.5: it must be above 0 and at most 1"),
        ("--num-beams 2 --num-return-sequences 3", "num_return_sequences=3 is more than num_beams=2"),
        ("--no-do-sample --k 3", "--no-do-sample and --top-k, which is for drawing"),
        ("--fp16 --dtype float32", "--fp16 and --dtype: which of them?"),
        ("--seed -1", "seed=-1: it must be a whole number"),
        ("--length 0", "max_new_tokens=0: it must be a whole number of at least 1"),
        ("--length -1 --overflow slide", "would never end"),
        ("--batch-size 0", "--batch-size 0: it must be at least 1"),
        ("--prompt-lookup-num-tokens 3 --k 3", "it goes without do_sample"),
        ("--lenght 5", "no option --lenght, see gpt2 generate --help. Did you mean '--length'?"),
        ("another", "'another' is one argument too many"),
        ("--file nofile", "the text is given, and --file too"),
        ("--assistant-model nowhere", "no file or folder 'nowhere'"),
        ("--min-new-tokens 5 --length 3", "min_new_tokens=5 is more than max_new_tokens=3"),
    ],
)
def test_bad_options(capfd, options, message):
    assert message in refused(capfd, "generate", "shakespeare", "--prompt", "x", *options.split())


# --- gpt2 score


def slow_scores(model, ids, window, stride):
    """Returns the log-probability of every token but the first, each by a call of its own."""
    found = []
    for i in range(1, len(ids)):
        start = 0 if i <= window else -(-(i - window) // stride) * stride
        with torch.no_grad():
            logits = model(torch.tensor([ids[start:i]])).logits[0, -1].double()
        found.append(float(torch.log_softmax(logits, 0)[ids[i]]))
    return found


SMALL = GPT2Config(vocab_size=50, n_positions=16, n_embd=24, n_layer=2, n_head=3, initializer_range=0.5)


@pytest.mark.parametrize("length", [2, 15, 16, 17, 18, 40, 65])
@pytest.mark.parametrize("stride", [None, 1, 5, 16])
def test_every_token_is_scored_once_in_its_window(length, stride):
    model = gpt2_torch.GPT2LMHeadModel(SMALL, seed=1).eval().double()
    ids = np.random.default_rng(length).integers(0, 50, length).tolist()

    @torch.no_grad()
    def logits_of(tokens):
        assert len(tokens) <= SMALL.n_positions
        return model(torch.tensor([tokens])).logits[0].numpy()

    found = np.concatenate(list(log_probabilities(logits_of, ids, SMALL.n_positions, stride)))
    np.testing.assert_allclose(found, slow_scores(model, ids, SMALL.n_positions, stride or 8), rtol=1e-12)


def test_chosen_of_many_rows_and_large_numbers():
    logits = np.random.default_rng(0).normal(0, 1, (150, 7)).astype(np.float32) * 1000
    logits[0] = 5e4
    ids = np.random.default_rng(1).integers(0, 7, 150)
    wide = logits.astype(np.longdouble)
    slow = [row[i] - row.max() - np.log(np.exp(row - row.max()).sum()) for row, i in zip(wide, ids, strict=True)]
    np.testing.assert_allclose(chosen(logits, ids), np.array(slow, float), rtol=1e-12, atol=2**-52)
    assert chosen(logits[:1], ids[:1])[0] == pytest.approx(-math.log(7))


def test_stride_must_be_of_the_context():
    with pytest.raises(GPT2Error, match="stride=17: it must be from 1 to the model's n_positions=16"):
        list(log_probabilities(None, [1, 2], 16, 17))


@pytest.mark.parametrize("tree", ["torch", "tf"])
def test_score_is_the_loss_of_the_model(capfd, model, tokenizer, tree):
    text = "To be, or not to be: that is the question.\n"
    command = ["score", "shakespeare", text, "--dtype", "float64", "--framework", tree, "--json"]
    facts = json.loads(said(capfd, *command, "--no-bos"))
    ids = tokenizer.encode(text)
    exact = gpt2_torch.GPT2LMHeadModel.from_pretrained("shakespeare", dtype="float64")
    loss = float(exact(torch.tensor([ids]), labels=torch.tensor([ids])).loss.detach())
    assert facts["perplexity"] == pytest.approx(math.exp(loss), rel=1e-9) and facts["tokens"] == len(ids) - 1
    scores = [one["log_probability"] for one in facts["per_token"]]
    assert scores[0] is None and math.fsum(scores[1:]) == pytest.approx(facts["log_probability"])
    assert "".join(one["text"] for one in facts["per_token"]) == text
    size = len(text.encode()) - len(tokenizer.token_bytes(ids[0]))
    assert facts["bits_per_byte"] == pytest.approx(loss * (len(ids) - 1) / math.log(2) / size)
    with_bos = json.loads(said(capfd, *command))
    assert with_bos["tokens"] == len(ids) and with_bos["per_token"][0]["log_probability"] < 0


def test_score_prints_a_line_a_token(capfd, tmp_path, tokenizer):
    lines = said(capfd, "score", "shakespeare", "ROMEO, é").splitlines()
    assert len(lines) == 2 + len(tokenizer.encode("ROMEO, é")) + 2 and "perplexity" in lines[-1]
    (tmp_path / "text.txt").write_text("Now is the winter of our discontent\n" * 100)
    text = said(capfd, "score", "shakespeare", "--file", tmp_path / "text.txt", "--summary", "--stride", 64)
    assert text.count("\n") == 1
    both = [said(capfd, "score", "shakespeare", "--file", tmp_path / "text.txt", "--summary", "--framework", name)
            for name in ("torch", "tf")]  # fmt: skip
    assert both[0].split(", log")[0] == both[1].split(", log")[0] != text


def test_score_refuses(capfd):
    assert "nothing to score" in refused(capfd, "score", "shakespeare", "")
    assert "nothing to score" in refused(capfd, "score", "shakespeare", "a", "--no-bos")
    assert "stride=300" in refused(capfd, "score", "shakespeare", "some text", "--stride", 300)
    assert "no file or folder" in refused(capfd, "score", "nowhere", "some text")
