"""The two trees are twins: same files, classes, functions in the same order, arguments, local names, shape comments.

What differs is listed here with its reason; an entry that is no longer needed fails too.
"""

import shutil
from pathlib import Path

import pytest

from tests.outlines import classes, outline

ROOT = Path(__file__).parent.parent
TORCH, KERAS = ROOT / "gpt2_torch", ROOT / "gpt2_tf"

# Files that only one tree has
FILES = {
    "dropout.py": "PyTorch draws what it drops by itself; Keras is given a seed",
    "fit.py": "PyTorch has no fit",
    "gradients.py": "TensorFlow's need no class of their own: losses.entropies",
    "matmul.py": "PyTorch's is multiply.py",
    "multiply.py": "Keras' is matmul.py",
    "parameters.py": "Keras makes a weight through its layer",
    "ties.py": "adding up in place gained nothing in TensorFlow (docs/performance.md)",
    "updates.py": "PyTorch's optimizers are fused already",
    "inference/graphs.py": "PyTorch runs generate's functions as they are",
    "inference/layouts.py": "see inference/products.py",
    "inference/products.py": "Keras' backends multiply in one way each",
    "inference/quantized.py": "TensorFlow multiplies 8 bits more slowly than 32",
    "tokenization.py": "PyTorch's data pipelines run in Python, and call the tokenizer itself",
}
# Arguments that only one framework has
ARGUMENTS = {
    "device": "PyTorch places each tensor; Keras takes its device from the context",
    "training": "Keras passes the mode as an argument, PyTorch keeps it in the module",
    "seed": "of dropout, see dropout.py",
    "kwargs": "Keras layers are given a name and a dtype",
    "lean": "PyTorch has an operation for attention that tells no weights, Keras none that is faster on TensorFlow",
    "quantize": "see inference/quantized.py",
    "prefix": "named_weights walks the attributes itself in Keras",
}
# Functions that only one tree has
FUNCTIONS = {
    "layers.gelu": "PyTorch's own is exact in float64, TensorFlow's rounds its constants",
    "layers.mish": "keras.ops has none",
    "base.GPT2PreTrainedModel.dtype": "every Keras model has this property",
    "base.GPT2PreTrainedModel.device": "Keras places tensors by itself",
    "base.GPT2PreTrainedModel.__call__": "Keras refuses the dict and the lists that PyTorch's forward can take",
    "base.GPT2PreTrainedModel.start_dropout": "PyTorch draws what it drops by itself",
    "base.GPT2PreTrainedModel.forget_graphs": "Keras keeps graphs of the model as it was",
    "base.GPT2PreTrainedModel.get_config": "how Keras saves a model's constructor",
    "base.GPT2PreTrainedModel.from_config": "how Keras makes a saved model again",
    "model.recomputed": "PyTorch's checkpoint takes arguments that are None",
    "heads.check_tied": "PyTorch users load state_dicts",
    "heads.LanguageModel._load_from_state_dict": "PyTorch users load state_dicts",
    "layers.as_int32": "PyTorch counts in 64 bits",
    "layers.rows_of": "PyTorch's own gradient is one table",
    "losses.entropies": "PyTorch's are a class, see gradients.py",
    "heads.GPT2LMHeadModel.own_loss": "fit's loss; PyTorch has no fit",
    "heads.GPT2DoubleHeadsModel.own_loss": "fit's loss; PyTorch has no fit",
    "classifiers.GPT2ForSequenceClassification.own_loss": "fit's loss; PyTorch has no fit",
    "classifiers.GPT2ForTokenClassification.own_loss": "fit's loss; PyTorch has no fit",
    "classifiers.GPT2ForQuestionAnswering.own_loss": "fit's loss; PyTorch has no fit",
    "attention.added": "Keras has no operation for attention that is faster on TensorFlow",
    "attention.lean_attention": "see attention.added",
    "attention.owned_caches": "PyTorch writes into a cache anyway",
    "inference.decoder.parts_of": "PyTorch has modules()",
    "inference.decoder.are_alike": "PyTorch compiles nothing",
    "inference.decoder.Decoder.shown": "transformers' streamers make lists of it; TensorFlow's tensors cannot",
    "logits.masked": "PyTorch fills a masked tensor with a Python number",
}
# Functions of one purpose and the same arguments, whose local names are each their own
OWN_WAYS = {
    "inference.decoder.direct": "PyTorch calls layers past the modules around them, Keras has XLA compile them",
}
# Local names that only one twin of a function has
LOCAL_NAMES = {
    "attention.MultiHead.probabilities": {"never"},  # Keras has no where() with a Python infinity
    "attention.Attention.__init__": {"dtype"},  # handed to each Keras layer
    "attention.CrossAttention.__init__": {"dtype"},
    "block.MLP.__init__": {"dtype"},
    "attention.MultiHead.attend": {"drop", "narrow", "q", "k", "v"},  # of the lean way; 16 bits made 32
    "layers.Conv1D.forward": {"product"},  # see inference/products.py
    "layers.Embedding.scores": {"product", "tie"},  # see ties.py
    "logits.best": {"order", "values"},  # of equal values torch.topk returns any; Keras' the first
    "block.Block.__init__": {"dtype"},
    "model.GPT2Model.__init__": {"dtype"},
    "heads.LanguageModel.__init__": {"dtype"},
    "classifiers.GPT2ForSequenceClassification.__init__": {"dtype"},
    "classifiers.GPT2ForTokenClassification.__init__": {"dtype"},
    "classifiers.GPT2ForQuestionAnswering.__init__": {"dtype"},
    "model.GPT2Model.forward": {"seed", "lean"},  # of dropout; see attention.added
    "generation.GenerationMixin.step": {"lean"},
    "heads.GPT2DoubleHeadsModel.forward": {"seed"},
    "classifiers.GPT2ForTokenClassification.forward": {"seed"},
    "layers.Embedding.forward": {"inside", "x", "tie"},  # PyTorch's own raises; see ties.py
    "layers.Linear.forward": {"x", "product"},  # PyTorch's own takes a bias that is None
    "layers.gelu_new": {"slope"},  # written out in Keras
    "layers.LayerNorm.forward": {"x", "dtype", "wider"},  # written out in Keras
    "losses.cross_entropy": {"K", "logits", "run", "dtype", "inside", "predicted", "losses"},  # see gradients.py
    "summary.kept_tokens": {"known"},
    "base.GPT2PreTrainedModel.initialise": {"weights"},  # Keras has no get_parameter(name)
    "base.GPT2PreTrainedModel.resize_token_embeddings": {"scopes", "scope"},  # Keras names its variables
    "checkpoint.CheckpointMixin.save_pretrained": {"weights", "known", "others"},  # PyTorch lists every parameter
    "checkpoint.CheckpointMixin.from_pretrained": {"policy"},  # PyTorch has no mixed policies, but autocast
    "checkpoint.filled": {"weights", "weight", "owner", "leaf"},  # PyTorch replaces a weight, Keras makes its values
    "checkpoint.named_weights": {"found", "attribute", "value", "i", "block"},  # PyTorch has named_parameters
    "checkpoint.from_bits": {"tensor"},
    "inputs.as_tensor": {"array"},  # PyTorch warns of arrays that cannot be written to
    "inputs.dtype_of": {"dtype"},  # Keras traces with other types
    "inputs.concrete": {"x"},  # numpy cannot take PyTorch's bfloat16
    "attention.put": {"owned", "D", "shape", "rows", "filled"},  # PyTorch has index_copy_
    "inference.decoder.Decoder.compute": {"alone", "in_parts", "kind", "some", "end"},  # in PyTorch's direct
    "inference.decoder.Decoder.process": {"kinds", "run", "scores"},
    "inference.decoder.Decoder.pick": {"uniforms"},
    "inference.decoder.is_as_made": {"hooked", "ours"},  # PyTorch's modules have hooks
    "inference.decoder.Decoder.tensor": {"array"},  # Keras counts in 32 bits
}


