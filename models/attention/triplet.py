"""Triplet attention.

Misra, Nalamada, Arasanipalai, Hou: "Rotate to Attend: Convolutional Triplet Attention Module", WACV 2021,
https://arxiv.org/abs/2010.03045
"""

from collections import OrderedDict

import torch
from torch import nn

from attn_export.models.attention.gate import zero
from attn_export.models.attention.width import positive


class Branch(nn.Module):
    """A gate from maximum and mean over one axis, which are convolved over the two others.

    Shape:
        (N, 2, A, B), maximum and mean -> the gate, (N, 1, A, B), any floating dtype.
    """

    def __init__(self, kernel_size: int, *, identity: bool) -> None:
        super().__init__()
        convolution = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.conv = nn.Sequential(OrderedDict(conv=convolution, bn=nn.BatchNorm2d(1)))
        self.sigmoid = nn.Sigmoid()
        if identity:
            zero(self.conv[1])

    def forward(self, summary: torch.Tensor) -> torch.Tensor:
        gate: torch.Tensor = self.sigmoid(self.conv(summary))
        return gate


class TripletAttention(nn.Module):
    """Three gates, each over two of the three axes of a map; the three gated maps are averaged.

    The average is computed as the map times the average of the gates, without turning the map around. The parameters
    are called ``cw.conv.conv``, ``hc.conv.bn``, ``hw.…`` and so on, as in the authors' checkpoints. As the identity
    each gate is 0.5, and their sum is divided by 1.5 instead of 3.

    Raises:
        ValueError: channels is not a positive integer, or kernel_size neither 3 nor 7.
    """

    def __init__(self, channels: int, kernel_size: int = 7, *, identity: bool = False) -> None:
        super().__init__()
        positive("channels", channels)
        if kernel_size not in (3, 7):
            raise ValueError(f"kernel_size is {kernel_size!r}; spatial attention is defined for 3 and 7")
        self.cw = Branch(kernel_size, identity=identity)
        self.hc = Branch(kernel_size, identity=identity)
        self.hw = Branch(kernel_size, identity=identity)
        self.divisor = 1.5 if identity else 3.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        of_rows = torch.stack([x.amax(2), x.mean(2)], 1)  # (N, 2, C, W)
        of_columns = torch.stack([x.amax(3), x.mean(3)], 1).transpose(2, 3)  # (N, 2, H, C)
        of_channels = torch.stack([x.amax(1), x.mean(1)], 1)  # (N, 2, H, W)
        cw = self.cw(of_rows).transpose(1, 2)  # (N, C, 1, W)
        hc = self.hc(of_columns).permute(0, 3, 2, 1)  # (N, C, H, 1)
        return x * ((cw + hc + self.hw(of_channels)) / self.divisor)
