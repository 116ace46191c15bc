"""The structure of every family: torchvision's names and sizes, and the place of the attention."""

import pytest
import torch
from torch import nn

from attn_export.models.attention.cbam import CBAM
from attn_export.models.attention.squeeze_excite import SEBlock, SqueezeExcitation
from attn_export.models.backbones.resnet import Bottleneck, ResNetForm
from attn_export.models.complexity import count_parameters
from attn_export.models.registry import Architecture, architecture, build, names, skeleton

# Our name, torchvision's, and its number of parameters: MobileNetV3 has its own attention, so ours says so.
TORCHVISION = [
    ("resnet18", "resnet18", 11_689_512),
    ("resnet34", "resnet34", 21_797_672),
    ("resnet50", "resnet50", 25_557_032),
    ("resnet101", "resnet101", 44_549_160),
    ("resnet152", "resnet152", 60_192_808),
    ("resnext50_32x4d", "resnext50_32x4d", 25_028_904),
    ("mobilenet_v2", "mobilenet_v2", 3_504_872),
    ("se_mobilenet_v3_small", "mobilenet_v3_small", 2_542_856),
    ("se_mobilenet_v3_large", "mobilenet_v3_large", 5_483_032),
]
# Number of tensors, and some of them.
KNOWN_TENSORS: dict[str, tuple[int, dict[str, tuple[int, ...]]]] = {
    "resnet18": (
        122,
        {
            "conv1.weight": (64, 3, 7, 7),
            "layer1.0.bn1.running_mean": (64,),
            "layer2.0.downsample.0.weight": (128, 64, 1, 1),
            "layer2.0.downsample.1.running_var": (128,),
            "layer4.1.conv2.weight": (512, 512, 3, 3),
            "fc.weight": (1000, 512),
            "fc.bias": (1000,),
        },
    ),
    "resnet50": (
        320,
        {
            "layer1.0.conv3.weight": (256, 64, 1, 1),
            "layer1.0.downsample.0.weight": (256, 64, 1, 1),
            "layer2.0.conv2.weight": (128, 128, 3, 3),
            "layer4.2.bn3.num_batches_tracked": (),
            "fc.weight": (1000, 2048),
        },
    ),
    "resnext50_32x4d": (
        320,
        {
            "layer1.0.conv1.weight": (128, 64, 1, 1),
            "layer1.0.conv2.weight": (128, 4, 3, 3),
            "layer4.0.conv2.weight": (1024, 32, 3, 3),
        },
    ),
    "mobilenet_v2": (
        314,
        {
            "features.0.0.weight": (32, 3, 3, 3),
            "features.1.conv.0.0.weight": (32, 1, 3, 3),
            "features.1.conv.1.weight": (16, 32, 1, 1),
            "features.2.conv.2.weight": (24, 96, 1, 1),
            "features.17.conv.3.running_mean": (320,),
            "features.18.0.weight": (1280, 320, 1, 1),
            "classifier.1.weight": (1000, 1280),
        },
    ),
    "se_mobilenet_v3_small": (
        244,
        {
            "features.1.block.0.0.weight": (16, 1, 3, 3),
            "features.1.block.1.fc1.weight": (8, 16, 1, 1),
            "features.1.block.2.0.weight": (16, 16, 1, 1),
            "features.4.block.2.fc1.bias": (24,),
            "features.12.0.weight": (576, 96, 1, 1),
            "classifier.0.weight": (1024, 576),
            "classifier.3.weight": (1000, 1024),
        },
    ),
    "se_mobilenet_v3_large": (
        312,
        {
            "features.4.block.2.fc1.weight": (24, 72, 1, 1),
            "features.16.0.weight": (960, 160, 1, 1),
            "classifier.0.weight": (1280, 960),
        },
    ),
}
ATTENDED_BY_HAND = ["resnet18", "resnext50_32x4d", "mobilenet_v2", "resnet8"]


