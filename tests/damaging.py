"""The ways in which a checkpoint is damaged, each drawn from a seed: bytes of any file, and what its format is made of.

Of a damaged structure all else is whole: the length before a header, the checksums of a zip archive or of a block are
made to fit again, so that the reader gets as far as the damage.
"""

from __future__ import annotations

import functools
import io
import json
import pickletools
import struct
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gpt2_core.checkpoint.crc32c import crc32c
from gpt2_core.checkpoint.protobuf import varint
from gpt2_core.checkpoint.tf1_bundle import _masked
from gpt2_core.weights import published_name

Files = dict[str, bytes]
Weights = dict[str, tuple[str, tuple[int, ...], bytes]]  # published name -> type, shape, bits
CONFIGS = ("config.json", "hparams.json")
H5 = "model.weights.h5"


class Damaged(NamedTuple):
    """A damaged checkpoint. `exchanged`: two of its tensors have each other's numbers, as far as anyone can tell."""

    kind: str
    files: Files
    exchanged: tuple[str, str] | None = None


class Sound(NamedTuple):
    """A sound checkpoint."""

    files: Files
    weights: Weights

    def the(self, ending: str, dice: Dice | None = None) -> str:
        """Returns the file whose name ends so, or one of them."""
        names = [name for name in self.files if name.endswith(ending)]
        return dice.one(names) if dice else names[0]

    def damaged(self, kind: str, name: str, data: bytes, exchanged=None) -> Damaged:
        """Returns a copy in which one file is another one."""
        return Damaged(kind, {**self.files, name: data}, exchanged)


