"""MobileNetV2.

Sandler et al.: "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, https://arxiv.org/abs/1801.04381

Parameters are named as in torchvision, so its ImageNet weights load.
"""

import torch
from torch import nn

from attn_export.models.attention.width import make_divisible
from attn_export.models.backbones.resnet import AttentionFactory

# Table 2 of the paper: expansion t, channels c, repeats n, stride s.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def conv_bn_relu6(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU6; (N, C, H, W) -> (N, out_channels, H / stride, W / stride)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expand, depthwise, project, attention, shortcut; (N, C, H, W) -> (N, out_channels, H / stride, W / stride)."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, expansion: int, attention: AttentionFactory
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = [conv_bn_relu6(in_channels, hidden, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.attention = attention(out_channels)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.attention(self.conv(x))
        return x + out if self.has_shortcut else out


class MobileNetV2(nn.Module):
    """(N, in_channels, H, W) -> (N, num_classes).

    All channels are multiplied by ``width``, the last ones only where it is larger than 1.
    """

    def __init__(self, attention: AttentionFactory, num_classes: int, in_channels: int, *, width: float = 1.0) -> None:
        super().__init__()
        channels, last = make_divisible(32 * width, 8), make_divisible(1280 * max(1.0, width), 8)
        layers: list[nn.Module] = [conv_bn_relu6(in_channels, channels, 3, stride=2)]
        for expansion, base, repeats, stride in STAGES:
            out_channels = make_divisible(base * width, 8)
            for i in range(repeats):
                layers.append(InvertedResidual(channels, out_channels, stride if i == 0 else 1, expansion, attention))
                channels = out_channels
        layers.append(conv_bn_relu6(channels, last, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))
