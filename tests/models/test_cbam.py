"""CBAM and its two parts against the formulas of the paper; see test_squeeze_excite.py on exactness."""

import pytest
import torch

from attn_export.models.attention.cbam import CBAM, ChannelAttention, SpatialAttention


def whole_numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


def with_whole_weights(block: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for seed, parameter in enumerate(block.parameters(), start=1):
            parameter.copy_(whole_numbers(*parameter.shape, seed=seed))
    return block.requires_grad_(False)


def test_the_channel_gate_adds_what_average_and_maximum_give_before_the_sigmoid():
    block, x = with_whole_weights(ChannelAttention(8, reduction=2)), whole_numbers(3, 8, 4, 4)
    first, second = (block.state_dict()[f"{fc}.weight"].flatten(1) for fc in ("fc1", "fc2"))
    pixels = x.reshape(3, 8, 16)
    score = torch.zeros(3, 8)
    for pooled in (pixels.sum(2) / 16, pixels.max(2).values):
        score += (pooled @ first.T).clamp(min=0) @ second.T
    assert torch.equal(block(x), torch.sigmoid(score).reshape(3, 8, 1, 1))
    assert torch.sigmoid(score).std() > 0.1


@pytest.mark.parametrize("kernel", [3, 7])
def test_the_spatial_gate_convolves_mean_and_maximum_over_channels(kernel):
    block, x = with_whole_weights(SpatialAttention(kernel)), whole_numbers(2, 8, 5, 6)
    block.conv1.weight /= 32  # still exact, and the sigmoid isn't saturated
    weight, pad = block.state_dict()["conv1.weight"], kernel // 2
    summary = torch.stack([x.sum(1) / 8, x.max(1).values], 1)
    padded = torch.nn.functional.pad(summary, (pad, pad, pad, pad))
    score = torch.zeros(2, 1, 5, 6)
    for i in range(5):
        for j in range(6):
            score[:, 0, i, j] = (padded[:, :, i : i + kernel, j : j + kernel] * weight).sum((1, 2, 3))
    assert torch.equal(block(x), torch.sigmoid(score))
    assert torch.sigmoid(score).std() > 0.01


def test_cbam_is_the_channel_gate_and_then_the_spatial_gate_of_what_is_left():
    block, x = CBAM(16, reduction=4).requires_grad_(False), torch.randn(2, 16, 6, 5)
    left = x * block.ChannelGate(x)
    assert torch.equal(block(x), left * block.SpatialGate(left))


def test_the_order_of_the_two_gates_matters():
    block, x = CBAM(16, reduction=4).requires_grad_(False), torch.randn(2, 16, 6, 5)
    side_by_side = x * block.ChannelGate(x) * block.SpatialGate(x)
    assert not torch.allclose(block(x), side_by_side, rtol=1e-4)


def test_parameters_stand_where_published_checkpoints_have_them():
    shapes = {name: tuple(t.shape) for name, t in CBAM(64, reduction=16).state_dict().items()}
    assert shapes == {
        "ChannelGate.fc1.weight": (4, 64, 1, 1),
        "ChannelGate.fc2.weight": (64, 4, 1, 1),
        "SpatialGate.conv1.weight": (1, 2, 7, 7),
    }


def test_both_pooled_vectors_go_through_the_same_weights():
    assert sum(p.numel() for p in ChannelAttention(64, 16).parameters()) == 2 * 64 * 4


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 1, 1), (16, 7, 7), (24, 5, 9), (64, 1, 3)])
def test_the_shape_stays(channels, height, width, kernel):
    x = torch.randn(2, channels, height, width)
    assert CBAM(channels, kernel_size=kernel)(x).shape == x.shape
    assert ChannelAttention(channels)(x).shape == (2, channels, 1, 1)
    assert SpatialAttention(kernel)(x).shape == (2, 1, height, width)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_dtype_stays(dtype):
    out = CBAM(16).to(dtype)(torch.randn(2, 16, 8, 8, dtype=dtype))
    assert out.dtype == dtype
    assert out.isfinite().all()


def test_a_reduction_larger_than_the_width_keeps_one_hidden_channel():
    assert CBAM(8, reduction=16).ChannelGate.fc1.weight.shape == (1, 8, 1, 1)


def test_the_input_is_not_changed():
    x = torch.randn(2, 16, 4, 4)
    before = x.clone()
    CBAM(16)(x)
    assert torch.equal(x, before)


def test_one_image_does_not_influence_another():
    block, x = CBAM(16).double(), torch.randn(3, 16, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x)[1:2], block(x[1:2]))


@pytest.mark.parametrize("arguments", [(0, 16), (-4, 16), (16, 0), (16, 0.25), (16.0, 4), ("16", 4)])
def test_arguments_that_are_no_positive_integers_are_refused_by_name(arguments):
    with pytest.raises(ValueError, match=r"(channels|reduction) is .*; it must be an integer of at least 1"):
        CBAM(*arguments)


@pytest.mark.parametrize("kernel", [1, 5, 9, 0, -7, None, "7"])
def test_other_kernels_than_3_and_7_are_refused(kernel):
    with pytest.raises(ValueError, match=r"kernel_size is .*; spatial attention is defined for 3 and 7"):
        CBAM(16, kernel_size=kernel)
