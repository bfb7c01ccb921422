"""A tokenizer's call: every option against transformers' tokenizer, the two classes against each other, bad input."""

import copy
import gc
import importlib
import itertools
import pickle
import warnings

import numpy as np
import pytest
import transformers

from gpt2_core import BatchEncoding, GPT2Error, GPT2Tokenizer, GPT2TokenizerFast
from gpt2_core.assets import GPT2_VOCABULARY
from gpt2_core.tokenizer import AddedToken

KINDS = (GPT2Tokenizer, GPT2TokenizerFast)
END = "<|endoftext|>"
FIRST = ["The dog's tail<|endoftext|> wagged  \n twice", "", " é👩🏽‍🚀漢字 naïve   ", "x"]
SECOND = ["and then it left", "one two", "", "<|endoftext|>y z w v"]
INPUTS = {"batch": (FIRST, None), "pairs": (FIRST, SECOND), "one": (FIRST[0], None), "one pair": (FIRST[2], SECOND[0])}
OPTIONS = {
    "padding": (False, True, "max_length"),
    "truncation": (False, True, "only_first", "only_second"),
    "max_length": (None, 5, 12),
    "stride": (0, 2),
    "return_overflowing_tokens": (False, True),
    "pad_to_multiple_of": (None, 8),
    "add_special_tokens": (False, True),
    "split_special_tokens": (False, True),
}
ASKED = ("token_type_ids", "special_tokens_mask", "offsets_mapping", "length")


@pytest.fixture(params=KINDS, scope="module")
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(kind):
    return kind.from_pretrained("gpt2", pad_token=END)


def theirs(**settings):
    files = {"vocab": str(GPT2_VOCABULARY / "vocab.json"), "merges": str(GPT2_VOCABULARY / "merges.txt")}
    return transformers.GPT2TokenizerFast(**files, pad_token=END, model_max_length=1024, **settings)


def everything(encoding, rows, closely):
    """Returns all that an encoding holds and its methods tell; closely: those of one token, character or word too."""
    found = dict(encoding)
    for row in range(rows):
        found[f"words {row}"], found[f"texts {row}"] = encoding.word_ids(row), encoding.sequence_ids(row)
        if not closely:
            continue
        found[f"tokens {row}"] = encoding.tokens(row)
        for token in range(len(encoding.tokens(row))):
            span = encoding.token_to_chars(row, token)
            found[f"chars {row} {token}"] = span and tuple(span)
        for char in range(0, 12, 3):
            found[f"token of {row} {char}"] = encoding.char_to_token(row, char)
            found[f"word of {row} {char}"] = encoding.char_to_word(row, char)
        for word in range(3):
            found[f"tokens of {row} {word}"] = _tuple(encoding.word_to_tokens(row, word))
            if found[f"tokens of {row} {word}"]:  # transformers' raises a TypeError where there is no such word
                found[f"chars of {row} {word}"] = _tuple(encoding.word_to_chars(row, word))
    return found


def _tuple(span):
    return span and tuple(span)


@pytest.mark.parametrize("sides", list(itertools.product(("left", "right"), repeat=2)), ids="-".join)
@pytest.mark.parametrize("add_bos_token", (False, True))
@pytest.mark.parametrize("add_prefix_space", (False, True))
def test_the_whole_grid(add_prefix_space, add_bos_token, sides):
    """Ids, masks, offsets, words, lengths, or an error, of each option with each other, equal transformers'."""
    settings = dict(add_prefix_space=add_prefix_space, add_bos_token=add_bos_token)
    reference = theirs(**settings)
    reference.padding_side, reference.truncation_side = sides
    slow, fast = (
        kind.from_pretrained("gpt2", pad_token=END, padding_side=sides[0], truncation_side=sides[1], **settings)
        for kind in KINDS
    )
    asked = {f"return_{name}": True for name in ASKED}
    compared = refused = 0
    for chosen in itertools.product(*OPTIONS.values()):
        options = dict(zip(OPTIONS, chosen, strict=True))
        if (options["stride"] and not options["return_overflowing_tokens"]) or (
            options["pad_to_multiple_of"] and not options["padding"]
        ):
            continue
        for name, texts in INPUTS.items():
            if name != "pairs" and (options["split_special_tokens"] or not options["add_special_tokens"]):
                continue
            try:
                found = reference(*texts, **options, **asked)
                expected = everything(found, len(found.encodings), compared % 7 == 0)
            except BaseException as error:  # tokenizers panics, which is no Exception
                if isinstance(error, KeyboardInterrupt):
                    raise
                refused += 1
                for tokenizer in (slow, fast):
                    with pytest.raises(GPT2Error):
                        tokenizer(*texts, **options, **asked)
                continue
            for tokenizer in (slow, fast):
                ours = tokenizer(*texts, **options, **asked)
                assert everything(ours, len(found.encodings), compared % 7 == 0) == expected, (name, options)
                alone = tokenizer(*texts, **options)
                assert dict(alone) == {key: ours[key] for key in alone}
            compared += 1
    assert compared > 700 and refused > 200


