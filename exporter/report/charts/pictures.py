"""Arrays as small PNG pictures, one pixel for each value."""

import base64
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.image import imsave

from attn_export.exporter.report.findings.gates import Gate, Image

OPAQUE = 0.6  # share of the gate's colour in an overlay
SMALLEST_SIDE = 224  # of an overlay, in pixels


def heat(values: bytes, shape: tuple[int, ...]) -> str:
    """A gate as a data address: 0 is dark, 255 is bright, in matplotlib's viridis.

    ``values`` are row by row, ``shape`` is (C,) or (H, W).
    """
    return _png(np.frombuffer(values, np.uint8).reshape((1, *shape)[-2:]), "viridis")


def picture(image: Image) -> str:
    """An image as a data address; grey with 1 channel, RGB with 3."""
    return _png(pixels_of(image), "gray")


def overlay(image: Image, gate: Gate) -> Any:
    """A spatial gate above its image, from the least (dark) to the most (bright); (H, W, 3), uint8."""
    scale = max(1, -(-SMALLEST_SIDE // max(image.width, image.height)))
    below = np.kron(pixels_of(image), np.ones((scale, scale, 1), np.uint8))
    values = np.frombuffer(next(iter(gate.values.values())), np.uint8).reshape(gate.shape).astype(float)
    (rows, columns), (height, width) = gate.shape, below.shape[:2]
    values = _stretched(rows, height).T @ values @ _stretched(columns, width)
    spread = (values - values.min()) / (np.ptp(values) or 1.0)
    grey = below.mean(2, keepdims=True)
    return (OPAQUE * 255 * colormaps["viridis"](spread)[..., :3] + (1 - OPAQUE) * grey).astype(np.uint8)


def _stretched(count: int, length: int) -> Any:
    """Weights of linear interpolation from ``count`` cells to ``length``, (count, length)."""
    at = (np.arange(length) + 0.5) * count / length - 0.5
    return np.array([np.interp(at, np.arange(count), cell) for cell in np.eye(count)])


def overlaid(image: Image, gate: Gate) -> str:
    """An overlay as a data address."""
    return _png(overlay(image, gate), "gray")


def pixels_of(image: Image) -> Any:
    """(H, W, 3), uint8."""
    pixels = np.frombuffer(image.pixels, np.uint8).reshape(image.height, image.width, image.channels)
    return np.broadcast_to(pixels, (image.height, image.width, 3))


def _png(pixels: Any, colours: str) -> str:
    file, about = BytesIO(), {"Software": "attn-export"}
    imsave(file, pixels, vmin=0, vmax=255, cmap=colours, format="png", origin="upper", metadata=about)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
