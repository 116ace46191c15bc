"""A stranger's networks; the tests copy this file, as a user's own code."""

import torch
import torch.nn.functional as F
from torch import nn


class SELayer(nn.Module):
    def __init__(self, c: int, r: int = 4):
        super().__init__()
        self.fc1 = nn.Conv2d(c, c // r, 1)
        self.fc2 = nn.Conv2d(c // r, c, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


class Block(nn.Module):
    def __init__(self, c: int, o: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(c, o, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(o)
        self.att = SELayer(o)
        self.skip = nn.Conv2d(c, o, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.att(self.bn(self.conv(x))) + self.skip(x))


class SEResNet(nn.Module):
    """As in a blog."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.body = nn.Sequential(Block(8, 8), Block(8, 16, 2))
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class ChannelGate(nn.Module):
    def __init__(self, c: int, r: int = 4):
        super().__init__()
        self.fc1 = nn.Conv2d(c, c // r, 1, bias=False)
        self.fc2 = nn.Conv2d(c // r, c, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1))))
        largest = self.fc2(F.relu(self.fc1(F.adaptive_max_pool2d(x, 1))))
        return x * torch.sigmoid(mean + largest)


class SpatialGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.conv1(summary))


class CBAM(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.ChannelGate = ChannelGate(c)
        self.SpatialGate = SpatialGate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.SpatialGate(self.ChannelGate(x))


class VGGLayer(nn.Module):
    def __init__(self, c: int, o: int):
        super().__init__()
        self.conv = nn.Conv2d(c, o, 3, padding=1)
        self.attention = CBAM(o)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(self.attention(F.relu(self.conv(x))), 2)


class CBAMVGG(nn.Module):
    """The attention in the names of this project, in a network that it doesn't have."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(VGGLayer(3, 8), VGGLayer(8, 16))
        self.classifier = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.bottom, self.up = Block(3, 8), Block(8, 16, 2), Block(24, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.down(x)
        low = F.interpolate(self.bottom(skip), scale_factor=2.0, mode="nearest")
        return self.head(self.up(torch.cat([low, skip], 1)))


class Detector(nn.Module):
    """Boxes and scores of every place at two scales."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = Block(3, 8, 2), Block(8, 8, 2)
        self.boxes, self.scores = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fine = self.fine(x)
        maps = [fine, self.coarse(fine)]
        boxes = torch.cat([self.boxes(m).flatten(2) for m in maps], 2)
        scores = torch.cat([self.scores(m).flatten(2) for m in maps], 2)
        return boxes, scores


class TwoInputs(nn.Module):
    """An image and what is known of it."""

    def __init__(self):
        super().__init__()
        self.body, self.known, self.head = Block(3, 8, 2), nn.Linear(4, 8), nn.Linear(16, 3)

    def forward(self, image: torch.Tensor, meta: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.body(image).mean((2, 3)), F.relu(self.known(meta))], 1))
