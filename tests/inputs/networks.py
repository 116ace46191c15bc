"""Small networks that take more than one image, other types, or return more than one tensor."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from attn_export.exporter.artifacts import Input

SIDE = 32


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(channels, 4), nn.ReLU(), nn.Linear(4, channels), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


def block(channels: int, into: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, into, 3, stride, 1), nn.BatchNorm2d(into), nn.ReLU(), Squeeze(into))


class Unet(nn.Module):
    """Attention gates at the skips (Oktay, 2018), scSE in the decoder (Roy, 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.bottom = block(3, 8), block(8, 16, 2)
        self.query, self.key, self.gate = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 1, 1)
        self.up, self.spatial = block(24, 8), nn.Conv2d(8, 1, 1)
        self.channel = Squeeze(8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        skip = self.down(image)
        low = nn.functional.interpolate(self.bottom(skip), scale_factor=2.0, mode="nearest")
        skip = skip * torch.sigmoid(self.gate(torch.relu(self.query(low) + self.key(skip))))
        x = self.up(torch.cat([low, skip], 1))
        found: torch.Tensor = self.head(self.channel(x) + x * torch.sigmoid(self.spatial(x)))
        return found


class Detector(nn.Module):
    """Boxes and scores of every place, the best class and whether it is sure."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.boxes, self.scores = block(3, 8, 2), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.body(image)
        scores = self.scores(features).flatten(2).transpose(1, 2)
        boxes = self.boxes(features).flatten(2).transpose(1, 2)
        return {"boxes": boxes, "scores": scores, "best": scores.argmax(2), "sure": scores.amax(2) > 0}


@dataclass
class Found:
    """What a `Segmenter` returns."""

    logits: torch.Tensor
    parts: list[torch.Tensor]
    sure: torch.Tensor


class Segmenter(nn.Module):
    """Returns a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = block(3, 8), nn.Conv2d(8, 2, 1)

    def forward(self, image: torch.Tensor) -> Found:
        logits = self.head(self.body(image))
        return Found(logits, [logits.mean((2, 3)), logits.amax((2, 3))], (logits > 0).flatten(1).all(1))


class Reader(nn.Module):
    """A convolution, then an LSTM along the width."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.rnn, self.head = block(1, 8, 2), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 5)

    def forward(self, line: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.rnn(self.body(line).mean(2).transpose(1, 2))[0])
        return found


class Normalizing(nn.Module):
    """Takes the bytes of an image."""

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([120.0, 115.0, 100.0]).view(1, 3, 1, 1))
        self.body, self.head = block(3, 8, 2), nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.body((image.float() - self.mean) / 60.0).mean((2, 3)))
        return found


class Siamese(nn.Module):
    """Two images through the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = block(3, 8, 2), nn.Linear(8, 6)

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.body(image).mean((2, 3)))
        return found

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        one, other = self.embed(left), self.embed(right)
        return one - other, (one * other).sum(1)


class WithMeta(nn.Module):
    """An image and a vector of metadata, which may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.age = block(3, 8, 2), nn.Linear(8, 5), nn.Linear(4, 8)

    def forward(self, image: torch.Tensor, meta: torch.Tensor | None = None) -> torch.Tensor:
        features = self.body(image).mean((2, 3))
        if meta is not None:
            features = features + self.age(meta)
        found: torch.Tensor = self.head(features)
        return found


class Words(nn.Module):
    """Tokens with a mask of those that count."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gate, self.head = nn.Embedding(50, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        words = self.embedding(tokens) * mask.float()[:, :, None]
        pooled = words.sum(1) / mask.float().sum(1, keepdim=True).clamp(min=1)
        found: torch.Tensor = self.head(pooled * torch.sigmoid(self.gate(pooled)))
        return found


@dataclass(frozen=True)
class Case:
    """A network, what it takes, and its dynamic axes."""

    make: Callable[[], nn.Module]
    inputs: tuple[Input, ...]
    dynamic: tuple[str, ...] = ("batch",)


IMAGE = Input("image", (1, 3, SIDE, SIDE))
META = Input("meta", (1, 4))
CASES = {
    "unet": Case(Unet, (IMAGE,), ("batch", "height", "width")),
    "detector": Case(Detector, (IMAGE,)),
    "dataclass": Case(Segmenter, (IMAGE,), ("batch", "height", "width")),
    "lstm": Case(Reader, (Input("line", (1, 1, 16, SIDE)),)),
    "bytes": Case(Normalizing, (Input("image", (1, 3, SIDE, SIDE), "uint8"),)),
    "siamese": Case(
        Siamese,
        (Input("left", (1, 3, SIDE, SIDE)), Input("right", (1, 3, SIDE, SIDE))),
        ("batch", "left:height", "left:width"),
    ),
    "meta": Case(WithMeta, (META, IMAGE)),
    "words": Case(
        Words,
        (Input("tokens", (1, 12), "int64", range=(0, 49)), Input("mask", (1, 12), "int64", range=(0, 1))),
        ("batch", "axis_1"),
    ),
}


def network(name: str) -> nn.Module:
    """The same weights every time."""
    torch.manual_seed(7)
    return CASES[name].make().eval()
