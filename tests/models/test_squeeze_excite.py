"""SEBlock and SqueezeExcitation against the formulas of their papers.

The images and weights of the exact comparisons are small integers and the images have 16 pixels, so every mean and
every sum is exact whatever its order, and the results must be equal to the last bit.
"""

import pytest
import torch

from attn_export.models.attention.squeeze_excite import SEBlock, SqueezeExcitation

BLOCKS = (SEBlock, SqueezeExcitation)


def whole_numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


def with_whole_weights(block: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for seed, parameter in enumerate(block.parameters(), start=1):
            parameter.copy_(whole_numbers(*parameter.shape, seed=seed))
    return block.requires_grad_(False)


def test_se_is_sigmoid_of_two_matrices_around_a_relu_of_the_channel_means():
    block, x = with_whole_weights(SEBlock(8, reduction=2)), whole_numbers(3, 8, 4, 4)
    first, second = block.state_dict()["fc.0.weight"], block.state_dict()["fc.2.weight"]
    means = x.reshape(3, 8, 16).sum(2) / 16
    hidden = (means @ first.T).clamp(min=0)
    gate = torch.sigmoid(hidden @ second.T)
    assert torch.equal(block(x), x * gate.reshape(3, 8, 1, 1))
    assert gate.std() > 0.1, "a gate that is the same everywhere would prove nothing"


def test_the_mobilenet_variant_has_biases_and_a_hard_sigmoid():
    block, x = with_whole_weights(SqueezeExcitation(32, reduction=4)), whole_numbers(3, 32, 4, 4)
    w = block.state_dict()
    means = x.reshape(3, 32, 16).sum(2) / 16
    hidden = (means @ w["fc1.weight"].flatten(1).T + w["fc1.bias"]).clamp(min=0)
    gate = torch.nn.functional.hardsigmoid(hidden @ w["fc2.weight"].flatten(1).T + w["fc2.bias"])
    assert torch.equal(block(x), x * gate.reshape(3, 32, 1, 1))
    assert 0 < (gate == 0).float().mean() < 1
    assert ((gate > 0) & (gate < 1)).any()


def test_se_parameters_have_the_names_and_shapes_of_the_widely_used_form():
    shapes = {name: tuple(t.shape) for name, t in SEBlock(64, reduction=16).state_dict().items()}
    assert shapes == {"fc.0.weight": (4, 64), "fc.2.weight": (64, 4)}


def test_mobilenet_parameters_are_1x1_convolutions_rounded_to_eight():
    shapes = {name: tuple(t.shape) for name, t in SqueezeExcitation(72, reduction=4).state_dict().items()}
    assert shapes == {"fc1.weight": (24, 72, 1, 1), "fc1.bias": (24,), "fc2.weight": (72, 24, 1, 1), "fc2.bias": (72,)}


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 1, 1), (16, 7, 7), (24, 5, 9), (64, 1, 3)])
def test_the_shape_stays(block, channels, height, width):
    x = torch.randn(2, channels, height, width)
    assert block(channels)(x).shape == x.shape


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_dtype_stays(block, dtype):
    out = block(16).to(dtype)(torch.randn(2, 16, 4, 4, dtype=dtype))
    assert out.dtype == dtype
    assert out.isfinite().all()


def test_a_reduction_larger_than_the_width_keeps_one_hidden_channel():
    assert SEBlock(8, reduction=16).fc[0].weight.shape == (1, 8)


def test_a_reduction_of_one_keeps_the_width():
    assert SEBlock(8, reduction=1).fc[0].weight.shape == (8, 8)


def test_a_constant_image_is_not_mistaken_for_an_empty_one():
    block = with_whole_weights(SEBlock(4, reduction=1))
    assert torch.equal(block(torch.zeros(1, 4, 2, 2)), torch.zeros(1, 4, 2, 2))
    assert not torch.equal(block(torch.ones(1, 4, 2, 2)), torch.zeros(1, 4, 2, 2))


@pytest.mark.parametrize("block", BLOCKS)
def test_the_input_is_not_changed(block):
    x = torch.randn(2, 16, 4, 4)
    before = x.clone()
    block(16)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("block", BLOCKS)
def test_one_image_does_not_influence_another(block):
    se = block(16).double()
    x = torch.randn(3, 16, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(se(x)[1:2], se(x[1:2]))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    "arguments", [(0, 16), (-4, 16), (16, 0), (16, -1), (16, 0.25), (16.0, 4), ("16", 4), (16, None)]
)
def test_arguments_that_are_no_positive_integers_are_refused_by_name(block, arguments):
    with pytest.raises(ValueError, match=r"(channels|reduction) is .*; it must be an integer of at least 1"):
        block(*arguments)
