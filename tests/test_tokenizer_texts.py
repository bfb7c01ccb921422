"""Text to ids and back: both tokenizers against tiktoken and Hugging Face tokenizers, over every kind of text."""

import gc
import random
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import tiktoken.load
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2_core import GPT2Tokenizer, GPT2TokenizerFast
from gpt2_core.assets import GPT2_VOCABULARY
from gpt2_core.tokenizer import byte_level, integers, newer
from gpt2_core.tokenizer import fast as fast_module
from gpt2_core.tokenizer.vocabulary import Vocabulary
from tests.frameworks import DATA

# As tiktoken's own gpt2 encoding has it
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
KINDS = {
    "ascii": lambda draw: chr(draw.randrange(128)),
    "any": lambda draw: chr(draw.choice((draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)))),
    "plane": lambda draw: chr(draw.randrange(1, 17) * 0x10000 + draw.randrange(0x10000)),
    "spaces": lambda draw: draw.choice(" \t\n\r\x0b\x0c\x1c\x85\xa0\u2028\u3000\u200b\x00") * draw.randrange(1, 5),
    "contraction": lambda draw: draw.choice(("'s", "'t", "'LL", "'re", "’s", "'", "'ve", "ll")),
    "combining": lambda draw: chr(draw.randrange(0x300, 0x370)),
    "right to left": lambda draw: chr(draw.randrange(0x590, 0x700)),
    "emoji": lambda draw: draw.choice(("👩🏽‍🚀", "🏳️‍🌈", "🇩🇪", "1️⃣", "🤷")),
    "east": lambda draw: chr(draw.choice((draw.randrange(0x3040, 0xA000), draw.randrange(0xAC00, 0xD7A4)))),
    "new in Unicode": lambda draw: chr(draw.choice(newer.RANGES)[0]),
    "words": lambda draw: draw.choice(("the", " of", "Ġ", "ing", "12", "²", "Ⅷ", "½", " 3", "naïve", "<|endoftext")),
}
BATCHES, SIZE = 8, 25_000


@pytest.fixture(scope="module")
def slow():
    return GPT2Tokenizer.from_pretrained("gpt2")


@pytest.fixture(scope="module")
def fast():
    return GPT2TokenizerFast.from_pretrained("gpt2")


@pytest.fixture(scope="module")
def their_tiktoken(slow, tmp_path_factory):
    """tiktoken's tokenizer, of the ranks that we write."""
    file = tmp_path_factory.mktemp("ranks") / "gpt2.tiktoken"
    slow.save_tiktoken(file)
    ranks = tiktoken.load.load_tiktoken_bpe(str(file))
    return tiktoken.Encoding("ours", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})


@pytest.fixture(scope="module")
def their_tokenizers():
    return tokenizers.ByteLevelBPETokenizer.from_file(
        *(str(GPT2_VOCABULARY / name) for name in ("vocab.json", "merges.txt"))
    )


def random_text(draw):
    kinds = list(KINDS.values())
    return "".join(draw.choice(kinds)(draw) for _ in range(draw.randrange(1, 24)))


@pytest.mark.parametrize("seed", range(BATCHES))
def test_random_strings_of_every_plane(slow, fast, their_tiktoken, their_tokenizers, seed):
    draw = random.Random(seed)
    texts = [random_text(draw) for _ in range(SIZE)]
    assert {ord(character) >> 16 for text in texts for character in text} == set(range(17))
    ids = [fast.encode(text) for text in texts]
    assert ids == [slow.encode(text) for text in texts]
    assert ids == their_tiktoken.encode_ordinary_batch(texts, num_threads=2)
    assert ids == [found.ids for found in their_tokenizers.encode_batch(texts)]
    assert fast.batch_decode(ids) == texts == slow.batch_decode(ids)


def test_every_character_is_of_one_kind_everywhere(slow, fast, their_tiktoken, their_tokenizers):
    """A letter or a digit ends before 've; a sign takes the apostrophe with it."""
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = ["".join(f"{c}'ve\n" for c in characters[start : start + 512]) for start in range(0, len(characters), 512)]
    expected = their_tiktoken.encode_ordinary_batch(texts, num_threads=2)
    assert [found.ids for found in their_tokenizers.encode_batch(texts)] == expected
    for tokenizer in (slow, fast):
        wrong = [text for text, ids in zip(texts, expected, strict=True) if tokenizer.encode(text) != ids]
        assert not wrong, f"{len(wrong)} rows of 512 characters, the first from {ord(wrong[0][0]):x}"


def test_shakespeare(slow, fast, their_tiktoken, their_tokenizers):
    """A part of a play; tests/bench/text_to_ids.py compares all of them."""
    text = (DATA / "shakespeare" / "heldout.txt").read_text(encoding="utf-8")
    ids = fast.encode(text)
    assert ids == slow.encode(text) == their_tiktoken.encode_ordinary(text) == their_tokenizers.encode(text).ids
    assert len(ids) > 1000 and fast.decode(ids) == text