def test_words_of_lists(tokenizer, kind):
    """Equal to transformers' where a space goes before each word; without add_prefix_space that one glues them."""
    words = [["he", "wörld", " x", "", "a b", END, "end"], ["one"], []]
    reference = theirs(add_prefix_space=True)(words, is_split_into_words=True, return_offsets_mapping=True)
    found = tokenizer(words, is_split_into_words=True, return_offsets_mapping=True)
    assert found["input_ids"] == reference["input_ids"] and found["offset_mapping"] == reference["offset_mapping"]
    assert [found.word_ids(i) for i in range(3)] == [reference.word_ids(i) for i in range(3)]
    assert tokenizer(words[0], is_split_into_words=True)["input_ids"] == reference["input_ids"][0]
    pair = tokenizer(["a", "b"], ["c"], is_split_into_words=True)
    assert pair.sequence_ids() == [0, 0, 1] and pair.tokens() == ["Ġa", "Ġb", "Ġc"]
    assert tokenizer(["a"], is_split_into_words=True, padding="max_length", max_length=3).word_ids() == [0, None, None]


def test_pairs_as_tuples(tokenizer):
    pairs = list(zip(FIRST, SECOND, strict=True))
    assert tokenizer(pairs) == tokenizer(FIRST, SECOND)
    assert tokenizer.encode("a", "b") == tokenizer("a", "b")["input_ids"] == [64, 65]


def test_arrays_of_texts(tokenizer):
    assert tokenizer(np.array(FIRST)) == tokenizer(tuple(FIRST)) == tokenizer(FIRST)


def test_older_names(tokenizer):
    assert tokenizer.encode_plus("a b") == tokenizer("a b") == {"input_ids": [64, 275], "attention_mask": [1, 1]}
    assert tokenizer.batch_encode_plus(["a b"]) == tokenizer(["a b"])


@pytest.mark.parametrize("name, module", [("np", "numpy"), ("pt", "torch"), ("tf", "tensorflow")])
def test_tensors(tokenizer, name, module):
    pytest.importorskip(module)
    found = tokenizer(FIRST, padding=True, return_tensors=name, return_offsets_mapping=True, return_length=True)
    lists = tokenizer(FIRST, padding=True, return_offsets_mapping=True, return_length=True)
    for key, values in found.items():
        assert type(values).__module__.split(".")[0] == module
        np.testing.assert_array_equal(np.asarray(values), np.array(lists[key]))
    assert tuple(tokenizer("a b", return_tensors=name)["input_ids"].shape) == (1, 2)
    empty = tokenizer("", return_tensors=name)["input_ids"]
    assert tuple(empty.shape) == (1, 0) and "int" in str(empty.dtype)
    again = tokenizer.pad(tokenizer(FIRST), return_tensors=name)
    np.testing.assert_array_equal(np.asarray(again["input_ids"]), np.array(lists["input_ids"]))


