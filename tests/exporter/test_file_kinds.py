"""Files of every kind are called what they are, with a command that takes them."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import UnreadableCheckpointError, UnreadableGraphError
from attn_export.exporter.graph.read import read
from attn_export.exporter.system.file_kinds import kind_of


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3)).eval()


def onnx_file(path: Path, version: int = 10) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
    path.write_bytes(onnx.helper.make_model(graph, ir_version=version).SerializeToString())


def bundle(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", "{}")


def safetensors(path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


# Name, what writes it, what it is called, a word of the hint.
FILES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "model.onnx": (onnx_file, "an ONNX file", "attn-export clean"),
    "state.pt": (lambda p: torch.save(net().state_dict(), p), "a PyTorch checkpoint", "--onnx"),
    "old.pt": (
        lambda p: torch.save(net().state_dict(), p, _use_new_zipfile_serialization=False),
        "a PyTorch checkpoint",
        "--onnx",
    ),
    "script.pt": (
        lambda p: torch.jit.trace(net(), torch.zeros(1, 3)).save(str(p)),
        "a TorchScript archive",
        "--onnx",
    ),
    "model.pt2": (
        lambda p: torch.export.save(torch.export.export(net(), (torch.zeros(1, 3),)), p),
        "a program of torch.export",
        "--onnx",
    ),
    "model.safetensors": (safetensors, "a safetensors file", "--onnx"),
    "model.bundle.zip": (bundle, "a deployment bundle", "attn-export build"),
    "images.npy": (lambda p: np.save(p, np.zeros(3)), "a file of numpy arrays", "--images"),
    "images.npz": (lambda p: np.savez(p, a=np.zeros(3)), "a file of numpy arrays", "--images"),
    "report.json": (lambda p: p.write_text('{"schema_version": 1}'), "a JSON file", "attn-export compare"),
    "model.h5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "an HDF5 file", "tf2onnx"),
    "model.tflite": (lambda p: p.write_bytes(b"\x1c\0\0\0TFL3" + bytes(99)), "a TensorFlow Lite file", "tf2onnx"),
    "model.gguf": (lambda p: p.write_bytes(b"GGUF\x03" + bytes(99)), "a GGUF file", "language model"),
    "pointer.pt": (
        lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n"),
        "a pointer of Git LFS",
        "git lfs pull",
    ),
    "page.pt": (lambda p: p.write_bytes(b"<!DOCTYPE html><html></html>"), "an HTML page", "direct link"),
    "net.py": (lambda p: p.write_text("import torch"), "Python source", "model.pt --code"),
}


LOADED = ("a PyTorch checkpoint", "a TorchScript archive", "a program of torch.export", "a safetensors file")


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_called_what_it_is_by_what_can_not_take_it(name: str, tmp_path: Path) -> None:
    write, kind, hint = FILES[name]
    write(path := tmp_path / name)
    found = kind_of(path)
    assert found is not None
    assert kind in found.name
    if kind not in LOADED:
        with pytest.raises(UnreadableCheckpointError, match=f"is not a PyTorch checkpoint: it is {kind}") as caught:
            load(path)
        assert hint in caught.value.hint
    if kind != "an ONNX file":
        with pytest.raises(UnreadableGraphError, match=f"is not an ONNX file: it is {kind}") as refused:
            read(path)
        assert hint in refused.value.hint


@pytest.mark.parametrize("version", range(3, 14))
def test_onnx_files_of_every_version_are_recognized(version: int, tmp_path: Path) -> None:
    onnx_file(path := tmp_path / "model.onnx", version)
    found = kind_of(path)
    assert found is not None
    assert found.name == "an ONNX file"


@pytest.mark.parametrize("content", [b"", b"P", b"PK", b"PK\x03\x04" + bytes(9), b"\x08", b"hello", bytes(99)])
def test_what_is_not_known_is_not_guessed(content: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "file").write_bytes(content)
    assert kind_of(path) is None
    assert kind_of(tmp_path) is None
    assert kind_of(tmp_path / "missing") is None