def differences(torch_tree: Path, keras_tree: Path) -> list[str]:
    """Returns a line for everything in which the trees differ and must not."""
    names = [{path.relative_to(tree).as_posix() for path in tree.rglob("*.py")} for tree in (torch_tree, keras_tree)]
    found = [f"only one tree has {name}" for name in sorted((names[0] ^ names[1]) - set(FILES))]
    for name in sorted(names[0] & names[1]):
        found += _file_differences(module(name), torch_tree / name, keras_tree / name)
    return found


def module(name: str) -> str:
    """Returns the name of a file's module within its tree: inference/decoder.py is inference.decoder."""
    return name.removesuffix(".py").replace("/", ".")


def _file_differences(stem: str, torch_file: Path, keras_file: Path) -> list[str]:
    found = []
    if classes(torch_file) != classes(keras_file):
        found.append(f"{stem}: classes {classes(torch_file)} and {classes(keras_file)}")
    ours, theirs = outline(torch_file), outline(keras_file)
    common = [[name for name in side if f"{stem}.{name}" not in FUNCTIONS] for side in (ours, theirs)]
    if common[0] != common[1]:
        found.append(f"{stem}: functions {common[0]} and {common[1]}")
    for name in set(ours) & set(theirs):
        a, b, full = ours[name], theirs[name], f"{stem}.{name}"
        arguments = [[arg for arg in side.arguments if arg not in ARGUMENTS] for side in (a, b)]
        if arguments[0] != arguments[1]:
            found.append(f"{full}: arguments {arguments[0]} and {arguments[1]}")
        extra = set() if full in OWN_WAYS else (a.local_names ^ b.local_names) - LOCAL_NAMES.get(full, set())
        if extra:
            found.append(f"{full}: only one twin has the local names {sorted(extra)}")
        if a.shapes != b.shapes:
            found.append(f"{full}: shape comments {a.shapes} and {b.shapes}")
    return found


