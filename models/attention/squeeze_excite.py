"""Squeeze-and-Excitation.

Hu, Shen, Sun: "Squeeze-and-Excitation Networks", CVPR 2018, https://arxiv.org/abs/1709.01507
"""

import torch
from torch import nn

from attn_export.models.attention.gate import gate_activation, zero
from attn_export.models.attention.width import squeeze_width


class SEBlock(nn.Module):
    """Channel gate of the paper: global average pool, two linear layers, sigmoid, multiply.

    The parameters are called ``fc.0.weight`` (hidden, C) and ``fc.2.weight`` (C, hidden), so checkpoints of the widely
    used form of the block load as they are. The hidden width is rounded to a multiple of ``divisor``.
    """

    def __init__(
        self, channels: int, reduction: int = 16, *, bias: bool = False, divisor: int = 1, identity: bool = False
    ) -> None:
        super().__init__()
        hidden = squeeze_width(channels, reduction, divisor)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=bias),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=bias),
            gate_activation(identity=identity),
        )
        if identity:
            zero(self.fc[2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.fc(self.pool(x).flatten(1))  # (N, C)
        return x * gate[:, :, None, None]


class SqueezeExcitation(nn.Module):
    """The variant inside MobileNetV3: 1x1 convolutions with bias, and a hard sigmoid.

    Howard et al.: "Searching for MobileNetV3", ICCV 2019, https://arxiv.org/abs/1905.02244, section 5.3.
    The hidden width is C / reduction rounded to a multiple of 8, as in the published networks, whose parameter names
    (``fc1``, ``fc2``) it keeps.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = squeeze_width(channels, reduction, 8)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.fc2(self.activation(self.fc1(self.avgpool(x))))  # (N, C, 1, 1)
        return x * self.scale_activation(gate)
