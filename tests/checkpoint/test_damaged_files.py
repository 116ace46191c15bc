"""Files that are cut off, bent, or something else altogether: one clear sentence each, and exit code 3."""

import itertools
import os
import pickle
import random
import zipfile
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attn_export.exporter.checkpoint.format import save
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.checkpoint.state_dict import WRAPPERS
from attn_export.exporter.errors import AttnExportError, InputError, StateDictMismatchError, UnreadableCheckpointError
from attn_export.models.registry import architecture


def refused(path, sentence: str, **arguments) -> None:
    with pytest.raises(UnreadableCheckpointError, match=sentence) as caught:
        load(path, **arguments)
    assert caught.value.exit_code == 3
    assert str(path) in str(caught.value), "the message must say which file"


@pytest.fixture
def good(tmp_path, network, arch):
    return save(tmp_path / "model.pt", network, arch)


def test_a_missing_file_is_missing(tmp_path):
    refused(tmp_path / "model.pt", "does not exist")


def test_a_directory_is_a_directory(tmp_path):
    refused(tmp_path, "is a directory")


def test_an_empty_file_is_empty(tmp_path):
    (tmp_path / "model.pt").touch()
    refused(tmp_path / "model.pt", "is empty")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(good):
    good.chmod(0)
    refused(good, "can't be read: Permission denied")


def test_a_file_that_the_system_does_not_give_out_is_refused(good, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(good), "open", refuse)
    refused(good, "can't be read: Permission denied")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"hello, I am a text file\n" * 20, "is not a PyTorch checkpoint: it starts with"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not a PyTorch checkpoint"),
        (b"\x08\x08\x12\x07pytorch" + bytes(100), "is not a PyTorch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "is not a PyTorch checkpoint"),
        (bytes(1000), "is not a PyTorch checkpoint"),
        (b"\x80", "truncated or damaged"),
        (b"\x80\x02" + bytes(200), "is not a PyTorch checkpoint"),
        (b"P", "is not a PyTorch checkpoint"),
        (b"PK\x03\x04", "truncated or damaged"),
    ],
)
def test_something_else_is_not_a_checkpoint(tmp_path, content, sentence):
    (tmp_path / "model.pt").write_bytes(content)
    refused(tmp_path / "model.pt", sentence)


def test_a_byte_changed_inside_the_weights_is_damage(good):
    whole = bytearray(good.read_bytes())
    whole[len(whole) // 2] ^= 0x40
    good.write_bytes(whole)
    refused(good, "is damaged: the checksum of .* is wrong")


@pytest.fixture
def without_checksums():
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    yield
    torch.serialization.set_crc32_options(before)


def test_a_file_written_without_checksums_is_not_damaged(write, network, weights, without_checksums):
    path = write(weights)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is not None
    assert torch.equal(load(path, arch="cbam_resnet8").module.fc.weight, network.fc.weight)


def test_a_zip_of_something_else_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("photos/cat.txt", "meow")
    refused(tmp_path / "model.pt", "is a zip archive without a checkpoint in it")


@pytest.mark.parametrize("keep", [5, 64, 500, 5_000, 0.25, 0.5, 0.9, -1000, -22, -1])
def test_a_file_cut_off_anywhere_is_truncated(good, keep):
    whole = good.read_bytes()
    good.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    refused(good, "truncated or damaged")


@pytest.mark.parametrize("keep", [1, 10, 64, 5_000, 0.25, 0.5, 0.9, -1000, -1])
def test_a_legacy_file_cut_off_anywhere_is_truncated(write, weights, keep):
    path = write(weights, legacy=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    refused(path, "truncated or damaged", arch="cbam_resnet8")


def test_a_legacy_file_cut_off_inside_a_number_is_truncated_too(write, weights):
    path = write(weights, legacy=True)
    whole = path.read_bytes()
    for keep in range(200, 260):
        path.write_bytes(whole[:keep])
        refused(path, "truncated or damaged|is not a PyTorch checkpoint", arch="cbam_resnet8")


@pytest.mark.parametrize("keep", [10, 5_000])
def test_a_legacy_file_cut_off_is_truncated_with_trust_too(write, weights, keep):
    path = write(weights, legacy=True)
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "pickle data was truncated", arch="cbam_resnet8", trust=True)


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.5, [1]])
def test_another_version_of_the_format_says_so(write, good, version):
    refused(
        write({**torch.load(good), "version": version}),
        "has checkpoint version .*; this version of attn-export reads 1",
    )


@pytest.mark.parametrize("part", ["architecture", "input_shape", "state_dict"])
def test_a_description_with_a_part_missing_is_damaged(write, good, part):
    document = torch.load(good)
    del document[part]
    refused(write(document), f"is a damaged attn-export checkpoint: '{part}'")


@pytest.mark.parametrize("part", ["normalization", "class_names"])
def test_what_is_optional_may_be_missing(write, good, part):
    document = torch.load(good)
    del document[part]
    assert getattr(load(write(document)), part) is None