@pytest.mark.parametrize("cores", [2, 3])
def test_large_batches_by_all_cores(slow, monkeypatch, cores):
    """In parts that go to a thread; texts that are not for the engine are found among them; in order."""
    monkeypatch.setattr(fast_module, "_FOR_ALL_CORES", 1000)
    monkeypatch.setattr(fast_module, "_PART", 300)
    monkeypatch.setattr(fast_module, "_PART_OF_CORE", 300)
    monkeypatch.setattr(fast_module, "_cores", lambda: cores)
    draw = random.Random(0)
    apart = ["a\ud800b", "", "\U0003fbfd've", "x" * 2000, "one <|endoftext|>two"]
    texts = [random_text(draw) for _ in range(300)] + apart
    draw.shuffle(texts)
    tokenizer, parts = GPT2TokenizerFast.from_pretrained("gpt2"), []
    given = tokenizer._encoded
    tokenizer._encoded = lambda part: [parts.append(len(part)), given(part)][1]
    for options in {}, {"split_special_tokens": True}:
        assert tokenizer(texts, verbose=False, **options) == slow(texts, verbose=False, **options)
        assert len(parts) > 10 and sum(parts) == len(texts)
        parts.clear()


def test_threads_take_turns(fast):
    """gigatoken raises where a second thread calls it."""
    texts = [f"{i} été, winter and spring. " * 300 for i in range(1200)]
    expected = fast(texts[:300], verbose=False)["input_ids"]
    with ThreadPoolExecutor(3) as pool:
        whole = pool.submit(fast, texts, verbose=False)
        each = pool.map(lambda text: fast.encode(text, verbose=False), texts[:300])
        assert list(each) == whole.result()["input_ids"][:300] == expected


@pytest.mark.parametrize("name", ["cpython", "pypy"])
def test_lists_hold_what_arrays_hold(monkeypatch, name):
    """Python's own numbers, whose references are counted: they stay when the rest is gone."""
    monkeypatch.setattr(integers.sys.implementation, "name", name)
    make = integers.Integers(70_000).list_maker()
    rows = [np.arange(i, 70_000, 7, np.uint32) for i in range(7)] + [np.arange(70_000), np.zeros(0, np.int64)]
    lists = [make(row) for row in rows]
    counts = [sys.getrefcount(lists[0][100])]
    again = make(rows[0])
    counts.append(sys.getrefcount(lists[0][100]))
    same = again[100] is lists[0][100]
    del make, again
    gc.collect()
    counts.append(sys.getrefcount(lists[0][100]))
    assert same and counts == [counts[0], counts[0] + 1, 3]  # in two lists, and an argument
    assert lists == [row.tolist() for row in rows] and {type(i) for row in lists for i in row} == {int}


