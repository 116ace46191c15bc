"""ResNet and ResNeXt.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385
Xie et al.: "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, https://arxiv.org/abs/1611.05431

Parameters are named as in torchvision, so its ImageNet weights load.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

AttentionFactory = Callable[[int], nn.Module]
# Far above any real network, far below what overflows a tensor's size.
WIDEST = 2**20
DEEPEST = 1000


@dataclass(frozen=True)
class ResNetForm:
    """What decides a ResNet besides its attention, classes and input channels; plain values.

    Attributes:
        block: "basic", two 3x3 convolutions, or "bottleneck", 1x1, 3x3, 1x1.
        depths: the number of blocks in each stage.
        widths: the channels of each stage; a bottleneck's output has 4 times as many.
        stem: kernel size of the first convolution: 7 with stride 2 and a max pool, 3 with neither, for small images.
        groups: of the bottleneck's 3x3 convolution.
        base_width: channels of each group where the width is 64.
        stride_in: the bottleneck's convolution that has the stride: "3x3" as in torchvision, "1x1" as in the paper.
        stem_pool: the max pool pads its input by one ("padded"), or rounds its output size up ("ceil"), as in Caffe.
        branch_relu: a ReLU stands between the branch's last BatchNorm and the attention.

    Raises:
        ValueError: a value that no network has.
    """

    block: Literal["basic", "bottleneck"]
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: int = 7
    groups: int = 1
    base_width: int = 64
    stride_in: Literal["3x3", "1x1"] = "3x3"
    stem_pool: Literal["padded", "ceil"] = "padded"
    branch_relu: bool = False

    def __post_init__(self) -> None:
        # JSON and checkpoints have lists.
        object.__setattr__(self, "depths", tuple(self.depths))
        object.__setattr__(self, "widths", tuple(self.widths))
        numbers = (*self.depths, *self.widths, self.groups, self.base_width)
        if not self.depths or len(self.depths) != len(self.widths):
            raise ValueError(f"{len(self.depths)} depths and {len(self.widths)} widths; each stage has one of both")
        if not all(type(n) is int and 1 <= n <= WIDEST for n in numbers) or max(self.depths) > DEEPEST:
            raise ValueError(
                f"depths, widths, groups or base width are no positive integers of a usual size: {numbers}"
            )
        if self.block not in ("basic", "bottleneck") or self.stem not in (3, 7):
            raise ValueError(f"block is {self.block!r}, stem {self.stem!r}; expected basic or bottleneck, and 3 or 7")
        if self.block == "basic" and (self.groups, self.base_width, self.stride_in) != (1, 64, "3x3"):
            raise ValueError("a basic block has no grouped form; use a bottleneck")
        if min(self.widths) * self.base_width < 64:
            raise ValueError(
                f"groups of base width {self.base_width} have no channels where the width is {min(self.widths)}"
            )
        if self.stride_in not in ("3x3", "1x1") or self.stem_pool not in ("padded", "ceil"):
            raise ValueError(f"stride_in is {self.stride_in!r}, stem_pool {self.stem_pool!r}")
        if type(self.branch_relu) is not bool:
            raise ValueError(f"branch_relu is {self.branch_relu!r}; expected True or False")

    @property
    def expansion(self) -> int:
        """Output channels of a block divided by its width."""
        return 4 if self.block == "bottleneck" else 1

    def __str__(self) -> str:
        grouped = f", {self.groups} groups of base width {self.base_width}" if self.groups > 1 else ""
        wide = f", base width {self.base_width}" if self.groups == 1 and self.base_width != 64 else ""
        return (
            f"{self.block} blocks {'-'.join(map(str, self.depths))}, widths {'-'.join(map(str, self.widths))}, "
            f"{self.stem}x{self.stem} stem{grouped}{wide}"
        )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; (N, C, H, W) -> (N, width, H / stride, W / stride)."""

    def __init__(
        self, in_channels: int, width: int, stride: int, attention: AttentionFactory, form: ResNetForm
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.end = nn.ReLU(inplace=True) if form.branch_relu else nn.Identity()
        self.attention = attention(width)
        self.downsample = shortcut(in_channels, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.attention(self.end(self.bn2(self.conv2(out))))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; (N, C, H, W) -> (N, 4 * width, H / stride, W / stride)."""

    def __init__(
        self, in_channels: int, width: int, stride: int, attention: AttentionFactory, form: ResNetForm
    ) -> None:
        super().__init__()
        inner = width * form.base_width // 64 * form.groups
        out_channels = width * form.expansion
        first, second = (stride, 1) if form.stride_in == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, second, padding=1, groups=form.groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.end = nn.ReLU(inplace=True) if form.branch_relu else nn.Identity()
        self.attention = attention(out_channels)
        self.downsample = shortcut(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.attention(self.end(self.bn3(self.conv3(out))))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """A 1x1 convolution where the block changes the shape, nothing where it doesn't."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class ResNet(nn.Module):
    """Stem, stages ``layer1``, ``layer2``, ... and classifier; (N, in_channels, H, W) -> (N, num_classes).

    Each stage but the first halves height and width.
    """

    def __init__(self, form: ResNetForm, attention: AttentionFactory, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = form.widths[0]
        large = form.stem == 7
        self.conv1 = nn.Conv2d(in_channels, channels, form.stem, 2 if large else 1, form.stem // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        ceil = form.stem_pool == "ceil"
        pool = nn.MaxPool2d(3, stride=2, padding=0 if ceil else 1, ceil_mode=ceil)
        self.maxpool = pool if large else nn.Identity()
        block = BasicBlock if form.block == "basic" else Bottleneck
        self.stages = [f"layer{i + 1}" for i in range(len(form.depths))]
        for name, depth, width in zip(self.stages, form.depths, form.widths, strict=True):
            blocks = []
            for i in range(depth):
                blocks.append(block(channels, width, 2 if i == 0 and name != "layer1" else 1, attention, form))
                channels = width * form.expansion
            self.add_module(name, nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(self.avgpool(x).flatten(1))
