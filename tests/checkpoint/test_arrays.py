"""State dicts of numpy arrays, and state dicts that ``pickle.dump`` wrote, without numpy's or torch's functions."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attn_export.exporter.checkpoint.container import read
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import UnreadableCheckpointError, UntrustedCheckpointError
from attn_export.models.registry import create

TYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")


def pickled(content: Any, folder: Path, protocol: int) -> Path:
    (folder / "model.pkl").write_bytes(pickle.dumps(content, protocol))
    return folder / "model.pkl"


def saved(content: Any, folder: Path, protocol: int) -> Path:
    torch.save(content, folder / "model.pt", pickle_protocol=protocol)
    return folder / "model.pt"


@pytest.mark.parametrize("write", [pickled, saved])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_are_tensors_of_the_same_numbers(write: Any, protocol: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    arrays = {name: (100 * draw.standard_normal((2, 3, 4))).astype(name) for name in TYPES}
    arrays |= {"columns": np.asfortranarray(arrays["float32"]), "scalar": np.array(3.5), "none": np.zeros((0, 3))}
    content = read(write({**arrays, "again": arrays["int32"]}, tmp_path, protocol)).content
    for name, array in arrays.items():
        assert content[name].numpy().dtype == array.dtype
        assert np.array_equal(content[name].numpy(), array)
    assert content["again"] is content["int32"]


@pytest.mark.parametrize("protocol", [2, 5])
def test_large_arrays_are_read(protocol: int, tmp_path: Path) -> None:
    array = np.arange(700_000, dtype=np.float32)
    assert np.array_equal(read(saved({"a": array}, tmp_path, protocol)).content["a"].numpy(), array)


def test_a_state_dict_of_arrays_is_a_checkpoint(tmp_path: Path) -> None:
    network = create("se_resnet8", seed=1)
    path = saved({"weights": {n: t.numpy() for n, t in network.state_dict().items()}}, tmp_path, 2)
    assert all(torch.equal(t, network.state_dict()[n]) for n, t in load(path).module.state_dict().items())


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_state_dict_of_pickle_dump_is_a_checkpoint(protocol: int, tmp_path: Path) -> None:
    network = create("se_resnet8", seed=1)
    model = load(pickled({"model": network.state_dict(), "epoch": 3}, tmp_path, protocol))
    assert all(torch.equal(t, network.state_dict()[n]) for n, t in model.module.state_dict().items())


@pytest.mark.parametrize("array", [np.array([object()]), np.zeros(3, ">f4"), np.zeros(3, [("a", "f4")]), np.array("a")])
def test_arrays_of_other_types_are_no_tensors(array: Any, tmp_path: Path) -> None:
    content = read(pickled({"a": array, "b": torch.ones(2)}, tmp_path, 4)).content
    assert not isinstance(content["a"], torch.Tensor)
    assert torch.equal(content["b"], torch.ones(2))


def test_an_array_larger_than_its_bytes_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps({"a": np.zeros((3, 5), np.float32)}, 4).replace(b"K\x03K\x05", b"K\x03K\x06")
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(UnreadableCheckpointError, match="shape that its bytes don't have"):
        read(tmp_path / "model.pkl")


def test_a_storage_in_a_storage_is_refused(tmp_path: Path) -> None:
    class Nested:
        def __init__(self, depth: int) -> None:
            self.depth = depth

        def __reduce__(self) -> Any:
            inner = io.BytesIO()
            torch.save(Nested(self.depth - 1) if self.depth else 3, inner, _use_new_zipfile_serialization=False)
            return torch.storage._load_from_bytes, (inner.getvalue(),)

    with pytest.raises((UntrustedCheckpointError, UnreadableCheckpointError)):
        load(pickled({"a": Nested(2)}, tmp_path, 4))