def test_source_code(slow, fast, their_tiktoken, their_tokenizers):
    """The standard library of Python: all of it by the compiled one, a part by the definition."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files if "site-packages" not in file.parts]
    assert sum(map(len, texts)) > 5_000_000
    ids = fast(texts, return_attention_mask=False, verbose=False)["input_ids"]
    assert ids == their_tiktoken.encode_ordinary_batch(texts, num_threads=2)
    assert ids[::3] == [found.ids for found in their_tokenizers.encode_batch(texts[::3])]
    assert ids[::16] == slow(texts[::16], verbose=False)["input_ids"]
    assert fast.batch_decode(ids) == texts


@settings(max_examples=1500, deadline=None)
@given(st.text(max_size=80) | st.text(st.sampled_from("aé ß\n\t 'sSt1२Ⅷ½.,…♥👩🏽‍🚀한漢אב̈\x00\x7f\xad\r"), max_size=60))
def test_any_text_comes_back(slow, fast, their_tiktoken, text):
    ids = fast.encode(text)
    assert ids == slow.encode(text)
    kept = text.encode("utf-8", "replace").decode()  # lone surrogates become question marks
    assert fast.decode(ids) == slow.decode(ids) == kept
    if "<|endoftext|>" not in text:
        assert ids == their_tiktoken.encode_ordinary(kept)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 50256), max_size=40))
def test_any_ids_become_a_text(slow, fast, their_tiktoken, ids):
    """Lone continuation bytes among them."""
    expected = their_tiktoken.decode(ids)
    assert fast.decode(ids) == slow.decode(np.array(ids, np.int32)) == expected


@pytest.mark.parametrize("kind", (GPT2Tokenizer, GPT2TokenizerFast))
@pytest.mark.parametrize(
    "errors, text",
    [
        ("replace", "a?b? c"),
        ("ignore", "ab c"),
        ("backslashreplace", "a\\ud800b\\udfff c"),
        ("surrogatepass", "a\ud800b\udfff c"),
    ],
)
def test_lone_surrogates_follow_errors(kind, errors, text):
    tokenizer = kind.from_pretrained("gpt2", errors=errors)
    assert tokenizer.decode(tokenizer.encode("a\ud800b\udfff c")) == text
    found = tokenizer("a\ud800b\udfff c", return_offsets_mapping=True)["offset_mapping"]
    assert found[-1] == (4, 6)
    assert tokenizer.encode("a\ud800b\udfff c") == GPT2Tokenizer.from_pretrained("gpt2", errors=errors).encode(
        "a\ud800b\udfff c"
    )


@pytest.mark.parametrize("kind", (GPT2Tokenizer, GPT2TokenizerFast))
def test_a_text_of_which_nothing_is_left(kind):
    tokenizer = kind.from_pretrained("gpt2", errors="ignore")
    found = tokenizer("\ud800<|endoftext|>\udfff a", return_offsets_mapping=True)
    assert found["input_ids"] == [50256, 257] and found["offset_mapping"] == [(1, 14), (15, 17)]
    assert found.word_ids() == [0, 1] and tokenizer("\ud800", return_offsets_mapping=True)["offset_mapping"] == []


@pytest.mark.parametrize("kind", (GPT2Tokenizer, GPT2TokenizerFast))
def test_strict_refuses_lone_surrogates(kind):
    with pytest.raises(UnicodeEncodeError):
        kind.from_pretrained("gpt2", errors="strict").encode("a\ud800")


def test_bytes_beside_text_come_back():
    tokenizer = GPT2Tokenizer.from_pretrained("gpt2", errors="surrogateescape")
    name = b"caf\xe9 \xff.txt".decode("utf-8", "surrogateescape")
    assert tokenizer.decode(tokenizer.encode(name)).encode("utf-8", "surrogateescape") == b"caf\xe9 \xff.txt"


def random_vocabulary(seed):
    """Returns 256 bytes, in any order of ids, and 300 merges of what was made before."""
    draw = random.Random(seed)
    tokens, merges = list(byte_level.byte_symbols()), []
    while len(merges) < 300:
        pair = tuple(draw.choice([*"abcdeĠ", *tokens[256:]]) for _ in range(2))
        if "".join(pair) not in tokens:
            merges.append(pair)
            tokens.append("".join(pair))
    numbers = draw.sample(range(len(tokens) + 50), len(tokens))
    return Vocabulary(dict(zip(tokens, numbers, strict=True)), tuple(merges))


@pytest.mark.parametrize("seed", range(20))
def test_custom_vocabularies(seed):
    vocabulary = random_vocabulary(seed)
    slow, fast = GPT2Tokenizer(vocabulary), GPT2TokenizerFast(vocabulary)
    model = tokenizers.models.BPE(vocab=dict(vocabulary.ids), merges=list(vocabulary.merges))
    theirs = tokenizers.Tokenizer(model)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    draw = random.Random(seed)
    assert fast._engine is not None
    for _ in range(200):
        text = "".join(draw.choice("abcde  é") for _ in range(draw.randrange(1, 120)))
        ids = theirs.encode(text).ids
        assert slow.encode(text) == fast.encode(text) == ids
        assert slow.decode(ids) == fast.decode(ids) == text


def test_merges_in_no_order():
    """`ab` is joined before anything makes its b from c and d: all pairs of a rank are joined before the next is."""
    tokens = [*byte_level.byte_symbols(), "cd", "abcd", "ab"]
    vocabulary = Vocabulary({t: i for i, t in enumerate(tokens)}, (("ab", "cd"), ("c", "d"), ("a", "b")))
    assert not vocabulary.is_in_order()
    fast = GPT2TokenizerFast(vocabulary)
    assert fast._engine is None
    assert fast.tokenize("abcdabcd") == GPT2Tokenizer(vocabulary).tokenize("abcdabcd") == ["abcd", "abcd"]


@pytest.mark.parametrize("kind", (GPT2Tokenizer, GPT2TokenizerFast))
def test_a_vocabulary_that_lacks_bytes(kind):
    tokens = [*"abĠ", "ab", "<|endoftext|>"]
    tokenizer = kind(Vocabulary({t: i for i, t in enumerate(tokens)}, (("a", "b"),)))
    assert tokenizer.encode("ab xa") == [3, 2, 4, 0]
    assert tokenizer("ab xa", return_offsets_mapping=True)["offset_mapping"] == [(0, 2), (2, 3), (3, 4), (4, 5)]


def test_long_words_by_heap_and_by_sweeps(slow):
    draw, ranks = random.Random(0), slow._words.ranks
    for length in (33, 40, 200, 1000):
        for letters in ("a", "ab", "the quick", "abcdefghijklmnopqrstuvwxyz", "=-", "漢字"):
            word = byte_level.to_symbols("".join(draw.choice(letters) for _ in range(length)).encode())
            assert byte_level.merge_by_heap(word, ranks) == byte_level.merge_by_sweeps(word, ranks)


def test_long_words_take_no_square_of_steps(slow):
    """Pairs that are looked up, of words four times as long: about four times as many, and not sixteen."""

    class Counting(dict):
        looked_up = 0

        def get(self, pair, default=None):
            self.looked_up += 1
            return dict.get(self, pair, default)

        def __contains__(self, pair):
            self.looked_up += 1
            return dict.__contains__(self, pair)

    counts = []
    for length in (20_000, 80_000):
        ranks = Counting(slow._words.ranks)
        byte_level.merge("ab" * length, ranks)
        counts.append(ranks.looked_up)
    assert counts[1] < 4.1 * counts[0]