class Dice:
    """Draws from a seed, as Python's own types."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def below(self, n: int) -> int:
        """Returns a number from 0 to n - 1."""
        return int(self.rng.integers(max(n, 1)))

    def one(self, choices):
        """Returns one of some choices."""
        choices = list(choices)
        return choices[self.below(len(choices))]

    def two(self, choices):
        """Returns two of some choices, in any order."""
        choices = list(choices)
        first, second = self.rng.choice(len(choices), 2, replace=False)
        return choices[int(first)], choices[int(second)]

    def number(self, near: int = 0) -> int:
        """Returns a number as damage makes them: near another one, or at an edge of some type."""
        edge = 1 << self.one([3, 7, 8, 15, 16, 31, 32, 40, 62, 63, 64, 100])
        below = self.below(min(2 * near + 9, 2**62))
        return self.one([near + 1, near - 1, near * 2, near // 2, below, 0, 1, edge, edge - 1, -edge])


# --- where the numbers of tensors lie in a file


def areas(data: bytes, weights: Weights) -> dict[str, tuple[int, int, bool]]:
    """Returns name -> start, end, and whether it is transposed, of the tensors whose numbers lie in a file."""
    found = {}
    for name, (dtype, shape, bits) in weights.items():
        turned = np.frombuffer(bits, WORDS[dtype]).reshape(shape).T.tobytes()
        for transposed, values in ((False, bits), (True, turned)):
            if (start := data.find(values)) >= 0:
                found[name] = (start, start + len(bits), transposed)
                break
    return found


WORDS = {"bfloat16": "<u2", "float16": "<u2", "float32": "<u4", "float64": "<u8"}


def inside(size: int, stretches) -> np.ndarray:
    """Returns for each byte whether it lies in one of the stretches, (start, end, …)."""
    mask = np.zeros(size, bool)
    for start, stop, *_ in stretches:
        mask[start:stop] = True
    return mask


def structure(data: bytes, weights: Weights) -> list[int]:
    """Returns the places of the bytes that are no numbers of tensors."""
    return np.flatnonzero(~inside(len(data), areas(data, weights).values())).tolist()


# --- damage to bytes, whatever they are


def bruise(dice: Dice, data: bytes, places: list[int] | None = None) -> bytes:
    """Returns bytes with one kind of damage; more often than not it begins at one of `places`."""
    at = dice.one(places) if places and dice.below(3) else dice.below(len(data))
    return dice.one(_BRUISES)(dice, data, at, 1 << dice.below(10))


def _cut(dice, data, at, size):
    return data[:at]


def _extended(dice, data, at, size):
    return data + dice.one([bytes(size), dice.rng.bytes(size), data[-size:]])


def _inserted(dice, data, at, size):
    return data[:at] + dice.rng.bytes(size) + data[at:]


def _removed(dice, data, at, size):
    return data[:at] + data[at + size :]


def _filled(dice, data, at, size):
    size = min(size, len(data) - at)
    return data[:at] + dice.one([b"\0", b"\xff"]) * size + data[at + size :]


def _exchanged(dice, data, at, size):
    first, second = sorted((at, dice.below(len(data))))
    size = min(size, len(data) - second, second - first)
    blocks = data[second : second + size], data[first + size : second], data[first : first + size]
    return data[:first] + b"".join(blocks) + data[second + size :]


def _repeated(dice, data, at, size):
    other = dice.below(len(data))
    size = min(size, len(data) - max(at, other))
    return data[:at] + data[other : other + size] + data[at + size :]


def _numbered(dice, data, at, size):
    width = dice.one([1, 2, 4, 8])
    at -= at % dice.one([1, width])
    near = dice.one([int.from_bytes(data[at : at + width], "little"), len(data)])
    number = (dice.number(near) % 256**width).to_bytes(width, "little")
    return data[:at] + number[: len(data) - at] + data[at + width :]


def _flipped(dice, data, at, size):
    changed = bytearray(data)
    for place in (at, *(dice.below(len(data)) for _ in range(dice.below(3)))):
        changed[place : place + 1] = [byte ^ 1 << dice.below(8) for byte in changed[place : place + 1]]
    return bytes(changed)


_BRUISES = (
    *(_cut, _extended, _inserted, _removed, _filled, _exchanged, _repeated),
    *(_numbered, _numbered, _flipped, _flipped, _flipped),
)


def any_bytes(dice: Dice, sound: Sound, names=None) -> Damaged:
    """Bytes of any file of the weights are changed, or the file is gone."""
    name = dice.one(names or [name for name in sound.files if name not in CONFIGS])
    if not dice.below(40):
        return Damaged("a file is missing", {other: data for other, data in sound.files.items() if other != name})
    data = sound.files[name]
    return sound.damaged("bytes", name, bruise(dice, data, structure(data, sound.weights)))


# --- JSON

JUNK = [
    *(None, True, False, 0, -1, 1, 1.5, 2**31, 2**63, 10**12, 10**30, 10**400, float("nan"), float("inf")),
    *("", "x", "12", "\ud800", "a\0b", "é" * 300, "<deep>", "<digits>", "<nested>"),
    *([], [[]], [1, "x"], ["GPT2Model"] * 3, {}, {"x": {}}),
]


def dumped(value) -> str:
    """Returns JSON, with what Python's own writer would refuse or never end."""
    text = json.dumps(value).replace('"<deep>"', "[" * 50_000 + "]" * 50_000).replace('"<digits>"', "9" * 5000)
    return text.replace('"<nested>"', '{"a":' * 300 + "[]" + "}" * 300)


def pairs(items) -> str:
    """Returns a JSON object of items, of which some may have one name."""
    return "{" + ",".join(f"{dumped(key)}:{dumped(value)}" for key, value in items) + "}"


# --- safetensors


class Header:
    """The header of a safetensors file, taken apart; one entry is picked."""

    def __init__(self, dice: Dice, data: bytes):
        end = 8 + int.from_bytes(data[:8], "little")
        whole = json.loads(data[8:end])
        self.metadata = whole.pop("__metadata__", {})
        self.items, self.values = list(whole.items()), data[end:]
        self.at = dice.below(len(self.items))
        self.name, self.entry = self.items[self.at]
        self.text, self.length, self.exchanged = "", None, None

    def put(self, name, entry) -> None:
        """Makes the picked entry another one."""
        self.items[self.at] = (name, entry)

    def data(self) -> bytes:
        """Returns the file."""
        text = (self.text or pairs([("__metadata__", self.metadata), *self.items])).encode()
        return (len(text) if self.length is None else self.length).to_bytes(8, "little") + text + self.values


