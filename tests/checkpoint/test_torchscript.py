"""TorchScript archives: the weights need no option, the program needs trust."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attn_export.exporter.artifacts import only_input
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.checkpoint.torchscript import read_script
from attn_export.exporter.errors import InputError, UnreadableCheckpointError, UntrustedCheckpointError, UsageError
from attn_export.exporter.network.observation import evaluating
from attn_export.models.registry import create

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
IMAGE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Own(nn.Module):
    """A network that the zoo doesn't have, with a loop that depends on its input's size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.gate = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid())
        self.steps = 2
        self.names = ["a", "b"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for _ in range(self.steps):
            x = x * self.gate(x.mean((2, 3)))[:, :, None, None]
        return x.mean((2, 3))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return create("se_resnet8").eval()


def traced(module: nn.Module, path: Path) -> Path:
    torch.jit.save(torch.jit.trace(module, IMAGE), path)
    return path


def test_the_weights_need_no_option(network: nn.Module, tmp_path: Path) -> None:
    loaded = load(traced(network, tmp_path / "a.pt"))
    assert loaded.name == "se_resnet8"
    assert not any("not imported" in note for note in loaded.notes)
    with torch.no_grad():
        assert torch.equal(loaded.module(IMAGE), network(IMAGE))


@pytest.mark.parametrize("made", [lambda m: torch.jit.trace(m, IMAGE), torch.jit.script], ids=["traced", "scripted"])
def test_the_state_dict_is_that_of_the_module(made: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    module = Own().eval()
    torch.jit.save(made(module), tmp_path / "a.pt")
    found, wanted = read_script(tmp_path / "a.pt"), module.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_program_of_another_network_needs_trust_and_an_input(tmp_path: Path) -> None:
    module = Own().eval()
    torch.jit.save(torch.jit.script(module), tmp_path / "a.pt")
    with pytest.raises(UntrustedCheckpointError, match=r"no network of the zoo.*Nothing was run") as caught:
        load(tmp_path / "a.pt")
    assert "--code FILE.py:CLASS" in caught.value.hint
    assert "--trust --input" in caught.value.hint
    with pytest.raises(UsageError, match="doesn't say its input"):
        load(tmp_path / "a.pt", trust=True)
    loaded = load(tmp_path / "a.pt", trust=True, inputs=only_input((3, 32, 32)))
    with evaluating(loaded.module):
        assert torch.allclose(loaded.module(IMAGE), module(IMAGE), atol=1e-6)


def test_a_program_that_cannot_be_translated_says_the_way(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Own().eval()), tmp_path / "a.pt")
    with pytest.raises(InputError, match="can't translate it") as caught:
        load(tmp_path / "a.pt", trust=True, inputs=only_input((5, 32, 32)))
    assert "torch.export.save" in caught.value.hint


def test_a_frozen_program_has_no_weights_with_names(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.freeze(torch.jit.script(Own().eval())), tmp_path / "a.pt")
    with pytest.raises(UntrustedCheckpointError, match="its 0 tensors") as caught:
        load(tmp_path / "a.pt")
    assert caught.value.hint.startswith("--trust --input")


@pytest.mark.filterwarnings("ignore")
def test_a_program_for_inference_that_pytorch_cannot_read_back_says_the_way(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.optimize_for_inference(torch.jit.trace(Own().eval(), IMAGE)), tmp_path / "a.pt")
    with pytest.raises(InputError, match="can't translate it") as caught:
        load(tmp_path / "a.pt", trust=True, inputs=only_input((3, 32, 32)))
    assert "torch.export.save" in caught.value.hint


def changed(path: Path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, old in parts.items():
            archive.writestr(entry, content if entry.endswith(f"/{name}") else old)


def test_a_call_in_an_archive_is_not_made_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = traced(Own().eval(), tmp_path / "a.pt")
    changed(path, "data.pkl", b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch MARKER\x85R.")
    with pytest.raises(UntrustedCheckpointError, match=r"wants to call os\.system"):
        load(path)
    assert not (tmp_path / "MARKER").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02N.",
        b"\x80\x02}X\x01\x00\x00\x00x" + b"\x85" * 10**5 + b"K\x01s.",
        b"\x80\x02c__torch__\nA\n)\x81q\x00}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00ub.",
    ],
    ids=["empty", "none", "deep", "a module that contains itself twice"],
)
def test_an_archive_without_a_module_is_refused(content: bytes, tmp_path: Path) -> None:
    path = traced(Own().eval(), tmp_path / "a.pt")
    changed(path, "data.pkl", content)
    with pytest.raises((UntrustedCheckpointError, UnreadableCheckpointError)):
        load(path)
