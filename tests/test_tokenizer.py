import hashlib
import json
import pickle
import sysconfig
from pathlib import Path

import pytest
import regex
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2_core import GPT2Error, GPT2Tokenizer
from gpt2_core.assets import GPT2_VOCABULARY
from gpt2_core.tokenizer import byte_level
from gpt2_core.tokenizer.vocabulary import Vocabulary

# As OpenAI published them; the sums that tiktoken checks too
SHA256 = {
    "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


@pytest.fixture(scope="module")
def gpt2():
    return GPT2Tokenizer.from_pretrained("gpt2")


@pytest.fixture(scope="module")
def theirs():
    files = [str(GPT2_VOCABULARY / name) for name in SHA256]
    tokenizer = tokenizers.ByteLevelBPETokenizer.from_file(*files)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def toy():
    """Returns a tokenizer of 256 bytes, two merges and <|endoftext|>."""
    tokens = [*byte_level.byte_symbols(), "he", "Ġw", "<|endoftext|>"]
    return GPT2Tokenizer(Vocabulary({t: i for i, t in enumerate(tokens)}, (("h", "e"), ("Ġ", "w"))))


def test_the_vocabulary_is_the_published_one(gpt2):
    for name, expected in SHA256.items():
        assert hashlib.sha256((GPT2_VOCABULARY / name).read_bytes()).hexdigest() == expected
    assert len(gpt2) == gpt2.vocab_size == 50257 and len(gpt2.vocabulary.merges) == 50000
    assert gpt2.eos_token_id == gpt2.bos_token_id == 50256 and gpt2.pad_token_id is None


def test_published_ids(gpt2):
    assert gpt2.encode("hello world") == [31373, 995]
    assert gpt2.encode("The dog") == [464, 3290]
    assert gpt2.encode("") == [] and gpt2.decode([]) == ""
    assert gpt2.tokenize(" don't") == ["Ġdon", "'t"]


def test_ids_equal_the_tokenizers_library_on_source_code(gpt2, theirs):
    folder = Path(sysconfig.get_paths()["stdlib"])
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*.py"))[::12]]
    texts += [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py")]
    assert sum(map(len, texts)) > 200_000
    for text in texts:
        assert gpt2.encode(text) == theirs.encode(text).ids
        assert gpt2.decode(gpt2.encode(text)) == text


UNUSUAL = st.text(st.sampled_from("aé ß\n\t  　'sSt1२Ⅷ½.,…‽♥👩🏽‍🚀한漢אب̈\x00\x7f\xad�𝒳\r"), max_size=40)


@settings(max_examples=1500, deadline=None)
@given(st.text(max_size=60) | UNUSUAL)
def test_any_text_comes_back_and_ids_equal_the_library_s(gpt2, theirs, text):
    text = regex.sub(r"\p{Cs}", "", text)
    ids = gpt2.encode(text)
    assert gpt2.decode(ids) == text
    if (
        regex.search(r"\p{Cn}|\p{Co}", text) is None
    ):  # what is a letter in the newest Unicode differs by library version
        assert ids == theirs.encode(text).ids


def test_special_tokens_are_one_id(gpt2):
    assert gpt2.encode("he<|endoftext|> he") == [258, 50256, 339]
    assert gpt2.decode([258, 50256, 339]) == "he<|endoftext|> he"
    assert gpt2.decode([258, 50256, 339], skip_special_tokens=True) == "he he"


def test_bytes_that_are_no_text(gpt2):
    start = gpt2.convert_tokens_to_ids([byte_level.byte_symbols()[0xC3]])  # the first byte of "é" alone
    assert gpt2.decode(start) == "�"
    strict = GPT2Tokenizer.from_pretrained("gpt2", errors="strict")
    with pytest.raises(UnicodeDecodeError):
        strict.decode(start)


def test_options():
    tokenizer = toy()
    assert tokenizer.tokenize("he world") == ["he", "Ġw", "o", "r", "l", "d"]
    prefixed = GPT2Tokenizer(tokenizer.vocabulary, add_prefix_space=True, add_bos_token=True)
    assert prefixed.convert_ids_to_tokens(prefixed.encode("w")) == ["<|endoftext|>", "Ġw"]
    assert prefixed.tokenize(" w") == ["Ġw"]


def test_pickles(gpt2):
    tokenizer = GPT2Tokenizer(toy().vocabulary, add_bos_token=True)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode("he world") == tokenizer.encode("he world") and again.add_bos_token


def test_saving_and_loading(tmp_path, gpt2):
    tokenizer = GPT2Tokenizer(toy().vocabulary, pad_token="<|endoftext|>", add_prefix_space=True, errors="strict")
    files = tokenizer.save_pretrained(tmp_path / "a")
    assert {path.name for path in files} == {path.name for path in (tmp_path / "a").iterdir()}
    again = GPT2Tokenizer.from_pretrained(tmp_path / "a")
    assert again.vocabulary == tokenizer.vocabulary and again.get_vocab() == tokenizer.get_vocab()
    assert (again.pad_token, again.add_prefix_space, again.errors) == ("<|endoftext|>", True, "strict")
    assert GPT2Tokenizer.from_pretrained(tmp_path / "a", add_prefix_space=False).add_prefix_space is False
    vocab, merges = gpt2.save_vocabulary(tmp_path, "x")
    assert Path(vocab).name == "x-vocab.json"
    assert Path(merges).read_text(encoding="utf-8") == (GPT2_VOCABULARY / "merges.txt").read_text(encoding="utf-8")
    theirs = tokenizers.ByteLevelBPETokenizer.from_file(vocab, merges)
    assert theirs.encode("hello world").ids == [31373, 995]


@pytest.mark.parametrize("text", ["#version: 0.2\nh e\nĠ w\n", "h e\nĠ w", "#version: 0.2\r\nh e\r\nĠ w\r\n"])
def test_no_merge_is_lost_without_header_or_last_line_break(tmp_path, text):
    toy().save_pretrained(tmp_path)
    (tmp_path / "merges.txt").write_bytes(text.encode())
    assert GPT2Tokenizer.from_pretrained(tmp_path).vocabulary.merges == (("h", "e"), ("Ġ", "w"))


def test_settings_as_transformers_writes_them(tmp_path):
    toy().save_pretrained(tmp_path)
    token = {"__type": "AddedToken", "content": "<|endoftext|>", "lstrip": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": token, "model_max_length": 1024}))
    assert GPT2Tokenizer.from_pretrained(tmp_path).pad_token_id == 258


def test_bad_input(tmp_path, gpt2):
    for text in (None, b"hello", 3, {"a"}):
        with pytest.raises(GPT2Error, match=f"text must be a str.* a {type(text).__name__} is not"):
            gpt2.encode(text)
    for ids in ("12", [1.5], [[1, 2]]):
        with pytest.raises(GPT2Error, match="one row of whole numbers"):
            gpt2.decode(ids)
    with pytest.raises(GPT2Error, match="id 50257 is not in the vocabulary"):
        gpt2.decode([50257])
    with pytest.raises(GPT2Error, match="'nothing' is not in the vocabulary"):
        GPT2Tokenizer(toy().vocabulary, unk_token=None).convert_tokens_to_ids(["nothing"])
    with pytest.raises(GPT2Error, match="no folder"):
        GPT2Tokenizer.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(GPT2Error, match=r"holds no vocab\.json"):
        GPT2Tokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "file, text, words",
    [
        ("merges.txt", "x yy\n", "do not belong together"),
        ("merges.txt", "#version\nh e o\n", "line 2"),
        ("vocab.json", "{", "not valid JSON"),
        ("vocab.json", '{"a": "b"}', "whole numbers"),
        ("vocab.json", '{"a": 1, "b": 1}', "one id to two tokens"),
    ],
)
def test_damaged_files(tmp_path, file, text, words):
    toy().save_pretrained(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(GPT2Error, match=words):
        GPT2Tokenizer.from_pretrained(tmp_path)