def test_a_framework_that_is_missing(tokenizer, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(GPT2Error, match=r'needs torch: pip install "gpt2-duo\[torch\]"'):
        tokenizer("a", return_tensors="pt")


def test_tensors_move_to_a_device(tokenizer):
    pytest.importorskip("torch")
    found = tokenizer(["a b"], return_tensors="pt")
    assert found.to("meta") is found and found.input_ids.device.type == "meta"


@pytest.mark.parametrize("side", ("left", "right"))
def test_padding_what_was_encoded(tokenizer, side):
    """A dict of rows, a list of dicts, one row: as transformers pads them."""
    reference = theirs()
    options = dict(return_special_tokens_mask=True, return_token_type_ids=True)
    rows = [dict(tokenizer(text, **options)) for text in FIRST]
    for more in ({}, {"pad_to_multiple_of": 8}, {"padding": "max_length", "max_length": 30}):
        expected = dict(reference.pad(rows, padding_side=side, **more))
        assert dict(tokenizer.pad(rows, padding_side=side, **more)) == expected
        assert dict(tokenizer.pad(tokenizer(FIRST, **options), padding_side=side, **more)) == expected
    one = tokenizer.pad(tokenizer("a b"), padding="max_length", max_length=3, padding_side=side)
    assert one == dict(reference.pad(reference("a b"), padding="max_length", max_length=3, padding_side=side))
    assert "attention_mask" not in tokenizer.pad({"input_ids": [[1], [2, 3]]}, return_attention_mask=False)
    for wrong in ("abc", {"ids": [1]}, [[1, 2]]):
        with pytest.raises(GPT2Error, match="dicts with input_ids"):
            tokenizer.pad(wrong)


class TestAddedTokens:
    TEXT = "say <A>  hello<A><B>! x<C>y <C> done  <D> e f <|endoftext|>  <E>"

    def tokens(self):
        return [
            AddedToken("<A>", lstrip=True, rstrip=True),
            AddedToken("<B>", special=True, normalized=False),
            AddedToken("<C>", single_word=True),
            AddedToken("<D> e", lstrip=True),
            AddedToken("<D>", rstrip=True),
            "<E>",
        ]

    def test_as_tokenizers_splits(self, kind):
        ours, reference = kind.from_pretrained("gpt2"), theirs()
        given = [t if isinstance(t, str) else transformers.AddedToken(**vars(t)) for t in self.tokens()]
        assert ours.add_tokens(self.tokens()) == reference.add_tokens(given) == 6
        assert ours.add_tokens(self.tokens()) == 0 and len(ours) == len(reference) == 50263
        for split in (False, True):
            options = dict(return_offsets_mapping=True, split_special_tokens=split)
            found, expected = ours(self.TEXT, **options), reference(self.TEXT, **options)
            assert dict(found) == dict(expected)
            assert found.word_ids() == expected.word_ids()
        assert ours.decode(ours.encode("a<E> b")) == "a<E> b"

    def test_many_of_them(self, kind):
        tokenizer = kind.from_pretrained("gpt2")
        assert tokenizer.add_tokens([f"<{n}>" for n in range(1000)]) == 1000
        assert tokenizer.encode("a<7> <999>b") == [64, 50264, 220, 51256, 65]

    def test_special_ones(self, kind):
        tokenizer = kind.from_pretrained("gpt2")
        assert tokenizer.add_special_tokens({"pad_token": "<pad>", "cls_token": "[CLS]", "eos_token": END}) == 2
        assert (tokenizer.pad_token_id, tokenizer.cls_token_id, len(tokenizer)) == (50257, 50258, 50259)
        assert tokenizer.add_special_tokens({"additional_special_tokens": ["<a>", "<b>"]}) == 2
        assert tokenizer.all_special_tokens == [END, "<pad>", "[CLS]", "<a>", "<b>"]
        ids = tokenizer.encode("x<a> [CLS]")
        assert ids == [87, 50259, 220, 50258] and tokenizer.decode(ids, skip_special_tokens=True) == "x "
        assert tokenizer.get_added_vocab() == {END: 50256, "<pad>": 50257, "[CLS]": 50258, "<a>": 50259, "<b>": 50260}
        with pytest.raises(GPT2Error, match="no special token"):
            tokenizer.add_special_tokens({"start_token": "<s>"})

    def test_setting_one(self, kind):
        tokenizer = kind.from_pretrained("gpt2")
        with pytest.raises(GPT2Error, match=r"tokenizer\.pad_token = tokenizer\.eos_token$"):
            tokenizer(["a", "b c"], padding=True)
        with pytest.raises(GPT2Error, match=r"add_special_tokens\({'pad_token': '\[PAD\]'}\)"):
            tokenizer.pad_token = "[PAD]"
        tokenizer.pad_token = tokenizer.eos_token
        assert tokenizer(["a", "b c"], padding=True)["input_ids"] == [[64, 50256], [65, 269]]
        tokenizer.pad_token_id = 0
        assert tokenizer.pad_token == "!" and tokenizer.special_tokens_map["pad_token"] == "!"
        tokenizer.pad_token = None
        assert tokenizer.pad_token_id is None

    def test_text_that_holds_the_end(self, tokenizer):
        assert tokenizer.encode("a" + END) == [64, 50256]
        assert tokenizer.encode("a" + END, split_special_tokens=True) == theirs().encode(
            "a" + END, split_special_tokens=True
        )


def test_a_warning_once_past_the_length_of_the_model(kind):
    tokenizer = kind.from_pretrained("gpt2")
    with pytest.warns(UserWarning, match=r"1500 tokens, and the model takes 1024: pass truncation=True"):
        tokenizer.encode(" a" * 1500)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer(" a" * 1500)
        kind.from_pretrained("gpt2")(" a" * 1500, truncation=True)
    with pytest.warns(UserWarning, match="max_length has texts cut"):
        assert len(tokenizer(" a" * 1500, max_length=7)["input_ids"]) == 7


def test_decoding(tokenizer):
    ids = tokenizer.encode("Hello , world ! It 's 12 . 5 ?")
    assert tokenizer.decode(ids) == "Hello , world ! It 's 12 . 5 ?"
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=True) == "Hello, world! It's 12. 5?"
    assert tokenizer.decode(64) == "a" and tokenizer.decode(np.int64(64)) == "a"
    assert tokenizer.batch_decode(np.array([[64, 65], [50256, 64]]), skip_special_tokens=True) == ["ab", "a"]
    assert tokenizer.convert_ids_to_tokens(220) == "Ġ" and tokenizer.convert_tokens_to_ids("Ġ") == 220
    assert tokenizer.convert_tokens_to_string(["Ġa", "Ã©", END]) == " aé<|endoftext|>"


