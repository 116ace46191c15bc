"""An untrained network must be worth running: alive at every depth, with gates that say something."""

from functools import lru_cache

import pytest
import torch
from torch import nn

from attn_export.exporter.artifacts import only_input
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.models.initialization import (
    initialize,
    last_norms_of_residual_branches,
    natural_images,
    statistics_learned,
)
from attn_export.models.registry import architecture, build, create, skeleton

FAMILIES = ["resnet8", "resnet18", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_small"]
NETWORKS = [f"{attention}_{backbone}" for backbone in FAMILIES for attention in ("se", "cbam")]


def outputs(network: nn.Module, chosen: list[nn.Module]) -> list[torch.Tensor]:
    """What the chosen modules give for images of 64x64, from soft to noise, that the initialization has not seen."""
    seen: list[torch.Tensor] = []
    hooks = [m.register_forward_hook(lambda m, args, out: seen.append(out.clone())) for m in chosen]
    channels = next(m for m in network.modules() if isinstance(m, nn.Conv2d)).in_channels
    with torch.no_grad():
        network(natural_images(channels, 64, torch.Generator().manual_seed(99)))
    for hook in hooks:
        hook.remove()
    return seen


def residual_blocks(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if hasattr(m, "downsample") or hasattr(m, "has_shortcut")]


def gates(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, nn.Sigmoid | nn.Hardsigmoid)]


@lru_cache(maxsize=1)
def made(name: str) -> nn.Module:
    """The larger ones take seconds to make, and the tests of one network follow each other."""
    return create(name)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return made(request.param)


def test_activations_neither_explode_nor_die_out(network):
    spreads = [out.std().item() for out in outputs(network, residual_blocks(network))]
    assert len(spreads) >= 3
    assert min(spreads) > 0.1
    assert max(spreads) < 50


def test_no_gate_is_constant_and_none_is_shut_or_open_for_good(network):
    seen = outputs(network, gates(network))
    assert len(seen) >= 3
    for gate in seen:
        assert gate.std() > 0.01
        assert ((gate > 0.02) & (gate < 0.98)).float().mean() > 0.5


def test_gates_depend_on_the_image(network):
    for gate in outputs(network, gates(network)):
        assert gate.std(0).max() > 0.01


def test_no_batch_norm_is_left_at_its_defaults(network):
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        for value, default in ((norm.running_mean, 0), (norm.running_var, 1), (norm.weight, 1), (norm.bias, 0)):
            assert (value != default).float().mean() > 0.9
        assert (norm.running_var > 0).all()


def test_every_number_is_finite(network):
    assert all(t.isfinite().all() for t in network.state_dict().values())


def test_calibration_leaves_nothing_behind(network):
    for module in network.modules():
        assert not module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not any(isinstance(m, nn.BatchNorm2d) and m.momentum == 1.0 for m in network.modules())


def test_logits_depend_on_the_image(network):
    logits = outputs(network, [network])[0]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["se_resnet20", "cbam_resnet20"])
def test_no_gate_of_a_narrow_network_is_constant_whatever_the_seed(name):
    for seed in range(4):
        network = create(name, seed=seed)
        assert min(gate.std() for gate in outputs(network, gates(network))) > 0.01


@pytest.mark.parametrize(("name", "seed"), [("se_resnet8", 5), ("cbam_resnet8", 8)])
def test_no_gate_of_a_narrow_network_is_constant_on_the_images_of_the_proof(name, seed):
    network = create(name, seed=seed).requires_grad_(False)
    seen = []
    for gate in gates(network):
        gate.register_forward_hook(lambda m, args, out: seen.append(out.clone()))
    network(torch.from_numpy(batches(opened(only_input((3, 32, 32)), {"batch"}, 1))[-1].arrays["input"]))
    assert min(gate.std() for gate in seen) > 0.01


@pytest.mark.parametrize(("name", "momentum"), [("se_resnet8", 0.1), ("se_mobilenet_v3_small", 0.01)])
def test_every_batch_norm_has_its_familys_momentum_again(name, momentum):
    assert {m.momentum for m in create(name).modules() if isinstance(m, nn.BatchNorm2d)} == {momentum}


def test_calibration_that_fails_leaves_nothing_behind_either():
    network = build(architecture("se_resnet8"))
    network.fc = nn.Linear(3, 3)  # does not fit what comes before it
    with pytest.raises(RuntimeError):
        initialize(network)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channel_counts_are_calibrated_too(channels):
    network = create("cbam_resnet8", in_channels=channels)
    assert all(0.1 < out.std() < 50 for out in outputs(network, residual_blocks(network)))


@pytest.mark.parametrize(
    ("name", "count"), [("cbam_resnet18", 8), ("se_resnet50", 16), ("mobilenet_v2", 10), ("se_mobilenet_v3_small", 6)]
)
def test_every_branch_beside_a_shortcut_has_one_last_norm(name, count):
    ends = last_norms_of_residual_branches(skeleton(architecture(name)))
    assert len(ends) == len(set(ends)) == count


def test_batch_norms_are_in_the_mode_that_they_were_in_before():
    network = build(architecture("resnet8"))
    network.bn1.train()
    with statistics_learned(network):
        assert all(m.training and m.momentum == 1.0 for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert [name for name, m in network.named_modules() if m.training] == ["bn1"]


def test_a_shortcuts_norm_is_not_the_end_of_a_branch():
    network = skeleton(architecture("resnet18"))
    assert network.layer2[0].bn2 in last_norms_of_residual_branches(network)
    assert network.layer2[0].downsample[1] not in last_norms_of_residual_branches(network)


@pytest.mark.full
@pytest.mark.parametrize("name", ["se_resnet152", "cbam_resnet152", "cbam_mobilenet_v3_large"])
def test_the_deepest_networks_stay_inside_the_range_of_float16(name):
    network = create(name)
    assert all(out.std() > 0.05 and out.abs().max() < 6e4 for out in outputs(network, residual_blocks(network)))
