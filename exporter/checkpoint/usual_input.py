"""The input of a network that doesn't say it."""

from collections.abc import Iterator

import torch
from torch import nn

from attn_export.exporter.errors import UsageError

# ImageNet's first, then those of small images, of detectors, of Inception and of faces.
SIZES = (224, 32, 64, 128, 256, 299, 384, 512, 640, 28, 96, 112, 160, 192, 320, 416, 448)
# Of signals, and of volumes.
LENGTHS = (1000, 1024, 2048, 5000, 16000, 250, 128)
EDGES = (32, 64, 96, 128, 16)
Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear


def usual_input(module: nn.Module, origin: str) -> tuple[int, ...]:
    """The first usual shape that the network runs at, without N, such as (C, H, W); C is its first layer's.

    Raises:
        UsageError: it runs at none of them, or doesn't begin with a convolution or a linear layer.
    """
    first = next((part for part in module.modules() if isinstance(part, Layer) or _has_parameters(part)), None)
    shapes = list(_shapes(first)) if isinstance(first, Layer) else []
    for shape in shapes:
        if _runs(module, shape):
            return shape
    example = "x".join(map(str, shapes[0] if shapes else (3, 224, 224)))
    raise UsageError(
        f"{origin} doesn't say its input shape" + (", and runs at no usual size" if shapes else ""),
        hint=f"Add --input 1x{example}, with the sizes that it was trained on.",
    )


def _has_parameters(part: nn.Module) -> bool:
    return next(part.parameters(recurse=False), None) is not None and next(part.children(), None) is None


def _shapes(first: Layer) -> Iterator[tuple[int, ...]]:
    if isinstance(first, nn.Linear):
        yield (first.in_features,)
        return
    sizes = LENGTHS if isinstance(first, nn.Conv1d) else EDGES if isinstance(first, nn.Conv3d) else SIZES
    yield from ((first.in_channels, *(len(first.kernel_size) * (size,))) for size in sizes)


def _runs(module: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        with torch.no_grad():
            module(torch.zeros(2, *shape))
    except Exception:  # noqa: BLE001 (at another size a network may raise anything)
        return False
    return True
