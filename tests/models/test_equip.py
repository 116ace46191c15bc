"""Attention for networks that know nothing of it: where it goes, what it leaves alone, and what is refused."""

import copy
import pickle
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attn_export.models.attention.catalogue import KINDS
from attn_export.models.attention.cbam import CBAM
from attn_export.models.attention.eca import ECA
from attn_export.models.attention.squeeze_excite import SEBlock
from attn_export.models.equip import Attended, attention_of, equip, unequip
from attn_export.models.registry import create

SMALL = (1, 3, 32, 32)


class Plain(nn.Module):
    """No containers, a functional ReLU, a pool that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.third, self.fourth = nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 20, 3, padding=1)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(F.relu(self.second(F.relu(self.first(x)))))
        x = self.pool(F.relu(self.fourth(F.relu(self.third(x)))))
        return self.head(x.mean((2, 3)))


class Shared(nn.Module):
    """One block used twice, one layer of which is registered under two names, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.again, self.relu = self.block, nn.ReLU()
        self.spare, self.recurrent = nn.Conv2d(8, 8, 1), nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.block(self.relu(self.stem(self.relu(x)))))
        return self.recurrent(x.mean(3).transpose(1, 2))[0]


class Restless(nn.Module):
    """Its channels depend on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.cut = nn.Conv2d(3, 8, 3), nn.Identity()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.cut(self.conv(x)[:, : 3 + self.calls])


def vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 8), (8, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2)] if inputs == outputs else []
    features = nn.Sequential(*layers)
    return nn.Sequential(OrderedDict(features=features, pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()))


def two_layers(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1))


def unet() -> nn.Module:
    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.bottom, self.up = two_layers(3, 4), two_layers(4, 8), two_layers(12, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            skip = self.down(x)
            low = self.bottom(F.max_pool2d(skip, 2))
            return self.up(torch.cat([skip, F.interpolate(low, scale_factor=2.0)], 1))

    return UNet()


# Where blocks go.

HOSTS = {"plain": Plain, "vgg": vgg, "unet": unet}
PLACES = [
    ("resnet18", "stage", ["layer1", "layer2", "layer3", "layer4"]),
    ("resnet50", "stage", ["layer1", "layer2", "layer3", "layer4"]),
    ("resnet8", "block", ["layer1.0", "layer2.0", "layer3.0"]),
    ("se_resnet8", "block", ["layer1.0", "layer2.0", "layer3.0"]),
    ("resnet50", "last", ["layer4"]),
    ("mobilenet_v2", "stage", [f"features.{i}" for i in (1, 3, 6, 13, 18)]),
    ("mobilenet_v2", "block", [f"features.{i}" for i in range(1, 18)]),
    ("se_mobilenet_v3_small", "stage", [f"features.{i}" for i in (1, 3, 8, 12)]),
    ("se_mobilenet_v3_small", "last", ["features.12"]),
    ("vgg", "stage", ["features.3", "features.8"]),
    ("vgg", "last", ["features.9"]),
    ("plain", "stage", ["second", "fourth"]),
    ("plain", "last", ["fourth"]),  # the pool has maps of two widths
    ("unet", "stage", ["down", "bottom", "up"]),
]


@pytest.mark.parametrize(("host", "where", "paths"), PLACES)
def test_places_are_found_by_the_maps(host, where, paths):
    network = HOSTS[host]() if host in HOSTS else create(host)
    size = 32 if host in HOSTS or "resnet8" in host else 64
    assert list(attention_of(equip(network, "se", where, input_shape=(1, 3, size, size)))) == paths


def test_blocks_have_the_channels_of_their_maps():
    network = equip(create("resnet8"), "se", "stage", input_shape=SMALL, reduction=4)
    assert {path: block.fc[2].weight.shape for path, block in attention_of(network).items()} == {
        "layer1": (16, 4),
        "layer2": (32, 8),
        "layer3": (64, 16),
    }


def test_no_block_is_left_with_a_hidden_layer_that_a_relu_may_zero_for_good():
    network = equip(create("resnet8"), "se", "stage", input_shape=SMALL)
    assert [block.fc[0].out_features for block in attention_of(network).values()] == [8, 8, 8]


def test_paths_may_be_named_and_lie_within_each_other():
    network = equip(create("resnet8"), "eca", ["layer1.0", "layer1", "layer1.0.conv1"], input_shape=SMALL)
    assert list(attention_of(network)) == ["layer1", "layer1.host.0", "layer1.host.0.host.conv1"]


def test_arguments_reach_the_blocks():
    network = equip(create("resnet8"), "cbam", "last", input_shape=SMALL, reduction=8, kernel_size=3, init="paper")
    (block,) = attention_of(network).values()
    assert isinstance(block, CBAM)
    assert block.ChannelGate.fc1.weight.shape == (8, 64, 1, 1)
    assert block.SpatialGate.conv1.kernel_size == (3, 3)
    assert type(block.SpatialGate.sigmoid) is nn.Sigmoid
    assert block.SpatialGate.conv1.weight.any()


# What stays.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("attention", KINDS)
def test_outputs_are_exactly_what_they_were(attention, dtype):
    network = create("resnet20").to(dtype)
    x = torch.randn(4, 3, 32, 32, dtype=dtype)
    with torch.no_grad():
        before = network(x)
        equip(network, attention, "block", input_shape=SMALL)
        assert len(attention_of(network)) == 9
        assert torch.equal(network(x), before)
        assert torch.equal(equip(network, attention, "last", input_shape=SMALL)(x), before)


@pytest.mark.parametrize("attention", KINDS)
def test_gradients_reach_attention_and_host(attention):
    network = equip(create("resnet8"), attention, "stage", input_shape=SMALL)
    network(torch.randn(4, 3, 32, 32)).square().mean().backward()
    for block in attention_of(network).values():
        assert any(p.grad is not None and p.grad.any() for p in block.parameters())
    assert network.conv1.weight.grad.any()


def test_the_published_form_changes_the_outputs():
    network, x = create("resnet8"), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = network(x)
        assert not torch.allclose(equip(network, "se", "stage", input_shape=SMALL, init="paper")(x), before)


def test_modes_statistics_hooks_and_the_generator_are_as_before():
    network = create("resnet8")
    network.layer2.train()
    state = copy.deepcopy(network.state_dict())
    modes = {name: m.training for name, m in network.named_modules()}
    torch.manual_seed(5)
    drawn = torch.get_rng_state()
    equip(network, "cbam", "block", input_shape=SMALL)
    assert attention_of(network)["layer2.0"].training
    assert not attention_of(network)["layer3.0"].training
    assert not any(m._forward_hooks for m in network.modules())
    unequip(network)
    assert {name: m.training for name, m in network.named_modules()} == modes
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    torch.manual_seed(5)
    equip(network, "eca", "last", input_shape=SMALL, init="identity")
    assert drawn.equal(torch.manual_seed(5).get_state())


def test_shared_submodules_stay_shared():
    network = Shared()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = network(x)
        equip(network, "se", ["block"], input_shape=(1, 3, 16, 16))
        assert network.block is network.again
        assert isinstance(network.again, Attended)
        assert torch.equal(network(x), before)


def test_an_equipped_network_on_the_meta_device_has_the_same_shapes():
    with torch.device("meta"):
        bare = equip(Plain(), "cbam", "stage")
    real = equip(Plain(), "cbam", "stage")
    assert {n: t.shape for n, t in bare.state_dict().items()} == {n: t.shape for n, t in real.state_dict().items()}
    assert all(t.is_meta for t in bare.state_dict().values())


# In and out again.


def test_a_state_dict_goes_round():
    first = equip(create("resnet8"), "cbam", "stage", input_shape=SMALL, init="paper")
    second = equip(create("resnet8", seed=9), "cbam", "stage", input_shape=SMALL)
    assert first.state_dict().keys() == second.state_dict().keys()
    assert "layer1.attention.ChannelGate.fc1.weight" in first.state_dict()
    assert "layer1.host.0.conv1.weight" in first.state_dict()
    third = equip(create("resnet8", seed=9), "cbam", "stage", input_shape=SMALL, init="paper")
    third.load_state_dict(first.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(third(x), first(x))


def test_attention_is_taken_out_swapped_and_put_back():
    network = create("resnet8")
    names, x = list(network.state_dict()), torch.randn(2, 3, 32, 32)
    equip(network, "se", "stage", input_shape=SMALL)
    unequip(network, ["layer2"])
    assert list(attention_of(network)) == ["layer1", "layer3"]
    equip(unequip(network), "eca", ["layer1", "layer3"], input_shape=SMALL)
    assert [type(block) for block in attention_of(network).values()] == [ECA, ECA]
    equip(network, "se", ["layer2"], input_shape=SMALL)
    assert [type(block) for block in attention_of(network).values()] == [ECA, SEBlock, ECA]
    assert list(unequip(network).state_dict()) == names
    assert network(x).shape == (2, 10)


def test_an_equipped_network_is_copied_pickled_and_traced():
    network = equip(create("resnet8"), "cbam", "stage", input_shape=SMALL).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = network(x)
        assert torch.equal(copy.deepcopy(network)(x), before)
        assert torch.equal(pickle.loads(pickle.dumps(network))(x), before)
        assert torch.equal(torch.export.export(network, (x,)).module()(x), before)


# What is refused.


@pytest.mark.parametrize(
    ("host", "arguments", "complaint"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)), {}, "this Sequential has no convolution"),
        (nn.Sequential(nn.Conv2d(3, 4, 1)), {"where": "block"}, "where='block' matches nothing in this Sequential"),
        (nn.Sequential(nn.Conv2d(3, 4, 32)), {"where": "last"}, "where='last' matches nothing"),
        (Plain(), {"where": "layer"}, "where is 'layer'; it must be stage, block, last, or a list of submodules"),
        (Plain(), {"where": []}, r"where=\(\) matches nothing"),
        (Plain(), {"where": ["secnd"]}, "there is no submodule 'secnd'; did you mean second"),
        (Plain(), {"where": [""]}, "there is no submodule ''"),
        (Plain(), {"where": ["head"]}, r"head returns a tensor of shape \(1, 5\); attention takes a map"),
        (Plain(), {"where": ["pool"]}, r"pool returns maps of different channels \(12, 20\)"),
        (Restless(), {"where": ["cut"]}, r"cut returns maps of different channels \(4, 5\)"),
        (Shared(), {"where": ["relu"]}, r"relu returns maps of different channels \(3, 8\)"),
        (Shared(), {"where": ["spare"]}, "spare doesn't run in the forward pass"),
        (Shared(), {"where": ["recurrent"]}, "recurrent returns a tuple; attention takes a map"),
        (Plain(), {"attention": "cbm"}, "unknown attention 'cbm'; did you mean cbam\\? known are se, cbam"),
        (Plain(), {"attention": "none"}, "unknown attention 'none'"),
        (Plain(), {"init": "zero"}, "init is 'zero'; it must be identity or paper"),
        (Plain(), {"reduction": 0}, "reduction is 0"),
        (Plain(), {"attention": "cbam", "kernel_size": 5}, "kernel_size is 5"),
        (Plain(), {"input_shape": (1, 4, 32, 32)}, r"doesn't take an input of shape \(1, 4, 32, 32\)"),
        (Plain(), {"input_shape": (3, 32)}, r"doesn't take an input of shape \(3, 32\)"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(host, arguments, complaint):
    names = list(host.state_dict())
    with pytest.raises(ValueError, match=complaint):
        equip(host, **{"input_shape": SMALL, **arguments})
    assert list(host.state_dict()) == names
    assert not any(m._forward_hooks for m in host.modules())
    assert attention_of(host) == {}


def test_a_second_block_at_the_same_place_is_refused():
    network = equip(create("resnet8"), "se", "stage", input_shape=SMALL)
    with pytest.raises(ValueError, match="there is attention behind layer1, layer2, layer3 already; unequip takes it"):
        equip(network, "eca", ["layer1", "layer2", "layer3"], input_shape=SMALL)


def test_taking_out_what_is_not_there_is_refused():
    network = equip(create("resnet8"), "se", "last", input_shape=SMALL)
    with pytest.raises(ValueError, match="there is no attention at layer1; there is at layer3"):
        unequip(network, ["layer1"])