def _offsets(dice, h):
    begin, end = h.entry["data_offsets"]
    one = dice.one([(begin, dice.number(end)), (dice.number(begin), end), (end, begin), (begin + 4, end + 4)])
    h.put(h.name, {**h.entry, "data_offsets": dice.one([one, one, one, one[:1], (*one, 0), dice.one(JUNK)])})


def _overlap(dice, h):
    h.put(h.name, {**h.entry, "data_offsets": dice.one(h.items)[1]["data_offsets"]})


def _shape(dice, h):
    shape = h.entry["shape"]
    wrong = [[dice.number(n) for n in shape], shape[::-1], [*shape, 1], [1] * 99, [0, 10**30], dice.one(JUNK)]
    h.put(h.name, {**h.entry, "shape": dice.one(wrong)})


def _type(dice, h):
    types = ("F64", "F16", "BF16", "I32", "U32", "I64", "U8", "BOOL", "F8_E4M3", "f32")
    h.put(h.name, {**h.entry, "dtype": dice.one([*types, dice.one(JUNK), dice.one(JUNK)])})


def _entry(dice, h):
    without = dice.one(h.entry)
    part = {key: value for key, value in h.entry.items() if key != without}
    h.put(h.name, dice.one([part, {**part, without: dice.one(JUNK)}, dice.one(JUNK)]))


def _name(dice, h):
    others = [name for name, _ in h.items]
    h.put(dice.one([*others, *map(published_name, others), "x", "h.0.attn.bias"]), h.entry)


def _more(dice, h):
    known = published_name(h.name)
    empty = {**h.entry, "shape": [0], "data_offsets": [len(h.values)] * 2}
    h.items.append((dice.one([known, h.name, "h.9.ln_1.bias", "y"]), dice.one([h.entry, empty])))


def _missing(dice, h):
    del h.items[h.at]


def _missing_with_its_numbers(dice, h):
    begin, end = h.entry["data_offsets"]
    _missing(dice, h)
    h.values = h.values[:begin] + h.values[end:]
    for _, entry in h.items:
        entry["data_offsets"] = [n - (end - begin) * (n >= end) for n in entry["data_offsets"]]


def _places_exchanged(dice, h):
    other = dice.one([i for i, (_, entry) in enumerate(h.items) if entry["shape"] == h.entry["shape"]])
    name, entry = h.items[other]
    h.items[other] = (name, h.entry)
    h.put(h.name, entry)
    h.exchanged = (published_name(h.name), published_name(name))


def _metadata(dice, h):
    h.metadata = dice.one(JUNK)


def _no_object(dice, h):
    h.text = dumped(dice.one(JUNK))


def _length(dice, h):
    h.length = dice.number(len(h.data())) % 2**64


_OF_HEADERS = (
    *(_offsets, _offsets, _overlap, _shape, _shape, _type, _type, _entry, _entry, _name, _name, _more, _missing),
    *(_missing_with_its_numbers, _places_exchanged, _metadata, _no_object, _length),
)


def safetensors(dice: Dice, sound: Sound) -> Damaged:
    """The header says something else, in JSON that is whole and has the right length."""
    name = sound.the(".safetensors", dice)
    header, wrong = Header(dice, sound.files[name]), dice.one(_OF_HEADERS)
    wrong(dice, header)
    return sound.damaged(f"header: {wrong.__name__}", name, header.data(), header.exchanged)


# --- indices of shards

_ELSEWHERE = (
    *("../SHARD", "./SHARD", "/etc/passwd", "sub/SHARD", "..", ".", "", "SHARD/", "x" * 300, "SHARD\0", "\ud800"),
    *("config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json", "C:\\SHARD", "~/SHARD", "x.bin"),
)