def test_the_trees_are_twins():
    assert not differences(TORCH, KERAS)


def test_every_exception_is_still_needed():
    everything = {}
    for tree in (TORCH, KERAS):
        for path in tree.rglob("*.py"):
            stem = module(path.relative_to(tree).as_posix())
            for name, function in outline(path).items():
                everything.setdefault(f"{stem}.{name}", []).append(function)
    pairs = [side for side in everything.values() if len(side) == 2]
    alone = {arg for a, b in pairs for arg in set(a.arguments) ^ set(b.arguments)}
    assert set(ARGUMENTS) == alone
    for name in FILES:
        assert (TORCH / name).exists() != (KERAS / name).exists()
    assert {name for name in FUNCTIONS if len(everything.get(name, [])) != 1} == set()
    for name in OWN_WAYS:
        ours, theirs = everything[name]
        assert len(ours.local_names ^ theirs.local_names) > 10, name
    for name, allowed in LOCAL_NAMES.items():
        ours, theirs = everything[name]
        assert allowed and allowed <= ours.local_names ^ theirs.local_names, name


BREAKS = {
    "a method renamed": ("attention.py", "def split_heads", "def divide_heads", "functions"),
    "a class renamed": ("layers.py", "class Linear", "class Dense", "classes"),
    "an argument renamed": ("block.py", "visible, past=None", "mask, past=None", "arguments"),
    "a local name changed": ("model.py", "presents", "caches", "local names"),
    "a shape comment lost": ("attention.py", "  # (B, H, S, D)", "", "shape comments"),
    "a method renamed in inference": ("inference/decoder.py", "def select", "def choose", "functions"),
}


@pytest.mark.parametrize("tree", ["torch", "tf"])
@pytest.mark.parametrize("file, old, new, words", BREAKS.values(), ids=BREAKS)
def test_a_twin_that_drifts_is_seen(tmp_path, tree, file, old, new, words):
    for source in (TORCH, KERAS):
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    changed = tmp_path / f"gpt2_{tree}" / file
    text = changed.read_text(encoding="utf-8")
    assert old in text
    changed.write_text(text.replace(old, new), encoding="utf-8")
    assert any(words in line for line in differences(tmp_path / TORCH.name, tmp_path / KERAS.name))


def test_another_order_is_seen(tmp_path):
    for source in (TORCH, KERAS):
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "gpt2_torch" / "attention.py"
    text = file.read_text(encoding="utf-8")
    start, middle, end = (text.index(f"    def {name}(") for name in ("split_heads", "merge_heads", "probabilities"))
    file.write_text(text[:start] + text[middle:end] + text[start:middle] + text[end:], encoding="utf-8")
    (line,) = differences(tmp_path / TORCH.name, tmp_path / KERAS.name)
    assert line.startswith("attention: functions")


@pytest.mark.parametrize("name", ["extra.py", "inference/extra.py"])
def test_a_file_without_a_twin_is_seen(tmp_path, name):
    for source in (TORCH, KERAS):
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "gpt2_tf" / name).write_text("")
    assert differences(tmp_path / TORCH.name, tmp_path / KERAS.name) == [f"only one tree has {name}"]
