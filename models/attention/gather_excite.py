"""Gather-Excite.

Hu, Shen, Albanie, Sun, Vedaldi: "Gather-Excite: Exploiting Feature Context in Convolutional Neural Networks", NeurIPS
2018, https://arxiv.org/abs/1810.12348
"""

import torch
from torch import nn
from torch.nn.functional import interpolate

from attn_export.models.attention.gate import gate_activation, zero
from attn_export.models.attention.width import positive


class GatherExcite(nn.Module):
    """GE-theta of the paper: a gate for each neighbourhood of every channel, gathered by depthwise convolutions.

    Two depthwise 3x3 convolutions of stride 2 gather (extent 4); nearest neighbours bring the gate to the map's size.
    """

    def __init__(self, channels: int, *, identity: bool = False) -> None:
        super().__init__()
        positive("channels", channels)
        layers: list[nn.Module] = []
        for _ in range(2):
            convolution = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
            layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
        self.gather = nn.Sequential(*layers[:-1])
        self.sigmoid = gate_activation(identity=identity)
        if identity:
            zero(self.gather[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.sigmoid(self.gather(x))  # (N, C, H / 4, W / 4)
        return x * interpolate(gate, size=x.shape[2:])