def index(dice: Dice, sound: Sound) -> Damaged:
    """The index of shards says something else, or the shards changed places."""
    name = sound.the(".index.json")
    shards = [name for name in sound.files if not name.endswith(".json")]
    places = list(json.loads(sound.files[name])["weight_map"].items())
    at, (first, second) = dice.below(len(places)), dice.two(shards)
    key, shard = places[at]
    kind = dice.one(["elsewhere", "junk"] * 2 + ["another", "renamed", "missing", "unnamed", "more", "shards"])
    if kind == "shards":
        there = dice.one([sound.files[first], sound.files[second]])  # one of them twice, or each in the other's place
        return Damaged("index: shards", {**sound.files, first: sound.files[second], second: there})
    places[at : at + 1] = {
        "elsewhere": [(key, dice.one([*(place.replace("SHARD", shard) for place in _ELSEWHERE), *JUNK]))],
        "another": [(key, dice.one(shards))],
        "renamed": [(dice.one([*(name for name, _ in places), "x"]), shard)],
        "missing": [],
        "more": [(key, shard), (dice.one(["x", key]), dice.one(shards))],
    }.get(kind, [(key, shard)])
    if kind == "unnamed":
        places = [place for place in places if place[1] != shard]
    text = '{"metadata": {}, "weight_map": ' + pairs(places) + "}"
    if kind == "junk":
        text = dumped(dice.one([dice.one(JUNK), {"weight_map": dice.one(JUNK)}, {"metadata": dice.one(JUNK)}]))
    return sound.damaged(f"index: {kind}", name, text.encode())


# --- pickles


class Word(NamedTuple):
    """One operation of a pickle."""

    name: str
    value: object
    code: bytes


def words(pickle: bytes) -> list[Word]:
    """Returns the operations of a pickle."""
    found = list(pickletools.genops(pickle))
    ends = [position for _, _, position in found[1:]] + [len(pickle)]
    return [Word(op.name, value, pickle[at:end]) for (op, value, at), end in zip(found, ends, strict=True)]


def a_number(value: int) -> Word:
    """Returns the operation that makes an int."""
    size = value.bit_length() // 8 + 1
    head = b"\x8a" + bytes([size]) if size < 256 else b"\x8b" + struct.pack("<i", size)
    return Word("LONG", value, head + value.to_bytes(size, "little", signed=True))


def a_text(value: str) -> Word:
    """Returns the operation that makes a str."""
    return Word("BINUNICODE", value, b"X" + struct.pack("<I", len(value.encode())) + value.encode())


_HOSTILE = (
    *(code + b"\xff" * 7 + b"\x7f" for code in (b"\x8d", b"\x8e", b"\x96")),  # texts and bytes of these lengths
    *(code + b"\xff" * 3 + b"\x7f" for code in (b"B", b"X", b"\x8b", b"r", b"T")),
    *(b"\x8d" + struct.pack("<Q", 2**40), b"I" + b"9" * 5000 + b"\n", b"cos\nsystem\n(X\x04\0\0\0exittR"),
    *(b"K\x01" + b"2\x86" * 40, b"(" * 5000, b"]" + b"\x85" * 5000, b"\x8f" * 9999),
    *(bytes([code]) for code in b"Q02R\x88\x89Ntusaeb})\x93\x81."),
)
_GLOBALS = (
    *("os\nsystem", "x\ny", "collections\nOrderedDict", "torch\nHalfStorage", "torch\nDoubleStorage"),
    *("torch\nIntStorage", "torch._utils\n_rebuild_parameter"),
)


_WORDS = ("BININT", "BINUNICODE", "GLOBAL")


def in_pickle(dice: Dice, pickle: bytes) -> tuple[str, bytes, tuple[str, str] | None]:
    """Returns what is wrong now, a changed pickle of a state_dict, and what it exchanges."""
    found, exchanged = words(pickle), None
    numbers, texts, named = ([i for i, word in enumerate(found) if word.name.startswith(kind)] for kind in _WORDS)
    at, size = dice.below(len(found)), dice.one([1, 1, 2, 5, 30])
    number, text = dice.one(numbers), dice.one(texts)
    kind = dice.one(_OF_PICKLES)
    if kind == "bytes":
        return kind, bruise(dice, pickle), None
    if kind == "number":
        found[number] = a_number(dice.one([dice.number(found[number].value)] * 3 + [-(2**4800), 2**50000]))
    elif kind == "numbers":  # start, shape and strides of one tensor, all huge or 0
        for i in numbers[numbers.index(number) :][: 1 + dice.below(6)]:
            found[i] = a_number(dice.one([0, 1, 2**40]))
    elif kind == "text":
        found[text] = a_text(dice.one([*(found[i].value for i in texts), "", "x", "../../x", "é" * 9, "9" * 5000]))
    elif kind == "global":
        codes = [*(found[i].code for i in named), *(f"c{name}\n".encode() for name in _GLOBALS)]
        found[dice.one(named)] = Word("GLOBAL", None, dice.one(codes))
    elif kind == "dropped":
        del found[at : at + size]
    elif kind == "twice":
        found[at:at] = found[at : at + size]
    elif kind == "neighbours":
        found[at : at + 2] = found[at : at + 2][::-1]
    elif kind == "another":
        found[at] = dice.one(found)
    elif kind == "hostile":
        found.insert(at, Word("", None, dice.one(_HOSTILE)))
    elif kind == "exchanged":
        a, b = dice.two([i for i in texts if str(found[i].value).endswith(("ln_1.bias", "ln_2.bias"))])
        found[a], found[b] = found[b], found[a]
        exchanged = (published_name(found[a].value), published_name(found[b].value))
    return kind, b"".join(word.code for word in found), exchanged


