import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attn_export.models.attention.catalogue import Attention
from attn_export.models.complexity import complexity
from attn_export.models.registry import architecture, names, skeleton


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("resnet50", 4_089_184_256),
        ("resnet18", 1_814_073_344),
        ("mobilenet_v2", 300_774_272),
        ("se_mobilenet_v3_small", 56_510_400),
    ],
)
def test_well_known_networks_have_their_well_known_cost(name, macs):
    assert complexity(architecture(name)).macs == macs


@pytest.mark.parametrize("name", ["cbam_resnet8", "eca_resnet8", "se_mobilenet_v3_small"])
def test_torchs_own_counter_agrees(name):
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        skeleton(architecture(name))(torch.empty(1, *architecture(name).input_shape, device="meta"))
    assert 2 * complexity(architecture(name)).macs == counter.get_total_flops()


# resnet8 with one input channel and two classes on an image of 4x4, layer by layer: out channels * in channels * kernel
# * pixels of the output.
TINY_MACS = sum(
    (
        16 * 1 * 9 * 16,
        16 * 16 * 9 * 16 * 2,
        32 * 16 * 9 * 4 + 32 * 32 * 9 * 4 + 32 * 16 * 1 * 4,
        64 * 32 * 9 * 1 + 64 * 64 * 9 * 1 + 64 * 32 * 1 * 1,
        2 * 64,
    )
)
CHANNELS_AND_PIXELS = [(16, 16), (32, 4), (64, 1)]


def tiny(attention: Attention, **arguments: int):
    return complexity(
        architecture("resnet8", attention=attention, num_classes=2, in_channels=1, **arguments), (1, 4, 4)
    )


def test_a_tiny_network_costs_what_a_person_counts():
    assert tiny("none").macs == TINY_MACS
    convolutions = 16 * 9 + 2 * 16 * 16 * 9 + (32 * 16 + 32 * 32) * 9 + 32 * 16 + (64 * 32 + 64 * 64) * 9 + 64 * 32
    batch_norms = 2 * (3 * 16 + 3 * 32 + 3 * 64)
    assert tiny("none").parameters == convolutions + batch_norms + 2 * 64 + 2


@pytest.mark.parametrize("reduction", [1, 4, 16])
def test_se_adds_two_matrices(reduction):
    added = sum(2 * c * (c // reduction) for c, _ in CHANNELS_AND_PIXELS)
    assert tiny("se", reduction=reduction).macs == TINY_MACS + added
    assert tiny("se", reduction=reduction).parameters == tiny("none").parameters + added


@pytest.mark.parametrize("kernel", [3, 7])
def test_cbam_adds_two_matrices_used_twice_and_a_convolution(kernel):
    channel = sum(2 * c * (c // 16) for c, _ in CHANNELS_AND_PIXELS)
    spatial = 2 * kernel * kernel
    assert tiny("cbam", kernel_size=kernel).parameters == tiny("none").parameters + channel + 3 * spatial
    pixels = sum(p for _, p in CHANNELS_AND_PIXELS)
    assert tiny("cbam", kernel_size=kernel).macs == TINY_MACS + 2 * channel + spatial * pixels


@pytest.mark.parametrize(
    ("name", "added_share"),
    [("se_resnet50", 0.0984), ("cbam_resnet50", 0.0985), ("se_resnet18", 0.0074), ("se_mobilenet_v2", 0.0081)],
)
def test_attention_adds_the_share_of_parameters_that_the_papers_report(name, added_share):
    arch = architecture(name)
    with_it, without = complexity(arch).parameters, complexity(arch.plain).parameters
    assert with_it / without - 1 == pytest.approx(added_share, abs=1e-4)


@pytest.mark.parametrize(
    "name", [n for n in names() if n.startswith(("se_", "cbam_")) and not n.endswith(("101", "152"))]
)
def test_attention_adds_little_arithmetic(name):
    arch = architecture(name)
    ratio = complexity(arch).macs / complexity(arch.plain).macs
    assert 1 < ratio < 1.02


def test_the_cost_follows_the_image():
    arch = architecture("cbam_resnet8")
    classifier = 64 * 10
    channel_gates = 2 * sum(2 * c * max(1, c // 16) for c in (16, 32, 64))
    small, large = complexity(arch, (3, 32, 32)).macs, complexity(arch, (3, 64, 64)).macs
    assert large - classifier - channel_gates == 4 * (small - classifier - channel_gates)


def test_counting_needs_neither_the_memory_nor_the_time_of_running():
    huge = complexity(architecture("resnet18"), (3, 65536, 65536))
    assert huge.macs > 1e14
    assert huge.parameters == 11_689_512
