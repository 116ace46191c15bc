"""Efficient channel attention.

Wang, Wu, Zhu, Li, Zuo, Hu: "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", CVPR 2020,
https://arxiv.org/abs/1910.03151
"""

import math

import torch
from torch import nn

from attn_export.models.attention.gate import gate_activation, zero
from attn_export.models.attention.width import positive


class ECA(nn.Module):
    """Channel gate from a convolution that slides over the channel means: k weights instead of 2 C^2 / r.

    The parameter is called ``conv.weight``, (1, 1, k), as in the authors' checkpoints; k follows from C, see
    `kernel_size`.
    """

    def __init__(self, channels: int, *, identity: bool = False) -> None:
        super().__init__()
        kernel = kernel_size(channels)
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.sigmoid = gate_activation(identity=identity)
        if identity:
            zero(self.conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = self.avg_pool(x).flatten(2).transpose(1, 2)  # (N, 1, C)
        gate = self.sigmoid(self.conv(means))
        return x * gate.transpose(1, 2).unsqueeze(-1)


def kernel_size(channels: int) -> int:
    """The odd number at or above ``floor((log2(C) + 1) / 2)``: equation 12 of the paper, gamma 2 and b 1."""
    return int((math.log2(positive("channels", channels)) + 1) / 2) | 1
