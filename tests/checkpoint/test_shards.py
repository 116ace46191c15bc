"""Weights in several files, and what is said of folders and of packed files."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import UnreadableCheckpointError
from attn_export.models.registry import create

WEIGHTS = create("se_resnet8", seed=1).state_dict()


def sharded(folder: Path, save: Callable[[Any, Path], None], stem: str, ending: str) -> Path:
    names = list(WEIGHTS)
    files = {f"{stem}-0000{i}-of-00002.{ending}": names[i - 1 :: 2] for i in (1, 2)}
    for file, own in files.items():
        save({name: WEIGHTS[name] for name in own}, folder / file)
    index = folder / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {n: f for f, own in files.items() for n in own}}))
    return index


@pytest.mark.parametrize(
    ("save", "stem", "ending"), [(save_file, "model", "safetensors"), (torch.save, "pytorch_model", "bin")]
)
def test_an_index_stands_for_its_files(tmp_path: Path, save: Any, stem: str, ending: str) -> None:
    index = sharded(tmp_path, save, stem, ending)
    model = load(index)
    assert all(torch.equal(tensor, WEIGHTS[name]) for name, tensor in model.module.state_dict().items())
    first = tmp_path / f"{stem}-00001-of-00002.{ending}"
    with pytest.raises(UnreadableCheckpointError, match="one of 2 parts") as caught:
        load(first)
    assert str(index) in caught.value.hint
    with pytest.raises(UnreadableCheckpointError, match="directory") as caught:
        load(tmp_path)
    assert str(index) in caught.value.hint
    save({name: tensor + 1 for name, tensor in torch.load(first).items()} if ending == "bin" else WEIGHTS, first)
    assert load(index).sha256 != model.sha256
    first.unlink()
    with pytest.raises(UnreadableCheckpointError, match="does not exist"):
        load(index)


@pytest.mark.parametrize("name", ["../model.pt", "/etc/passwd", "a.index.json", "a/b.bin"])
def test_an_index_names_files_beside_it_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.bin.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(UnreadableCheckpointError, match="no file beside it"):
        load(tmp_path / "m.bin.index.json")


@pytest.mark.parametrize("content", ["{}", "[", '{"weight_map": 3}', '{"weight_map": {}}'])
def test_what_is_no_index_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "m.bin.index.json").write_text(content)
    with pytest.raises(UnreadableCheckpointError):
        load(tmp_path / "m.bin.index.json")


def in_a_tar(content: bytes) -> bytes:
    with tarfile.open(fileobj=(stream := io.BytesIO()), mode="w") as archive:
        entry = tarfile.TarInfo("model.pth")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def in_a_zip(content: bytes) -> bytes:
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
        archive.writestr("run1/model.pth", content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("pack", "command"),
    [
        (gzip.compress, "gunzip"),
        (bz2.compress, "bunzip2"),
        (lzma.compress, "unxz"),
        (in_a_tar, "tar xf"),
        (in_a_zip, "unzip"),
    ],
)
def test_packed_files_name_what_unpacks_them(tmp_path: Path, pack: Any, command: str) -> None:
    torch.save(WEIGHTS, stream := io.BytesIO())
    (tmp_path / "model.pth.x").write_bytes(pack(stream.getvalue()))
    with pytest.raises(UnreadableCheckpointError) as caught:
        load(tmp_path / "model.pth.x")
    assert command in caught.value.hint


def test_arrays_in_a_file_of_their_own_say_how_they_become_a_checkpoint(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{name: tensor.numpy() for name, tensor in WEIGHTS.items()})
    with pytest.raises(UnreadableCheckpointError, match="numpy arrays") as caught:
        load(tmp_path / "a.npz")
    code = caught.value.hint[caught.value.hint.index("torch.save") :].rstrip(".").replace("'model.pt'", "target")
    eval(code, {"torch": torch, "numpy": np, "target": tmp_path / "model.pt"})
    assert load(tmp_path / "model.pt").architecture is not None


def test_a_folder_of_a_distributed_checkpoint_says_how_it_becomes_a_file(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(b"")
    with pytest.raises(UnreadableCheckpointError) as caught:
        load(tmp_path)
    assert "dcp_to_torch_save" in caught.value.hint
