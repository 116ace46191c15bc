"""Concurrent spatial and channel squeeze and excitation.

Roy, Navab, Wachinger: "Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks", MICCAI
2018, https://arxiv.org/abs/1803.02579
"""

import torch
from torch import nn

from attn_export.models.attention.gate import zero
from attn_export.models.attention.width import squeeze_width


class SCSE(nn.Module):
    """A channel gate as in SE and a gate of each place from a 1x1 convolution; both gated maps are added.

    ``x * a + x * b`` is computed as ``x * (a + b)``. The parameters are called ``cSE.1``, ``cSE.3`` and ``sSE.0``, as
    in the segmentation networks that use the block. As the identity both gates are 0.5, and their sum is exactly 1.
    """

    def __init__(self, channels: int, reduction: int = 2, *, identity: bool = False) -> None:
        super().__init__()
        hidden = squeeze_width(channels, reduction)
        self.cSE = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )
        self.sSE = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())
        if identity:
            zero(self.cSE[3], self.sSE[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (self.cSE(x) + self.sSE(x))  # (N, C, 1, 1) and (N, 1, H, W)
