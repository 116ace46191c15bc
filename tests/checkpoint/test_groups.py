"""Several networks, losses and metrics side by side in one state dict, as training frameworks save them."""

from pathlib import Path

import pytest
import torch

from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import InputError, UnknownArchitectureError
from attn_export.models.registry import create

Weights = dict[str, torch.Tensor]


def named(prefix: str, weights: Weights) -> Weights:
    return {f"{prefix}.{name}": tensor for name, tensor in weights.items()}


@pytest.fixture(scope="module")
def weights() -> Weights:
    return create("se_resnet8").state_dict()


def loaded(content: object, folder: Path, **options: str) -> tuple[str, str, Weights]:
    torch.save(content, folder / "a.ckpt")
    model = load(folder / "a.ckpt", arch=options.get("arch"))
    return model.name, "; ".join(model.notes), model.module.state_dict()


@pytest.mark.parametrize("prefix", ["model", "net", "backbone", "encoder", "generator", "model.module"])
@pytest.mark.parametrize("options", [{}, {"arch": "se_resnet8"}], ids=["inferred", "named"])
def test_the_network_is_found_beside_a_loss_and_a_metric(
    prefix: str, options: dict[str, str], weights: Weights, tmp_path: Path
) -> None:
    others = {"criterion.weight": torch.ones(10), "accuracy.total": torch.tensor(3.0)}
    content = {"state_dict": {**named(prefix, weights), **others}, "pytorch-lightning_version": "2.4.0"}
    name, notes, found = loaded(content, tmp_path, **options)
    assert name == "se_resnet8"
    assert f"the network is that under {prefix.partition('.')[0]!r}; 2 other tensors of the file are left out" in notes
    assert torch.equal(found["conv1.weight"], weights["conv1.weight"])


def test_the_largest_network_that_fits_wins(weights: Weights, tmp_path: Path) -> None:
    content = {**named("student", weights), **named("teacher", create("resnet20").state_dict())}
    name, notes, _ = loaded(content, tmp_path)
    assert name == "resnet20"
    assert "the network is that under 'teacher'" in notes


def test_averaged_weights_win_over_the_same_network(weights: Weights, tmp_path: Path) -> None:
    averaged = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    _, notes, found = loaded({**named("model", weights), **named("ema.model", averaged)}, tmp_path)
    assert "the network is that under 'ema'" in notes
    assert torch.equal(found["conv1.weight"], averaged["conv1.weight"])


def test_two_networks_that_fit_are_both_named(weights: Weights, tmp_path: Path) -> None:
    with pytest.raises(UnknownArchitectureError, match="holds 2 networks that fit: online and target"):
        loaded({**named("online", weights), **named("target", weights)}, tmp_path)


def test_a_group_that_is_not_whole_is_not_taken(weights: Weights, tmp_path: Path) -> None:
    part = {name: tensor for name, tensor in weights.items() if not name.startswith("layer2")}
    with pytest.raises(InputError):
        loaded({**named("model", part), "criterion.weight": torch.ones(10)}, tmp_path)
