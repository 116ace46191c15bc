"""The input of a network that doesn't say it."""

from collections.abc import Iterator

import torch
from torch import nn

from attn_export.exporter.errors import UsageError

# ImageNet's first, then those of small images, of detectors and of Inception.
SIZES = (224, 32, 64, 128, 256, 299, 384, 512, 640, 28)


def usual_input(module: nn.Module, origin: str) -> tuple[int, ...]:
    """(C, H, W) of the first usual size that the network runs at, with the channels of its first convolution.

    Raises:
        UsageError: it runs at none of them, or doesn't begin with a convolution.
    """
    channels = _first_channels(module)
    for shape in _shapes(channels):
        if _runs(module, shape):
            return shape
    raise UsageError(
        f"{origin} doesn't say its input shape" + (", and runs at no usual size" if channels else ""),
        hint="Add --input 1x3x224x224.",
    )


def _first_channels(module: nn.Module) -> int | None:
    layers = (part for part in module.modules() if next(part.parameters(recurse=False), None) is not None)
    first = next(layers, None)
    return first.in_channels if isinstance(first, nn.Conv2d) else None


def _shapes(channels: int | None) -> Iterator[tuple[int, int, int]]:
    yield from ((channels, size, size) for size in SIZES) if channels else ()


def _runs(module: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        with torch.no_grad():
            module(torch.zeros(2, *shape))
    except Exception:  # noqa: BLE001 (at another size a network may raise anything)
        return False
    return True