def test_bos(kind):
    tokenizer = kind.from_pretrained("gpt2", add_bos_token=True)
    assert tokenizer.num_special_tokens_to_add() == 1 and tokenizer.num_special_tokens_to_add(pair=True) == 2
    assert tokenizer.build_inputs_with_special_tokens([1], [2]) == [50256, 1, 50256, 2]
    assert tokenizer.encode("a") == [50256, 64] and tokenizer.encode("a", add_special_tokens=False) == [64]
    assert tokenizer.tokenize("a") == ["a"]


def test_where_tokens_come_from_is_not_told_by_a_changed_tokenizer(kind):
    tokenizer = kind.from_pretrained("gpt2")
    kept, asked = tokenizer("a <x>"), tokenizer("a <x>")
    assert asked.word_ids() == [0, 1, 2, 3]
    tokenizer.add_tokens(["<x>"])
    assert asked.word_ids() == [0, 1, 2, 3] and tokenizer("a <x>").word_ids() == [0, 1, 2]
    with pytest.raises(GPT2Error, match="the tokenizer was changed since this text was encoded"):
        kept.word_ids()


def test_the_collector_goes_on_after_a_call(tokenizer):
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            tokenizer(["a"])
            with pytest.raises(GPT2Error):
                tokenizer([None])
            assert gc.isenabled() is enabled
        finally:
            gc.enable()


def test_what_a_call_returns_travels(tokenizer):
    found = tokenizer(FIRST, return_offsets_mapping=True)
    assert isinstance(found, BatchEncoding) and found.input_ids is found["input_ids"]
    assert found.token_to_sequence(0, 0) == 0 and found.token_to_word(2) == found.token_to_word(0, 2) == 2
    assert found.word_to_tokens(9) is found.word_to_chars(9) is found.char_to_token(99) is None
    there = pickle.loads(pickle.dumps(found))
    assert there == found
    with pytest.raises(GPT2Error, match="in the process that called the tokenizer"):
        there.word_ids()
    with pytest.raises(AttributeError, match="it holds input_ids, attention_mask"):
        found.labels  # noqa: B018
    for ask in (lambda: found.word_ids(9), lambda: found.token_to_chars(0, 99)):
        with pytest.raises(GPT2Error, match=r"row 9: there are 4|token 99: row 0 has"):
            ask()


