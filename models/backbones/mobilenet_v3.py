"""MobileNetV3.

Howard et al.: "Searching for MobileNetV3", ICCV 2019, https://arxiv.org/abs/1905.02244

Parameters are named as in torchvision, so its ImageNet weights load into the network with its own attention
(``se_mobilenet_v3_small``). The place of that attention is fixed by the paper: inside the block, after the depthwise
convolution. Another attention takes the same place, and without any the place stays empty, so that the other names
don't move.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from attn_export.models.attention.width import make_divisible
from attn_export.models.backbones.resnet import AttentionFactory


@dataclass(frozen=True)
class BlockSpec:
    """One row of the paper's tables 1 and 2."""

    kernel: int
    hidden: int
    channels: int
    attends: bool
    activation: type[nn.Module]
    stride: int

    def scaled(self, width: float) -> "BlockSpec":
        """With all channels multiplied by ``width``."""
        hidden, channels = (make_divisible(number * width, 8) for number in (self.hidden, self.channels))
        return replace(self, hidden=hidden, channels=channels)


RE, HS = nn.ReLU, nn.Hardswish

SMALL = (
    BlockSpec(3, 16, 16, True, RE, 2),
    BlockSpec(3, 72, 24, False, RE, 2),
    BlockSpec(3, 88, 24, False, RE, 1),
    BlockSpec(5, 96, 40, True, HS, 2),
    BlockSpec(5, 240, 40, True, HS, 1),
    BlockSpec(5, 240, 40, True, HS, 1),
    BlockSpec(5, 120, 48, True, HS, 1),
    BlockSpec(5, 144, 48, True, HS, 1),
    BlockSpec(5, 288, 96, True, HS, 2),
    BlockSpec(5, 576, 96, True, HS, 1),
    BlockSpec(5, 576, 96, True, HS, 1),
)
LARGE = (
    BlockSpec(3, 16, 16, False, RE, 1),
    BlockSpec(3, 64, 24, False, RE, 2),
    BlockSpec(3, 72, 24, False, RE, 1),
    BlockSpec(5, 72, 40, True, RE, 2),
    BlockSpec(5, 120, 40, True, RE, 1),
    BlockSpec(5, 120, 40, True, RE, 1),
    BlockSpec(3, 240, 80, False, HS, 2),
    BlockSpec(3, 200, 80, False, HS, 1),
    BlockSpec(3, 184, 80, False, HS, 1),
    BlockSpec(3, 184, 80, False, HS, 1),
    BlockSpec(3, 480, 112, True, HS, 1),
    BlockSpec(3, 672, 112, True, HS, 1),
    BlockSpec(5, 672, 160, True, HS, 2),
    BlockSpec(5, 960, 160, True, HS, 1),
    BlockSpec(5, 960, 160, True, HS, 1),
)


def conv_bn(
    in_channels: int, out_channels: int, kernel: int, activation: type[nn.Module], stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, BatchNorm with the paper's constants, activation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels, eps=0.001, momentum=0.01),
        activation(),
    )


class InvertedResidual(nn.Module):
    """Expand, depthwise, attention, project, shortcut; (N, C, H, W) -> (N, channels, H / stride, W / stride)."""

    def __init__(self, in_channels: int, spec: BlockSpec, attention: AttentionFactory) -> None:
        super().__init__()
        expand = [conv_bn(in_channels, spec.hidden, 1, spec.activation)] if spec.hidden != in_channels else []
        attend = [attention(spec.hidden)] if spec.attends else []
        self.block = nn.Sequential(
            *expand,
            conv_bn(spec.hidden, spec.hidden, spec.kernel, spec.activation, spec.stride, groups=spec.hidden),
            *attend,
            conv_bn(spec.hidden, spec.channels, 1, nn.Identity),
        )
        self.has_shortcut = spec.stride == 1 and in_channels == spec.channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block(x)
        return x + out if self.has_shortcut else out


class MobileNetV3(nn.Module):
    """(N, in_channels, H, W) -> (N, num_classes); all channels are multiplied by ``width``."""

    def __init__(
        self,
        blocks: tuple[BlockSpec, ...],
        last_width: int,
        attention: AttentionFactory,
        num_classes: int,
        in_channels: int,
        *,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        blocks = tuple(spec.scaled(width) for spec in blocks)
        inputs = [make_divisible(16 * width, 8)] + [spec.channels for spec in blocks]
        features, last_width = 6 * inputs[-1], make_divisible(last_width * width, 8)
        self.features = nn.Sequential(
            conv_bn(in_channels, inputs[0], 3, HS, stride=2),
            *(InvertedResidual(c, spec, attention) for c, spec in zip(inputs, blocks, strict=False)),
            conv_bn(inputs[-1], features, 1, HS),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(features, last_width), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(last_width, num_classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))