class Zero(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def blocks_with_attention(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if hasattr(m, "attention")]


@pytest.mark.parametrize(("name", "_", "parameters"), TORCHVISION)
def test_parameter_counts_are_torchvisions(name, _, parameters):
    assert count_parameters(skeleton(architecture(name))) == parameters


@pytest.mark.parametrize("name", KNOWN_TENSORS)
def test_well_known_tensors_have_torchvisions_names_and_shapes(name):
    count, known = KNOWN_TENSORS[name]
    ours = shapes(skeleton(architecture(name)))
    assert len(ours) == count
    assert {n: ours.get(n) for n in known} == known


@pytest.mark.parametrize(("name", "theirs", "_"), TORCHVISION)
def test_every_tensor_has_torchvisions_name_and_shape(name, theirs, _):
    torchvision = pytest.importorskip(
        "torchvision", reason="torchvision is not installed: compared with a short list above"
    )
    with torch.device("meta"):
        assert shapes(skeleton(architecture(name))) == shapes(getattr(torchvision.models, theirs)())


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_timms_resnets_have_the_same_names(name):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        assert shapes(skeleton(architecture(name))) == shapes(timm.create_model(name, pretrained=False))


@pytest.mark.parametrize("backbone", ATTENDED_BY_HAND)
@pytest.mark.parametrize("attention", ["se", "cbam"])
def test_attention_adds_names_and_moves_none(backbone, attention):
    plain, attended = (shapes(skeleton(architecture(backbone, attention=a))) for a in ("none", attention))
    assert plain.items() < attended.items()
    assert all(".attention." in name for name in attended.keys() - plain.keys())


@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "mobilenet_v3_large"])
@pytest.mark.parametrize("attention", ["none", "cbam"])
def test_mobilenet_v3_keeps_its_names_with_another_attention_or_none(backbone, attention):
    own, other = (shapes(skeleton(architecture(backbone, attention=a))) for a in ("se", attention))
    own = {name: shape for name, shape in own.items() if "fc" not in name}
    other = {name: shape for name, shape in other.items() if "Gate" not in name}
    assert own == other


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("se_resnet18", SEBlock, 8),
        ("cbam_resnet18", CBAM, 8),
        ("se_resnet50", SEBlock, 16),
        ("cbam_resnet152", CBAM, 50),
        ("se_mobilenet_v2", SEBlock, 17),
        ("se_mobilenet_v3_small", SqueezeExcitation, 9),
        ("cbam_mobilenet_v3_small", CBAM, 9),
        ("se_mobilenet_v3_large", SqueezeExcitation, 8),
        ("se_resnet8", SEBlock, 3),
        ("cbam_resnet20", CBAM, 9),
    ],
)
def test_every_block_has_its_attention(name, kind, count):
    assert sum(isinstance(m, kind) for m in skeleton(architecture(name)).modules()) == count


@pytest.mark.parametrize("name", [n for n in names() if not n.startswith(("se_", "cbam_"))])
def test_a_plain_network_has_no_attention_at_all(name):
    kinds = (SEBlock, CBAM, SqueezeExcitation, nn.Sigmoid, nn.Hardsigmoid)
    assert not [n for n, m in skeleton(architecture(name)).named_modules() if isinstance(m, kinds)]


@pytest.mark.parametrize("attention", ["none", "se", "cbam"])
@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet50", "resnext50_32x4d"])
def test_without_what_attention_lets_through_a_residual_block_is_its_shortcut(name, attention):
    for block in blocks_with_attention(build(architecture(name, attention=attention)))[:6]:
        block.attention = Zero()
        x = torch.randn(2, block.conv1.in_channels, 6, 6)
        shortcut = x if block.downsample is None else block.downsample(x)
        assert torch.equal(block(x), shortcut.relu())


@pytest.mark.parametrize("attention", ["none", "se", "cbam"])
def test_without_what_attention_lets_through_an_inverted_residual_is_its_shortcut_or_nothing(attention):
    for block in blocks_with_attention(build(architecture("mobilenet_v2", attention=attention))):
        block.attention = Zero()
        first = next(m for m in block.modules() if isinstance(m, nn.Conv2d))
        x = torch.randn(1, first.in_channels, 4, 4)
        out = block(x)
        assert torch.equal(out, x if block.has_shortcut else torch.zeros_like(out))


@pytest.mark.parametrize(
    ("name", "last_norm"), [("se_resnet8", "bn2"), ("cbam_resnet50", "bn3"), ("se_mobilenet_v2", "conv.3")]
)
def test_attention_sees_what_the_last_batch_norm_gives(name, last_norm):
    block = blocks_with_attention(build(architecture(name)))[1]
    seen = {}
    block.get_submodule(last_norm).register_forward_hook(lambda m, args, out: seen.update(norm=out.clone()))
    block.attention.register_forward_pre_hook(lambda m, args: seen.update(attention=args[0].clone()))
    first = next(m for m in block.modules() if isinstance(m, nn.Conv2d))
    block(torch.randn(2, first.in_channels, 8, 8))
    assert torch.equal(seen["attention"], seen["norm"])


