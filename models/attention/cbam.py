"""Convolutional Block Attention Module.

Woo, Park, Lee, Kweon: "CBAM: Convolutional Block Attention Module", ECCV 2018, https://arxiv.org/abs/1807.06521
"""

from typing import Literal, get_args

import torch
from torch import nn

from attn_export.models.attention.gate import gate_activation, zero
from attn_export.models.attention.width import squeeze_width

SpatialEnd = Literal["plain", "bias", "norm"]


class ChannelAttention(nn.Module):
    """Which channels matter: a gate from the average and the maximum of every channel, section 3.1 of the paper.

    Both pooled vectors go through the same two 1x1 convolutions (``fc1``, ``fc2``) and are added before the sigmoid.
    (N, C, H, W) -> the gate, (N, C, 1, 1), any floating dtype; multiplying is the caller's.
    """

    def __init__(self, channels: int, reduction: int = 16, *, bias: bool = False, identity: bool = False) -> None:
        super().__init__()
        hidden = squeeze_width(channels, reduction)
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.max_pool = nn.AdaptiveMaxPool2d(1)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=bias)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=bias)
        self.sigmoid = gate_activation(identity=identity)
        if identity:
            zero(self.fc2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        average = self.fc2(self.relu(self.fc1(self.avg_pool(x))))  # (N, C, 1, 1)
        maximum = self.fc2(self.relu(self.fc1(self.max_pool(x))))  # (N, C, 1, 1)
        gate: torch.Tensor = self.sigmoid(average + maximum)
        return gate


class SpatialAttention(nn.Module):
    """Which places matter: a gate from the mean and the maximum over the channels, section 3.2 of the paper.

    Mean and maximum are concatenated in this order, and go through one convolution, ``conv1``, of kernel size 7 (the
    paper's choice) or 3. ``end`` is what follows it: nothing ("plain"), its "bias", or a BatchNorm ``bn`` ("norm"), as
    in the authors' implementation. (N, C, H, W) -> the gate, (N, 1, H, W), any floating dtype; multiplying is the
    caller's.

    Raises:
        ValueError: kernel_size is neither 3 nor 7, or end is another word.
    """

    def __init__(self, kernel_size: int = 7, *, end: SpatialEnd = "plain", identity: bool = False) -> None:
        super().__init__()
        if kernel_size not in (3, 7):
            raise ValueError(f"kernel_size is {kernel_size!r}; spatial attention is defined for 3 and 7")
        if end not in get_args(SpatialEnd):
            raise ValueError(f"end is {end!r}; expected one of {', '.join(get_args(SpatialEnd))}")
        self.conv1 = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=end == "bias")
        self.bn = nn.BatchNorm2d(1) if end == "norm" else nn.Identity()
        self.sigmoid = gate_activation(identity=identity)
        if identity:
            zero(self.bn if end == "norm" else self.conv1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)  # (N, 2, H, W)
        gate: torch.Tensor = self.sigmoid(self.bn(self.conv1(summary)))
        return gate


class CBAM(nn.Module):
    """Channel attention, then spatial attention of what it let through; arguments and errors are those of the two.

    The parameters stand under ``ChannelGate.`` and ``SpatialGate.``, where published CBAM checkpoints have them.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        kernel_size: int = 7,
        *,
        bias: bool = False,
        spatial_end: SpatialEnd = "plain",
        identity: bool = False,
    ) -> None:
        super().__init__()
        self.ChannelGate = ChannelAttention(channels, reduction, bias=bias, identity=identity)
        self.SpatialGate = SpatialAttention(kernel_size, end=spatial_end, identity=identity)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * self.ChannelGate(x)
        return x * self.SpatialGate(x)
