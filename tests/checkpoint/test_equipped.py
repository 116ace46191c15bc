"""Checkpoints of networks that got attention afterwards: made by name, built again from plain values."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from attn_export.exporter.checkpoint import equipped
from attn_export.exporter.checkpoint.create import create_named
from attn_export.exporter.checkpoint.hosts import Host, build_host
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import (
    RuntimeUnavailableError,
    StateDictMismatchError,
    UnreadableCheckpointError,
    UsageError,
)
from attn_export.models.attention.eca import ECA
from attn_export.models.equip import Equipment, attention_of, equip
from attn_export.models.registry import architecture, create

OPTIONS: dict[str, Any] = {"num_classes": None, "in_channels": 3, "reduction": None, "kernel_size": 7}


class Small(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=4))
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library with one network, in the place of torchvision."""
    models = ModuleType("models")
    models.list_models = lambda module: ["small"]  # type: ignore[attr-defined]
    models.get_model = lambda name, weights, **arguments: Small(**arguments)  # type: ignore[attr-defined]
    library = ModuleType("torchvision")
    library.models = models  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", library)


@pytest.mark.parametrize("where", ["stage", "block", ("layer1", "layer3.0")])
def test_what_is_made_is_loaded_and_computes_what_its_host_does(tmp_path: Path, where: Any) -> None:
    made = create_named(tmp_path / "a.pt", "resnet8", "cbam", where, **OPTIONS, seed=3)
    model = load(tmp_path / "a.pt")
    assert model.name == made["architecture"]["name"] == "resnet8+cbam"
    assert list(attention_of(model.module)) == made["attention"]
    assert model.inputs[0].shape == (1, 3, 32, 32)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.module(x), create("resnet8", seed=3)(x))


def test_trained_weights_come_back(tmp_path: Path) -> None:
    network = equipped.EquippedNetwork(architecture("resnet8"), Equipment("eca", "last", init="paper"), (3, 32, 32))
    module = network.equip(create("resnet8"))
    equipped.save(tmp_path / "a.pt", module, network)
    (block,) = attention_of(load(tmp_path / "a.pt").module).values()
    assert isinstance(block, ECA)
    assert all(torch.equal(load(tmp_path / "a.pt").module.state_dict()[n], t) for n, t in module.state_dict().items())


def test_a_host_of_another_library_is_built_by_name_and_takes_its_weights(tmp_path: Path, torchvision: None) -> None:
    host = Small(num_classes=4)
    torch.save(host.state_dict(), tmp_path / "host.pth")
    options = {**OPTIONS, "num_classes": 4}
    create_named(tmp_path / "a.pt", "torchvision:small", "se", ("features",), **options, weights=tmp_path / "host.pth")
    model = load(tmp_path / "a.pt")
    assert model.name == "torchvision:small+se"
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(model.module(x), host.eval()(x))


def test_weights_of_another_host_are_refused(tmp_path: Path, torchvision: None) -> None:
    torch.save(create("resnet8").state_dict(), tmp_path / "other.pth")
    with pytest.raises(StateDictMismatchError, match="don't fit what torchvision:small builds"):
        create_named(tmp_path / "a.pt", "torchvision:small", "se", "last", **OPTIONS, weights=tmp_path / "other.pth")
    assert not (tmp_path / "a.pt").exists()


def test_a_zoo_hosts_weights_go_in(tmp_path: Path) -> None:
    torch.save(create("resnet8", seed=8).state_dict(), tmp_path / "host.pth")
    create_named(tmp_path / "a.pt", "resnet8", "gct", "stage", **OPTIONS, weights=tmp_path / "host.pth")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "a.pt").module(x), create("resnet8", seed=8)(x))


# What is refused.


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_that_is_not_installed_is_named_with_the_command(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(RuntimeUnavailableError, match=f"{library} ") as caught:
        build_host(Host(f"{library}:resnet50"))
    assert caught.value.exit_code == 5
    assert caught.value.hint == f"pip install 'attn-export[{library}]'"


@pytest.mark.parametrize(
    ("name", "attention", "where", "complaint"),
    [
        ("torchvision:smal", "se", "stage", "torchvision has no network called 'smal'; did you mean torchvision:small"),
        ("timm:hf-hub:me/net", "se", "stage", "is no network of torchvision or timm"),
        ("os:system", "se", "stage", "no network called .os:system"),
        ("resnet9", "se", "stage", "no network called 'resnet9'"),
        ("resnet8", "sce", "stage", "unknown attention 'sce'"),
        ("resnet8", "se", ("layer9",), "there is no submodule 'layer9'"),
        ("torchvision:small", "se", "block", "where='block' matches nothing in this Small"),
    ],
)
def test_what_can_not_be_made_is_refused(
    tmp_path: Path, torchvision: None, name: str, attention: str, where: Any, complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        create_named(tmp_path / "a.pt", name, attention, where, **OPTIONS)
    assert not (tmp_path / "a.pt").exists()


def edited(tmp_path: Path, **changes: Any) -> Path:
    create_named(tmp_path / "a.pt", "resnet8", "se", "stage", **OPTIONS)
    document = torch.load(tmp_path / "a.pt", weights_only=True)
    torch.save({**document, **changes}, tmp_path / "a.pt")
    return tmp_path / "a.pt"


EQUIPMENT = {"attention": "se", "where": "stage", "reduction": None, "kernel_size": 7, "init": "identity"}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"version": 3}, "checkpoint version 3"),
        ({"host": {"name": "os:system", "num_classes": 1, "in_channels": 3}}, "no network of torchvision or timm"),
        ({"host": {"name": "timm:local-dir:/", "num_classes": 1, "in_channels": 3}}, "no network of torchvision"),
        ({"host": {"name": "timm:a", "num_classes": 2**40, "in_channels": 3}}, "num_classes is"),
        ({"host": {"name": "timm:a"}}, "damaged"),
        ({"host": "timm:a"}, "damaged"),
        ({"architecture": {"backbone": "resnet9"}}, "no network called 'resnet9'"),
        ({"equipment": {}}, "damaged"),
        ({"equipment": {**EQUIPMENT, "attention": "none"}}, "unknown attention"),
        ({"equipment": {**EQUIPMENT, "attention": ["se"]}}, "damaged"),
        ({"equipment": {**EQUIPMENT, "where": [1]}}, "where is"),
        ({"equipment": {**EQUIPMENT, "where": ["nothing"]}}, "describes no resnet8\\+se: there is no submodule"),
        ({"equipment": {**EQUIPMENT, "reduction": 2.5}}, "reduction is 2.5"),
        ({"equipment": {**EQUIPMENT, "reduction": 2**60}}, "reduction is"),
        ({"equipment": {**EQUIPMENT, "init": "eval"}}, "init is 'eval'"),
        ({"input_shape": [3, -1, 32]}, "input shape"),
        ({"input_shape": [1, 32, 32]}, "doesn't take an input of shape"),
        ({"state_dict": [1]}, "no state dict"),
        ({"state_dict": {"conv1.weight": 1}}, "no state dict"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UnreadableCheckpointError, match=complaint):
        load(edited(tmp_path, **changes))


def test_weights_that_do_not_fit_the_description_are_refused(tmp_path: Path) -> None:
    weights = equip(create("resnet8"), "eca", "stage", input_shape=(1, 3, 32, 32)).state_dict()
    with pytest.raises(StateDictMismatchError, match="don't fit what resnet8\\+se builds"):
        load(edited(tmp_path, state_dict=weights))