BENT: dict[str, list[Any]] = {
    "architecture": [
        None, 3, [], {}, ["backbone"], "resnet8", {"backbone": "resnet9"}, {"backbone": ["resnet8"]},
        {**architecture("resnet8").to_dict(), "kernel_size": 3.0}, {"backbone": "resnet8", "num_classes": 2**70},
    ],
    "input_shape": [
        None, 3, [], [1, 32], [1, 32, 32, 32], [1, 0, 32], [1, -1, 2], "abc", [1, float("nan"), 32],
        [1, float("inf"), 32], [1, 32.7, 32], [1, 2**70, 1], [3, 32, 32],
    ],
    "normalization": [
        3, [1, 2], {"mean": [0.5]}, {"std": [0.5]}, {"mean": 5, "std": 5}, {"mean": ["a"], "std": [1.0]},
        {"mean": [0.5, 0.5], "std": [1.0]}, {"mean": [0.5], "std": [0.0]}, {"mean": [float("nan")], "std": [1.0]},
    ],
    "class_names": [5, 0.5, ["only one"], "abc", ["a", "b", 3]],
    "state_dict": [None, 5, [1], "weights", {"fc.bias": "text"}, {1: torch.zeros(1)}, {"fc.bias": {}}],
}  # fmt: skip


@pytest.mark.parametrize(("part", "value"), [(part, value) for part, values in BENT.items() for value in values])
def test_a_description_that_makes_no_sense_is_damaged(write, good, part, value):
    refused(write({**torch.load(good), part: value}), "is a damaged attn-export checkpoint")


def test_a_description_of_another_network_than_the_weights_is_a_mismatch(write, good):
    document = torch.load(good)
    document["architecture"]["attention"] = "se"
    with pytest.raises(StateDictMismatchError, match="the weights don't fit se_resnet8") as caught:
        load(write(document))
    assert caught.value.nearest == "cbam_resnet8"


ODD_TENSORS = {
    "complex": lambda t: t.to(torch.complex64),
    "integers": lambda t: t.to(torch.int8),
    "sparse": lambda t: t.to_sparse(),
    "without data": lambda t: t.to("meta"),
    "quantized": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
    "too large for float32": lambda t: t.double() * 1e300,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("odd", ODD_TENSORS.values(), ids=ODD_TENSORS)
def test_weights_that_are_no_numbers_of_ours_are_refused(write, weights, odd):
    with pytest.raises(InputError, match=r"fc\.weight"):
        load(write({**weights, "fc.weight": odd(weights["fc.weight"])}), arch="cbam_resnet8")


def test_float8_weights_run_as_float32(write, weights):
    eighth = {n: t.to(torch.float8_e4m3fn) if t.is_floating_point() else t for n, t in weights.items()}
    model = load(write(eighth), arch="cbam_resnet8")
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("fc.weight", (0, 64)),
        ("conv1.weight", (16, 0, 3, 3)),
        ("layer3.0.attention.ChannelGate.fc1.weight", (0, 64, 1, 1)),
    ],
)
def test_tensors_without_elements_are_refused_by_name(write, weights, name, shape):
    refused(write({**weights, name: torch.zeros(shape)}), f"{name} is empty", arch="cbam_resnet8")


def test_a_mapping_that_contains_itself_is_refused(write):
    circle = {"epoch": 1}
    circle |= dict.fromkeys(WRAPPERS, circle)
    refused(write(circle), "holds no weights", arch="cbam_resnet8")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_is_read(write, network, weights, protocol, legacy):
    model = load(write(weights, protocol=protocol, legacy=legacy), arch="cbam_resnet8")
    assert torch.equal(model.module.fc.weight, network.fc.weight)


# --- any damage at all


@pytest.fixture(scope="module")
def originals(tmp_path_factory, network, arch):
    folder = tmp_path_factory.mktemp("originals")
    save(folder / "ours.pt", network, arch, class_names=["a", "b", "c"])
    for file, content, legacy in (
        ("zip.pt", network.state_dict(), False),
        ("legacy.pt", network.state_dict(), True),
        ("module.pt", {"model": network, "epoch": 3}, False),
    ):
        torch.save(content, folder / file, _use_new_zipfile_serialization=not legacy)
    return folder


def bend(whole: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, cut out or repeated; mostly at the two ends, where the structure stands."""
    bent = bytearray(whole)
    for _ in range(chance.choice([1, 1, 2, 8])):
        start = chance.choice([0, 0, len(bent) - 8_000, chance.randrange(len(bent))])
        at = min(max(0, start) + chance.randrange(8_000), len(bent) - 1)
        match chance.randrange(5):
            case 0 | 1:
                bent[at] ^= 1 << chance.randrange(8)
            case 2:
                bent[at] = chance.randrange(256)
            case 3:
                del bent[at : at + chance.choice([1, 4, 100])]
            case 4:
                bent[at:at] = bent[at : at + chance.choice([1, 4, 100])]
    return bytes(bent[: chance.randrange(len(bent))] if chance.random() < 0.1 else bent)


@pytest.mark.parametrize("kind", ["ours", "zip", "legacy", "module"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(seed=st.integers(0, 2**32))
def test_damage_of_any_kind_ends_in_a_sentence_or_in_sound_weights(tmp_path, originals, kind, seed):
    path = tmp_path / "model.pt"
    path.write_bytes(bend((originals / f"{kind}.pt").read_bytes(), random.Random(seed)))
    try:
        model = load(path, arch="cbam_resnet8")
    except AttnExportError as error:
        clear = error.exit_code == 3 and bool(str(error))
    else:
        tensors = itertools.chain(model.module.parameters(), model.module.buffers())
        clear = all(bool(t.isfinite().all()) for t in tensors)
    assert clear