_OF_PICKLES = (
    *(["bytes", "number"] * 3 + ["text", "dropped", "another", "hostile"] * 2),
    *("numbers", "global", "twice", "neighbours", "exchanged"),
)


# --- archives: torch.save's, and Keras'


def members(archive: bytes) -> dict[str, bytes]:
    """Returns what an archive holds; BadZipFile where a checksum is wrong."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def zipped(parts, compression=zipfile.ZIP_STORED) -> bytes:
    """Returns an archive of names and bytes, its checksums right; a name may stand twice."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        for name, data in parts:
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return written.getvalue()


def rezipped(dice: Dice, parts: dict[str, bytes]) -> bytes:
    """Returns an archive of other parts."""
    name, other = dice.two(parts)
    folder = dice.one(["x", "..", "/", "a/b", ""])
    return dice.one(
        [
            lambda: zipped(parts.items(), zipfile.ZIP_DEFLATED),
            lambda: zipped([*parts.items(), (name, parts[name])]),
            lambda: zipped((part, data) for part, data in parts.items() if part != name),
            lambda: zipped((other if part == name else part, data) for part, data in parts.items()),
            lambda: zipped((f"{folder}/{part}", data) for part, data in parts.items()),
        ]
    )()


def torch_zip(dice: Dice, sound: Sound) -> Damaged:
    """The parts of an archive are changed, and its checksums are right again."""
    name = sound.the(".bin", dice)
    parts = members(sound.files[name])
    root = next(part for part in parts if part.endswith("/data.pkl")).removesuffix("data.pkl")
    kind = dice.one(["pickle"] * 8 + ["storages"] * 3 + ["archive"])
    if kind == "archive":
        return sound.damaged(kind, name, rezipped(dice, parts))
    if kind == "pickle":
        kind, parts[root + "data.pkl"], exchanged = in_pickle(dice, parts[root + "data.pkl"])
        return sound.damaged(f"pickle: {kind}", name, zipped(parts.items()), exchanged)
    storages = [part for part in parts if part.startswith(root + "data/")]
    storage = dice.one(storages)
    data = parts.pop(storage)
    if dice.below(4):
        longer = next(parts[part] for part in storages if part in parts and len(parts[part]) != len(data))
        parts[dice.one([storage, storage, root + "data/x"])] = dice.one([data[:-4], data + bytes(4), b"", longer])
    return sound.damaged("storages", name, zipped(parts.items()))


def torch_stream(dice: Dice, sound: Sound) -> Damaged:
    """One of the pickles of the old format is changed, or their order, or the lengths between the numbers."""
    name = sound.the(".bin")
    file, ends = io.BytesIO(sound.files[name]), [0]
    for _ in range(5):
        list(pickletools.genops(file))
        ends.append(file.tell())
    parts = [file.getvalue()[start:end] for start, end in zip(ends, [*ends[1:], None], strict=True)]
    kind = dice.one(["pickle"] * 7 + ["others"] * 2 + ["lengths", "order"])
    if kind == "pickle":
        kind, parts[3], exchanged = in_pickle(dice, parts[3])
        return sound.damaged(f"pickle: {kind}", name, b"".join(parts), exchanged)
    if kind == "others":
        at = dice.one([0, 1, 2, 4])
        parts[at] = bruise(dice, parts[at])
    elif kind == "lengths":
        at = dice.one(start for start, _, _ in areas(parts[5], sound.weights).values()) - 8
        length = dice.number(int.from_bytes(parts[5][at : at + 8], "little")) % 2**64
        parts[5] = parts[5][:at] + length.to_bytes(8, "little") + parts[5][at + 8 :]
    else:
        a, b = dice.two(range(5))
        parts[a], parts[b] = parts[b], parts[a]
    return sound.damaged(f"stream: {kind}", name, b"".join(parts))


