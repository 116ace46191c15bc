"""Coordinate attention.

Hou, Zhou, Feng: "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021,
https://arxiv.org/abs/2103.02907
"""

import torch
from torch import nn

from attn_export.models.attention.gate import gate_activation, zero
from attn_export.models.attention.width import squeeze_width


class CoordinateAttention(nn.Module):
    """A gate for each row and one for each column of every channel.

    The means of the rows and of the columns go through a common 1x1 convolution, then each through one of its own. The
    hidden layer keeps at least eight channels. The parameters are called ``conv1``, ``bn1``, ``conv_h`` and ``conv_w``,
    as in the authors' checkpoints.
    """

    def __init__(self, channels: int, reduction: int = 32, *, identity: bool = False) -> None:
        super().__init__()
        hidden = max(8, squeeze_width(channels, reduction))
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act = nn.Hardswish()
        self.conv_h = nn.Conv2d(hidden, channels, 1)
        self.conv_w = nn.Conv2d(hidden, channels, 1)
        self.sigmoid = gate_activation(identity=identity)
        if identity:
            zero(self.conv_h, self.conv_w)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.mean(3, keepdim=True)  # (N, C, H, 1)
        columns = x.mean(2, keepdim=True).transpose(2, 3)  # (N, C, W, 1)
        hidden = self.act(self.bn1(self.conv1(torch.cat([rows, columns], 2))))
        rows, columns = torch.split(hidden, [x.shape[2], x.shape[3]], dim=2)
        row_gate = self.sigmoid(self.conv_h(rows))
        column_gate = self.sigmoid(self.conv_w(columns.transpose(2, 3)))
        return x * column_gate * row_gate
