"""Weights that pruning and weight normalization keep in parts."""

from pathlib import Path

import pytest
import torch
import torch.nn.utils.prune as pruning
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from attn_export.exporter.checkpoint.folded import NOTE, folded
from attn_export.exporter.checkpoint.load import load
from attn_export.models.registry import create
from tests.checkpoint.blog_senet import SENet

BLOG = Path(__file__).with_name("blog_senet.py")


def pruned(module: nn.Module, layer: nn.Module) -> None:
    pruning.l1_unstructured(layer, "weight", 0.5)


def normalized(module: nn.Module, layer: nn.Module) -> None:
    parametrizations.weight_norm(layer)
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(1.5)  # type: ignore[union-attr, operator]


@pytest.mark.filterwarnings("ignore")
def normalized_before_torch_2(module: nn.Module, layer: nn.Module) -> None:
    weight_norm(layer)
    with torch.no_grad():
        layer.weight_g.mul_(1.5)  # type: ignore[operator]


CHANGES = [pruned, normalized, normalized_before_torch_2]


def agrees(path: Path, network: nn.Module, **options: object) -> bool:
    model = load(path, **options)  # type: ignore[arg-type]
    assert NOTE in model.notes
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.module(x), network.eval()(x))
    return True


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("change", CHANGES)
def test_the_users_network_gets_whole_weights(tmp_path, change):
    network = SENet()
    change(network, network.stem)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    assert agrees(tmp_path / "model.pt", network, factory="blog_senet:SENet", code=BLOG)


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("change", CHANGES)
def test_so_does_a_network_of_this_project(tmp_path, change):
    network = create("se_resnet8")
    change(network, network.get_submodule("layer2.0.conv1"))
    torch.save({"model": network.state_dict()}, tmp_path / "model.pt")
    assert agrees(tmp_path / "model.pt", network)


def test_a_network_that_keeps_them_in_parts_gets_them_in_parts(tmp_path):
    source = tmp_path / "theirs.py"
    source.write_text(
        "from torch import nn\ndef build():\n    layer = nn.Conv2d(3, 4, 3)\n"
        "    return nn.Sequential(nn.utils.parametrizations.weight_norm(layer))\n"
    )
    network = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    assert NOTE not in load(tmp_path / "model.pt", factory="theirs:build", code=source).notes


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.ones(2, 3), torch.ones(3, 2)),
        (torch.ones(1, 1).expand(2**30, 4), torch.ones(4)),
        (torch.ones(3, dtype=torch.int64), torch.ones(3)),
        (torch.empty(3, device="meta"), torch.ones(3)),
    ],
)
def test_parts_that_do_not_fit_stay_as_they_are(first, second):
    for weights in ({"a_orig": first, "a_mask": second}, {"weight_g": first, "weight_v": second}, {"a_orig": first}):
        assert folded(weights) == (weights, ())