# --- HDF5

_FLOAT32 = struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127)
_STARTS = (b"TREE", b"SNOD", b"HEAP", b"OHDR", b"FRHP", b"\x01\0\4\0")  # of its structures


def addresses(data: bytes, places: dict[str, tuple[int, int, bool]]) -> dict[str, int]:
    """Returns name -> the place of the address of each dataset, which is followed by its size."""
    found = {name: data.find(struct.pack("<QQ", start, stop - start)) for name, (start, stop, _) in places.items()}
    return {name: at for name, at in found.items() if at >= 0}


def in_hdf5(dice: Dice, data: bytes, weights: Weights) -> tuple[str, bytes]:
    """Returns what is wrong now, and a changed HDF5 file."""
    places, metadata, changed = areas(data, weights), structure(data, weights), bytearray(data)
    kind = dice.one(["bytes", "address", "address", "size", "type", "type", "pointer", "pointer", "name"])
    if kind == "bytes":
        return kind, bruise(dice, data, metadata)
    if kind in ("address", "size"):
        at = dice.one(addresses(data, places).values()) + 8 * (kind == "size")
        now = int.from_bytes(data[at : at + 8], "little")
        another = dice.one(places.values())[0]
        value = dice.one([dice.number(now), now ^ 1 << dice.below(20), another, dice.one(metadata), 2**64 - 1])
        changed[at : at + 8] = (value % 2**64).to_bytes(8, "little")
    elif kind == "type":  # of numbers: version and class, flags, width, layout
        types = [i for i in range(len(data)) if data.startswith(_FLOAT32, i)]
        changed[dice.one(types) - 8 + dice.below(20)] ^= 1 << dice.below(8)
    elif kind == "pointer":  # to another structure
        starts = [i for i in range(0, len(data), 8) if data[i : i + 4] in _STARTS]
        aligned = [i for i in metadata if i % 8 == 0]
        pointers = [i for i in aligned if int.from_bytes(data[i : i + 8], "little") in starts]
        at = dice.one(pointers or aligned)
        changed[at : at + 8] = struct.pack("<Q", dice.one(starts))
    else:
        letters = [i for i in metadata if data[i] < 128 and chr(data[i]).isalnum()]
        changed[dice.one(letters)] = dice.one(b"019abgwkz_/:.\0")
    return kind, bytes(changed)


def hdf5(dice: Dice, sound: Sound) -> Damaged:
    """What names the numbers, and says where they lie, is changed."""
    name = sound.the(".h5")
    kind, data = in_hdf5(dice, sound.files[name], sound.weights)
    return sound.damaged(f"HDF5: {kind}", name, data)


def keras_archive(dice: Dice, sound: Sound) -> Damaged:
    """As in HDF5 and in config.json, in the parts of an archive, whose checksums are right again."""
    name = sound.the(".keras")
    parts = members(sound.files[name])
    kind = dice.one(["h5", "h5", "h5", "config", "config", "archive"])
    if kind == "archive":
        return sound.damaged(kind, name, rezipped(dice, parts))
    if kind == "h5":
        kind, parts[H5] = in_hdf5(dice, parts[H5], sound.weights)
    else:
        parts["config.json"] = in_config(dice, parts["config.json"], ("config", "config"))
    return sound.damaged(f"archive: {kind}", name, zipped(parts.items()))


# --- OpenAI's bundles, llm.c's files


