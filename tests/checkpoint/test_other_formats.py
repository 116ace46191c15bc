"""safetensors, programs of torch.export, TorchScript: read as the same network, or refused in words."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from attn_export.exporter.artifacts import MODULE_KEY
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import InputError, UntrustedCheckpointError
from attn_export.exporter.network.capture import capture
from attn_export.models.registry import create

IMAGE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return create("se_resnet8")


def same(path: Path, network: nn.Module, *, trust: bool = False) -> None:
    with torch.no_grad():
        assert torch.equal(load(path, trust=trust).module(IMAGE), network(IMAGE))


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "weights"])
def test_safetensors_need_no_option(name: str, network: nn.Module, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / name)
    same(tmp_path / name, network)


def test_half_precision_safetensors_run_as_float32(network: nn.Module, tmp_path: Path) -> None:
    weights = {name: t.half() if t.is_floating_point() else t for name, t in network.state_dict().items()}
    save_file(weights, tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors")
    assert "the weights are float16 in the file; they run as float32" in loaded.notes
    assert all(p.dtype == torch.float32 for p in loaded.module.parameters())


def program(network: nn.Module, path: Path) -> None:
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(network, (IMAGE,), dynamic_shapes=dynamic), path)


def script(network: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.trace(network, IMAGE), path)


SAVED = pytest.mark.parametrize(("name", "save"), [("a.pt2", program), ("a.pt", script)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@SAVED
def test_a_cut_program_is_refused(
    name: str, save: Callable[[nn.Module, Path], None], network: nn.Module, tmp_path: Path
) -> None:
    save(network, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    for trust in (False, True):
        with pytest.raises(InputError):
            load(tmp_path / name, trust=trust)


@pytest.fixture
def undeclared(network: nn.Module, tmp_path: Path) -> Path:
    """A program with a part that isn't read as data."""
    program(network, tmp_path / "a.pt2")
    with zipfile.ZipFile(tmp_path / "a.pt2", "a") as archive:
        archive.writestr("a/notes", "x")
    return tmp_path / "a.pt2"


def test_with_trust_pytorch_loads_what_is_not_read_as_data(undeclared: Path, network: nn.Module) -> None:
    with pytest.raises(UntrustedCheckpointError, match="it holds notes"):
        load(undeclared)
    same(undeclared, network, trust=True)
    loaded = load(undeclared, trust=True)
    assert "loaded by PyTorch as requested by --trust" in loaded.notes[0]
    assert (loaded.inputs[0].name, loaded.inputs[0].shape) == ("input", (1, 3, 32, 32))
    paths = {node.metadata_props.get(MODULE_KEY, "") for node in capture(loaded).model.graph}
    assert {f"layer{i}.0.attention.fc.3" for i in (1, 2, 3)} <= paths