def test_in_mobilenet_v3_attention_stands_between_depthwise_and_projection():
    block = skeleton(architecture("se_mobilenet_v3_small")).features[4].block
    depthwise, attention, projection = block[1][0], block[2], block[3][0]
    assert depthwise.groups == depthwise.in_channels == 96
    assert isinstance(attention, SqueezeExcitation)
    assert (projection.in_channels, projection.out_channels) == (96, 40)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("stride_in", "first"), [("3x3", False), ("1x1", True)])
def test_the_stride_of_a_bottleneck_stands_in_its_3x3_convolution_or_in_its_first(stride, stride_in, first):
    form = ResNetForm("bottleneck", (1,), (32,), stride_in=stride_in)
    block = Bottleneck(64, 32, stride, lambda channels: nn.Identity(), form)
    strides = [(stride, stride), (1, 1)] if first else [(1, 1), (stride, stride)]
    assert [block.conv1.stride, block.conv2.stride, block.conv3.stride] == [*strides, (1, 1)]


@pytest.mark.parametrize("arguments", [{"groups": 32}, {"base_width": 4}, {"stride_in": "1x1"}])
def test_a_basic_block_refuses_groups(arguments):
    with pytest.raises(ValueError, match="use a bottleneck"):
        ResNetForm("basic", (2, 2), (64, 128), **arguments)


@pytest.mark.parametrize(
    "wrong",
    [
        {"depths": ()},
        {"depths": (2, 2)},
        {"depths": (2, 2, 2, 0)},
        {"depths": (2, 2, 2, 2000)},
        {"depths": (2, 2, 2, True)},
        {"widths": (64, 128, 256, 2**24)},
        {"block": "dense"},
        {"stem": 5},
        {"stride_in": "5x5"},
        {"stem_pool": "none"},
        {"branch_relu": 1},
        {"groups": 0},
        {"widths": (8, 16, 32, 64), "base_width": 4},
    ],
)
def test_a_form_that_no_resnet_has_is_refused(wrong):
    with pytest.raises(ValueError):
        ResNetForm(**{"block": "bottleneck", "depths": (2, 2, 2, 2), **wrong})


def test_a_resnet_of_any_depths_and_widths_is_built():
    form = ResNetForm("bottleneck", (1, 2, 1), (8, 24, 16), stem=3, groups=2, base_width=32)
    network = build(Architecture("resnet", "se", num_classes=5, in_channels=1, form=form))
    assert network(torch.randn(2, 1, 16, 16)).shape == (2, 5)
    assert network.layer2[0].conv2.groups == 2
    assert network.fc.in_features == 64


@pytest.mark.parametrize(
    ("name", "size", "channels"), [("cbam_resnet8", 32, 3), ("se_resnet20", 16, 1), ("cbam_resnet18", 64, 4)]
)
@pytest.mark.parametrize("batch", [1, 3])
def test_images_become_logits(name, size, channels, batch):
    network = build(architecture(name, num_classes=7, in_channels=channels))
    with torch.no_grad():
        assert network(torch.randn(batch, channels, size, size)).shape == (batch, 7)


@pytest.mark.full
@pytest.mark.parametrize("name", names())
def test_every_network_runs_at_its_own_size(name):
    arch = architecture(name)
    with torch.no_grad():
        out = build(arch)(torch.randn(1, *arch.input_shape))
    assert out.shape == (1, arch.num_classes)
    assert out.isfinite().all()


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [  # torchvision's width_mult
        ("mobilenet_v2", 0.5, {"features.0.0": 16, "features.4.conv.2": 16, "features.18.0": 1280}),
        ("mobilenet_v2", 1.4, {"features.0.0": 48, "features.17.conv.2": 448, "features.18.0": 1792}),
        ("mobilenet_v3_small", 0.5, {"features.0.0": 8, "features.11.block.3.0": 48, "classifier.0": 512}),
        ("mobilenet_v3_large", 0.75, {"features.0.0": 16, "features.15.block.3.0": 120, "classifier.0": 960}),
    ],
)
def test_a_mobilenet_of_another_width_is_torchvisions(name, width, expected):
    arch = Architecture(name, "se", reduction=4, width=width)
    built = shapes(skeleton(arch))
    assert {layer: built[f"{layer}.weight"][0] for layer in expected} == expected
    assert skeleton(arch)(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 1000)
    assert Architecture.from_dict(arch.to_dict()) == arch
