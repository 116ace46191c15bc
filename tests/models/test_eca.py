"""ECA against the formula of its paper."""

import pytest
import torch

from attn_export.models.attention.eca import ECA, kernel_size


def test_each_gate_comes_from_the_means_of_the_neighbouring_channels():
    torch.manual_seed(0)
    block, x = ECA(8).double(), torch.randn(2, 8, 3, 5, dtype=torch.float64)
    weight = block.conv.weight.flatten()
    means = torch.nn.functional.pad(x.mean((2, 3)), (1, 1))
    logits = sum(weight[i] * means[:, i : i + 8] for i in range(3))
    torch.testing.assert_close(block(x), x * logits.sigmoid()[:, :, None, None])


@pytest.mark.parametrize(("channels", "k"), [(1, 1), (16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (2048, 7)])
def test_the_kernel_grows_with_the_logarithm_of_the_channels(channels, k):
    """The authors' table: 3 for 64 channels, 5 for 128 to 512, and 7 for 2048."""
    assert kernel_size(channels) == k
    assert ECA(channels).conv.weight.shape == (1, 1, k)