def bundle(dice: Dice, sound: Sound) -> Damaged:
    """The block of all names is changed, and its checksum is right again."""
    name = sound.the(".index")
    data = bytearray(sound.files[name])
    size = varint(data, len(data) - 48)[0] - 5  # of the block; what follows is a compression and the checksum
    for _ in range(1 + dice.below(3)):
        data[dice.below(size)] = dice.one([0, 1, 127, 128, 255, dice.below(256)])
    checksum = _masked(crc32c([np.frombuffer(bytes(data[: size + 1]), np.uint8)]))
    data[size + 1 : size + 5] = checksum.to_bytes(4, "little")
    return sound.damaged("bundle: names", name, bytes(data))


def llm_c(dice: Dice, sound: Sound) -> Damaged:
    """One of the numbers of the header is another one."""
    name = sound.the(".bin")
    numbers = np.frombuffer(sound.files[name][:1024], "<u4").copy()
    at = dice.one([0, 1, 2, 3, 3, 4, 5, 6, 7, 7, 8])
    numbers[at] = dice.one([dice.number(int(numbers[at])), dice.one([3, 5])]) % 2**32
    return sound.damaged(f"header: number {at}", name, numbers.tobytes() + sound.files[name][1024:])


# --- configs

_FIELDS = (
    *("n_layer", "n_embd", "n_head", "n_positions", "vocab_size", "n_inner", "num_labels", "id2label", "label2id"),
    *("n_ctx", "hidden_size", "num_hidden_layers", "architectures", "model_type", "activation_function", "extra", "x"),
    *("initializer_range", "layer_norm_epsilon", "attn_pdrop", "tie_word_embeddings", "add_cross_attention"),
    *("eos_token_id", "block_size", "n_vocab", "registered_name", "config", "torch_dtype", "summary_type"),
)


def config(dice: Dice, sound: Sound) -> Damaged:
    """Fields of the config are missing, of other types or of values that cannot be, or its text is no JSON."""
    name = next(name for name in CONFIGS if name in sound.files)
    if not dice.below(4):
        return any_bytes(dice, sound, [name])
    return sound.damaged("config", name, in_config(dice, sound.files[name]))


def in_config(dice: Dice, data: bytes, path: tuple[str, ...] = ()) -> bytes:
    """Returns a JSON text of which some fields are wrong, those of the object at `path`."""
    if not dice.below(8):
        return dice.one([dumped(dice.one(JUNK)).encode(), bruise(dice, data)])
    whole = json.loads(data)
    fields = functools.reduce(lambda place, key: place[key], path, whole)
    for _ in range(1 + dice.below(3)):
        key = dice.one([*fields, *_FIELDS])
        now = fields.get(key)
        if not dice.below(6):
            fields.pop(key, None)
        elif isinstance(now, int) and dice.below(2):
            fields[key] = dice.one([dice.number(now), 10 ** dice.one([6, 12, 400, 4299])])
        else:
            labels = {str(dice.number(1)): dice.one(JUNK), "1": "b"}
            fields[key] = dice.one([dice.one(JUNK), dice.one(JUNK), [dice.one(JUNK)], labels, "keras_hub>GPT2Backbone"])
    items = list(whole.items())
    return pairs([*items, dice.one(items)] if items and not dice.below(10) else items).encode()


class Format(NamedTuple):
    """How files of a format are damaged beside changes of any bytes, and whether it has checksums of its numbers."""

    ways: tuple[Callable[[Dice, Sound], Damaged], ...]
    checked: bool = False


FORMATS = {
    "safetensors": Format((safetensors,)),
    "safetensors shards": Format((safetensors, index)),
    "torch": Format((torch_zip,), checked=True),
    "torch stream": Format((torch_stream,)),
    "torch shards": Format((torch_zip, index), checked=True),
    "tf-h5": Format((hdf5,)),
    "keras": Format((hdf5,)),
    "keras archive": Format((keras_archive,), checked=True),
    "openai-tf1": Format((bundle,), checked=True),
    "llm.c": Format((llm_c,)),
    "config": Format((config,), checked=True),
}


def damage(form: str, seed: int, sound: Sound) -> Damaged:
    """Returns a damaged copy of a checkpoint."""
    dice = Dice(seed)
    while True:  # some draws change nothing
        raw = form != "config" and dice.below(5) < 2
        case = any_bytes(dice, sound) if raw else dice.one(FORMATS[form].ways)(dice, sound)
        if case.files != sound.files:
            return case
