"""Long texts to files of ids, vocabularies learnt from texts, and the command for both."""

import io
import json
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import tokenizers

from gpt2_core import GPT2Error, GPT2Tokenizer, GPT2TokenizerFast
from gpt2_core.cli import main
from gpt2_core.tokenizer import AddedToken, engine, streaming
from gpt2_core.tokenizer.training import train_vocabulary

KINDS = (GPT2Tokenizer, GPT2TokenizerFast)
VERSE = "To be, or not to be: that is the question:\nWhether 'tis nobler in the mind to suffer\n\n"
SIGNS = [
    "a",
    "the ",
    " \n",
    "\n\n ",
    "  ",
    "'s",
    "12",
    "漢",
    "👩🏽‍🚀",
    "<|endoftext|>",
    "<end of>",
    "<r>",
    "<l>",
    "\t",
    "\x1c",
    ".",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("add_prefix_space", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_parts_together_are_the_whole(kind, add_prefix_space, seed):
    """Wherever a text is read up to: within words, runs of spaces, added tokens that hold or take spaces."""
    tokenizer = kind.from_pretrained("gpt2", add_prefix_space=add_prefix_space)
    tokenizer.add_tokens(["<end of>", AddedToken("<r>", rstrip=True), AddedToken("<l>", lstrip=True)])
    draw = random.Random(seed)
    for _ in range(60):
        text = "".join(draw.choice(SIGNS) for _ in range(draw.randrange(60)))
        piece = draw.randrange(1, 30)
        parts = list(streaming.ids_of_text(tokenizer, io.StringIO(text, newline="").read, piece, end=True))
        assert np.concatenate(parts).tolist() == [*tokenizer.encode(text), 50256], (text, piece)


def test_a_text_is_cut_into_many_parts():
    tokenizer = GPT2TokenizerFast.from_pretrained("gpt2")
    parts = list(streaming.ids_of_text(tokenizer, io.StringIO(VERSE * 100).read, 500))
    assert len(parts) > 15 and max(map(len, parts)) < 200


def test_files_to_ids(tmp_path, capsys):
    """Line breaks of Windows stay; ids of 50,257 tokens take two bytes each."""
    texts = [VERSE * 30, "one\r\ntwo<|endoftext|> é", ""]
    names = [tmp_path / f"{i}.txt" for i in range(3)]
    for name, text in zip(names, texts, strict=True):
        name.write_bytes(text.encode())
    out = tmp_path / "ids.npy"
    assert main(["tokenize", *map(str, names), "--out", str(out), "--eos", "--json"]) == 0
    ids = np.load(out, mmap_mode="r")
    tokenizer = GPT2Tokenizer.from_pretrained("gpt2")
    assert ids.dtype == np.uint16 and ids.tolist() == [
        i for text in texts for i in (*tokenizer.encode(text, verbose=False), 50256)
    ]
    facts = json.loads(capsys.readouterr().out)
    assert (facts["tokens"], facts["bytes"], facts["dtype"]) == (
        len(ids),
        sum(len(t.encode()) for t in texts),
        "uint16",
    )
    assert main(["tokenize", str(names[1])]) == 0
    assert capsys.readouterr().out.split() == [str(i) for i in tokenizer.encode(texts[1])]


def test_many_tokens_take_four_bytes(tmp_path):
    tokenizer = GPT2Tokenizer.from_pretrained("gpt2")
    tokenizer.add_tokens([f"<{n}>" for n in range(20_000)])
    tokenizer.save_pretrained(tmp_path / "large")
    (tmp_path / "a.txt").write_text("<19999>")
    out = tmp_path / "ids.npy"
    assert main(["tokenize", str(tmp_path / "a.txt"), "--tokenizer", str(tmp_path / "large"), "--out", str(out)]) == 0
    assert np.load(out).dtype == np.uint32 and np.load(out).tolist() == [50257 + 19999]


def test_standard_input():
    command = [sys.executable, "-m", "gpt2_core", "tokenize", "-"]
    done = subprocess.run(command, input="héllo".encode(), capture_output=True, check=True)
    assert done.stdout.split() == [str(i).encode() for i in GPT2Tokenizer.from_pretrained("gpt2").encode("héllo")]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory a process held")
def test_memory_does_not_grow_with_the_text(tmp_path):
    """64 MB of text take about as much memory as 16 MB; a whole text would take some hundreds more."""
    peaks = []
    for megabytes in (16, 64):
        file = tmp_path / f"{megabytes}.txt"
        file.write_text(VERSE * (megabytes * 1_000_000 // len(VERSE)))
        command = ["tokenize", str(file), "--out", str(tmp_path / "ids.npy")]
        code = f"from gpt2_core.cli import main; main({command!r}); print(open('/proc/self/status').read())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
        peaks.append(int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1]) / 1024)
    assert peaks[1] < peaks[0] + 20, peaks


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nowhere.txt"], "no file 'nowhere.txt'"),
        (["bad.txt", "--out", "x.npy"], "bad.txt is no UTF-8 text .*: --errors replace takes it nevertheless"),
        (["bad.txt", "--errors", "replce"], "--errors replce: it must be"),
        (["good.txt", "--tokenizer", "nowhere"], "nowhere"),
        (["good.txt", "--train"], "--train needs --out"),
        (
            ["good.txt", "--train", "--out", "v", "--vocab-size", "5"],
            "vocab_size=5: it must be a whole number from 257",
        ),
        (["good.txt", "--out", "good.txt/x.npy"], "cannot save into"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "bad.txt").write_bytes(b"a \xff b")
    assert main(["tokenize", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gpt2: ") and error.count("\n") == 1
    assert re.search(words, error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt", "good.txt"]


def test_bytes_that_are_replaced(tmp_path, capsys):
    (tmp_path / "bad.txt").write_bytes(b"a \xff b")
    assert main(["tokenize", str(tmp_path / "bad.txt"), "--errors", "replace"]) == 0
    assert capsys.readouterr().out.split() == [str(i) for i in GPT2Tokenizer.from_pretrained("gpt2").encode("a � b")]


class TestTraining:
    def test_laid_out_as_gpt2s_and_encodes_as_its_library(self):
        vocabulary = train_vocabulary([VERSE * 20], 280)
        published = GPT2Tokenizer.from_pretrained("gpt2").convert_ids_to_tokens(range(256))
        theirs = tokenizers.ByteLevelBPETokenizer(dict(vocabulary.ids), list(vocabulary.merges))
        for kind in KINDS:
            ours = kind(vocabulary)
            assert len(ours) == 280 and ours.eos_token_id == ours.bos_token_id == 279
            assert ours.convert_ids_to_tokens(list(range(256))) == published
            for text in (VERSE, "Exeunt ærë  \n\n 12", ""):
                assert theirs.encode(text).ids == ours.encode(text)
                assert ours.decode(ours.encode(text)) == text

    def test_by_the_command(self, tmp_path, capsys):
        (tmp_path / "verse.txt").write_text(VERSE * 20)
        folder = tmp_path / "learnt"
        command = ["tokenize", "--train", str(tmp_path / "verse.txt"), "--vocab-size", "300", "--out", str(folder)]
        assert main([*command, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        again = GPT2TokenizerFast.from_pretrained(folder)
        assert facts["tokens"] == len(again) <= 300 and facts["merges"] == len(again) - 257
        assert len(again.encode(VERSE)) < len(VERSE) / 1.5

    def test_with_the_settings_of_another(self):
        tokenizer = GPT2TokenizerFast.from_pretrained("gpt2", add_prefix_space=True, pad_token="<pad>")
        learnt = tokenizer.train_new_from_iterator([VERSE] * 20, 270)
        assert type(learnt) is GPT2TokenizerFast and learnt.add_prefix_space
        assert learnt.pad_token == "<pad>" and len(learnt) == 271

    def test_without_its_library(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tokenizers", None)
        with pytest.raises(GPT2Error, match=r'needs tokenizers: pip install "gpt2-duo\[train\]"'):
            train_vocabulary([VERSE], 300)


def test_without_the_engine(monkeypatch):
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    engine.published_engine.cache_clear()
    with pytest.raises(GPT2Error, match=r'needs gigatoken: pip install "gpt2-duo\[fast\]"; GPT2Tokenizer gives'):
        GPT2TokenizerFast.from_pretrained("gpt2").encode("a")
