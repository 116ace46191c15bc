"""Bottleneck Attention Module.

Park, Woo, Lee, Kweon: "BAM: Bottleneck Attention Module", BMVC 2018, https://arxiv.org/abs/1807.06514
"""

import torch
from torch import nn

from attn_export.models.attention.gate import zero
from attn_export.models.attention.width import squeeze_width


class BAM(nn.Module):
    """One gate for each channel and place: ``x * (1 + sigmoid(channel(x) + spatial(x)))``, section 3 of the paper.

    The channel branch is a pool and two 1x1 convolutions, the spatial branch two dilated 3x3 convolutions between two
    of 1x1; a BatchNorm ends either (equations 3 and 4). As the identity the gate is ``0.5 + sigmoid``, exactly 1.
    """

    def __init__(self, channels: int, reduction: int = 16, dilation: int = 4, *, identity: bool = False) -> None:
        super().__init__()
        hidden = squeeze_width(channels, reduction)
        self.channel_att = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        dilated = [
            layer
            for _ in range(2)
            for layer in (
                nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU(),
            )
        ]
        self.spatial_att = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            *dilated,
            nn.Conv2d(hidden, 1, 1, bias=False),
            nn.BatchNorm2d(1),
        )
        self.sigmoid = nn.Sigmoid()
        self.base = 0.5 if identity else 1.0
        if identity:
            zero(self.channel_att[-1], self.spatial_att[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.sigmoid(self.channel_att(x) + self.spatial_att(x))  # (N, C, H, W)
        return x * (self.base + gate)