def test_tokenizers_travel(kind):
    tokenizer = kind.from_pretrained("gpt2", errors="ignore", add_prefix_space=True, padding_side="left")
    tokenizer.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<x>"]})
    data = pickle.dumps(tokenizer)
    assert len(data) < 2000  # GPT-2's own vocabulary does not travel
    for again in (pickle.loads(data), copy.deepcopy(tokenizer)):
        assert again(FIRST, padding=True) == tokenizer(FIRST, padding=True)
        assert again.special_tokens_map == tokenizer.special_tokens_map and again.errors == "ignore"


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "a NoneType is not"),
        (b"abc", "a bytes is not: decode it first"),
        (3, "a int is not"),
        (["a", None], "a NoneType is not"),
        (["a", 2.5], "a float is not"),
        ([["a"], "b"], "a list is not: pass is_split_into_words=True"),
        ([["a", "b"]], "pass is_split_into_words=True"),
        (["a", ("b", "c")], "a tuple is not"),
        ([("a", "b", "c")], "a tuple is not"),
        ({"text": "a"}, "a dict is not"),
    ],
)
def test_texts_that_are_none(tokenizer, text, words):
    for call in (tokenizer, tokenizer.encode):
        with pytest.raises(GPT2Error, match=words):
            call(text)


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(text_pair=["a"]), "text_pair must be"),
        (dict(text_pair=5), "a int is not"),
        (dict(is_split_into_words=True), "a list of words"),
        (dict(padding="longst"), "padding='longst': it must be one of longest, max_length, do_not_pad"),
        (dict(truncation="first"), "truncation='first': it must be one of"),
        (dict(padding_side="top"), "padding_side='top'"),
        (dict(max_length=-1), "max_length=-1: it must be a whole number from 0"),
        (dict(max_length=2.5), "max_length=2.5"),
        (dict(stride=-1), "stride=-1"),
        (dict(pad_to_multiple_of=0), "pad_to_multiple_of=0"),
        (dict(return_tensors="jax"), "return_tensors='jax'"),
        (dict(trunction=True), "'trunction' is no option of a tokenizer's call.*truncation"),
        (dict(truncation=True, max_length=2, stride=2, return_overflowing_tokens=True), "stride=2: it must be less"),
        (dict(truncation="only_second", max_length=1), "needs a second text"),
        (dict(text_pair="b c d", truncation="only_first", max_length=2), "the other text alone has 3 tokens of 2"),
    ],
)
def test_options_that_are_none(tokenizer, options, words):
    with pytest.raises(GPT2Error, match=words):
        tokenizer("a b c", **options)


def test_rows_of_many_lengths_make_no_tensor(tokenizer):
    with pytest.raises(GPT2Error, match="differ in length, so they make no tensor: pass padding=True"):
        tokenizer(["a", "b c"], return_tensors="np")


def test_ids_that_are_none(tokenizer):
    for ids, words in (
        ("12", "one row"),
        ([1.5], "one row"),
        ([True], "one row"),
        ([[1, 2]], "batch_decode takes rows"),
    ):
        with pytest.raises(GPT2Error, match=words):
            tokenizer.decode(ids)
    for ids in ([50257], [-1], [0, 10**12]):
        with pytest.raises(GPT2Error, match=f"id {ids[-1]} is not in the vocabulary of 50257 tokens"):
            tokenizer.decode(ids)
    with pytest.raises(GPT2Error, match="takes rows of ids"):
        tokenizer.batch_decode([1, 2])


def test_settings_that_are_none(kind):
    for settings, words in (
        (dict(errors="replce"), "errors='replce'"),
        (dict(padding_side="middle"), "padding_side='middle'"),
        (dict(pad_token=5), "a token is a text or an AddedToken, got 5"),
        (dict(pad_token=""), "must be a text that is not empty"),
        (dict(bos_token=None, add_bos_token=True), "there is no bos_token"),
    ):
        with pytest.raises(GPT2Error, match=words):
            kind.from_pretrained("gpt2", **settings)("a")
