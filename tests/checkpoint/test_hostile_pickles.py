"""Pickles made to take memory, time or the process: refused within the size of their file."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.checkpoint.pickles import unpickler
from attn_export.exporter.checkpoint.pickles.files import PickleReader
from attn_export.exporter.checkpoint.pickles.names import is_key
from attn_export.exporter.errors import InputError, UnreadableCheckpointError


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(full_name: str) -> bytes:
    module, _, name = full_name.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def number(value: int) -> bytes:
    packed = pickle.encode_long(value)
    return b"\x8a" + bytes([len(packed)]) + packed


def called(function: bytes, *args: bytes) -> bytes:
    return function + b"(" + b"".join(args) + b"tR"


STORAGE = b"(" + text("storage") + named("torch.FloatStorage") + text("0") + text("cpu") + number(4) + b"tQ"


def tensor(sizes: tuple[int, ...] = (4,), strides: tuple[int, ...] = (1,), offset: int = 0) -> bytes:
    shape, steps = (b"(" + b"".join(map(number, values)) + b"t" for values in (sizes, strides))
    return called(named("torch._utils._rebuild_tensor_v2"), STORAGE, number(offset), shape, steps, b"\x89N")


def weights(value: bytes) -> bytes:
    return b"}" + text("conv1.weight") + value + b"s"


def archive(body: bytes, path: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as parts:
        parts.writestr("a/data.pkl", b"\x80\x02" + body + b".")
        parts.writestr("a/data/0", struct.pack("<4f", 1, 2, 3, 4))
    return path


# Tuples of twice the one before: sixty of them are 2^60 words.
LAUGHS = text("ha") + b"r\x00\x00\x00\x000" + b"".join(
    b"j" + struct.pack("<I", k) + b"j" + struct.pack("<I", k) + b"\x86r" + struct.pack("<I", k + 1) + b"0"
    for k in range(60)
) + b"j" + struct.pack("<I", 60)  # fmt: skip
ITSELF = named("my.Net") + b")\x81q\x01}(" + text("_modules") + b"}(" + text("a") + b"h\x01" + text("b") + b"h\x01u"
COSTLY = {
    "a million tuples as a key": b"}" + text("x") + b"\x85" * 10**6 + b"K\x01s",
    "laughs as a key": b"}" + LAUGHS + b"K\x01s",
    "laughs in a set": called(named("builtins.set"), b"]" + LAUGHS + b"a"),
    "laughs in a frozenset": b"(" + LAUGHS + b"\x91",
    "laughs as a version": b"}(" + text("format") + text("attn-export") + text("version") + LAUGHS + b"u",
    "10^12 bytes": called(named("builtins.bytearray"), number(10**12)),
    "10^12 numbers": called(named("torch.Tensor"), number(10**12)),
    "a storage of 10^12": named("torch.storage.UntypedStorage") + b"(" + number(10**12) + b"t\x81",
    "8 EiB": b"\x96" + struct.pack("<Q", 2**63 - 1),
    "a frame of 8 EiB": b"\x95" + struct.pack("<Q", 2**63 - 1),
    "punycode": called(named("_codecs.encode"), text("x" * 10**5), text("punycode")),
    "a module that contains itself twice": ITSELF + text("_parameters") + b"}" + text("w") + tensor() + b"sub",
    "10^18 times one number": weights(tensor((10**9, 10**9), (0, 0))),
    "3 * 10^9 times one number": weights(tensor((3 * 10**9,), (0,))),
    "1000 dimensions": weights(tensor((1,) * 1000, (1,) * 1000)),
    "a tensor's numbers as arguments": named("my.Net") + tensor() + b"R",
    "a tensor's numbers as sizes": called(named("torch.Size"), tensor()),
    "a text encoded again and again": b"("
    + text("x" * 10**6)
    + b"r\x00\x00\x00\x000"
    + called(named("_codecs.encode"), b"j\x00\x00\x00\x00", text("latin1")) * 100
    + b"t",
    "a large layer": called(named("torch.nn.modules.linear.Linear"), number(10**6), number(10**6)),
}


@pytest.mark.parametrize("body", COSTLY.values(), ids=COSTLY)
def test_what_costs_more_than_the_file_is_refused(body: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load(archive(body, tmp_path / "a.pt"), arch="cbam_resnet8")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"N0" * 501, "more than 1000 steps"),
        (b"".join(named(f"m.C{n}") for n in range(101)), "names more than 100 classes"),
    ],
    ids=["steps", "names"],
)
def test_more_than_a_checkpoint_holds_is_said(
    body: bytes, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpickler, "MOST_STEPS", 1000)
    monkeypatch.setattr(unpickler, "MOST_NAMES", 100)
    with pytest.raises(UnreadableCheckpointError, match=sentence):
        load(archive(body, tmp_path / "a.pt"))


def test_archives_that_unpack_to_many_times_their_size_are_refused(tmp_path: Path) -> None:
    path = archive(b"N0" * 35_000_000, tmp_path / "a.pt", zipfile.ZIP_DEFLATED)
    with pytest.raises(UnreadableCheckpointError, match=r"unpacks to 0\.1 GiB, many times its size"):
        load(path)


def test_a_packed_checkpoint_is_read(write: Any, weights: Any, tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(write(weights)) as stored,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for name in stored.namelist():
            out.writestr(name, stored.read(name))
    found = load(tmp_path / "b.pt", arch="cbam_resnet8").module.state_dict()
    assert torch.equal(found["fc.weight"], weights["fc.weight"])


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "nowhere"])
def test_what_is_no_file_is_refused_without_reading(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"device": "/dev/zero", "loop": path.name, "nowhere": "nothing"}[kind])
    with pytest.raises(UnreadableCheckpointError):
        load(path)


def test_a_file_larger_than_the_memory_is_refused_without_reading(tmp_path: Path) -> None:
    with (tmp_path / "a.pt").open("wb") as stream:
        stream.write(b"\x80\x02}q\x00.")
        stream.truncate(2**43)
    with pytest.raises(UnreadableCheckpointError, match="has 8192 GiB, and this machine"):
        load(tmp_path / "a.pt")


BENT = {
    "parameters": {"_modules": b"}", "_parameters": b"K\x05"},
    "modules": {"_modules": b"]K\x01a", "_parameters": b"}"},
    "a name": {"_modules": b"}", "_parameters": b"}K\x05" + tensor() + b"s"},
    "unsaved": {"_modules": b"}", "_parameters": weights(tensor()), "_non_persistent_buffers_set": b"K\x03"},
}


@pytest.mark.parametrize("groups", BENT.values(), ids=BENT)
def test_modules_of_other_parts_than_modules_have_are_refused(groups: dict[str, bytes], tmp_path: Path) -> None:
    state = b"}(" + b"".join(text(name) + value for name, value in groups.items()) + b"u"
    with pytest.raises(InputError):
        load(archive(named("my.Net") + b")\x81" + state + b"b", tmp_path / "a.pt"), arch="cbam_resnet8")


@pytest.mark.parametrize("name", ["get", "items", "keys", "__class__"])
def test_a_dictionary_keeps_its_methods_whatever_the_file_says(name: str, tmp_path: Path) -> None:
    body = called(named("collections.OrderedDict")) + b"}" + text(name) + b"K\x05sb"
    with pytest.raises(UnreadableCheckpointError, match="holds no weights"):
        load(archive(body, tmp_path / "a.pt"))


def test_a_layer_is_not_called_but_made_without_its_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it calls Linear|without running code"):
        load(archive(called(named("torch.nn.modules.linear.Linear"), b"K\x02K\x02"), tmp_path / "a.pt"))


ATOMS = st.text() | st.integers() | st.none() | st.booleans() | st.floats(allow_nan=False) | st.binary()
NAMES = st.text() | st.integers()
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner) | st.tuples(inner, inner), max_leaves=20
)


@settings(max_examples=50, deadline=None, database=None)
@given(value=VALUES, protocol=st.integers(1, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_read_as_pickle_reads_them(value: Any, protocol: int) -> None:
    parts: list[Any] = [0x1950A86A20F9469CFC6C, 1001, {}, value, []]
    content = b"".join(pickle.dumps(part, protocol) for part in parts)
    reader = PickleReader()
    assert reader.read(io.BytesIO(content), len(content)) == value
    assert not reader.names


@pytest.mark.parametrize("name", ["w\nerror: all is well", "k" * 2**20, "\x1b[2J", "\u202eevil", "\ud800"])
@pytest.mark.parametrize("ours", [False, True])
def test_names_of_more_than_one_line_are_no_names(name: str, ours: bool, write: Any, weights: Any, arch: Any) -> None:
    state = {**weights, name: torch.ones(2)}
    described = {"format": "attn-export", "version": 1, "architecture": arch.to_dict(), "input_shape": [1, 32, 32]}
    path = write({**described, "state_dict": state} if ours else state)
    with pytest.raises(InputError) as caught:
        load(path, arch=None if ours else "cbam_resnet8")
    assert name not in caught.value.message


@pytest.mark.parametrize(
    "text", ["\ud800", "x" * 20_000, 2**100, [[1]] * 100_000], ids=["half", "long", "large", "many"]
)
def test_descriptions_of_other_things_than_names_and_sizes_are_damaged(text: Any, write: Any, arch: Any) -> None:
    described = {"format": "attn-export", "version": 1, "architecture": arch.to_dict(), "class_names": text}
    with pytest.raises(UnreadableCheckpointError, match="more than names and sizes"):
        load(write(described))


@pytest.mark.parametrize("key", ["a", 1, None, (1, "a"), (("a", 1), 2), b"a", 1.5, frozenset({1})])
def test_names_and_numbers_are_keys(key: Any) -> None:
    assert is_key(key)
