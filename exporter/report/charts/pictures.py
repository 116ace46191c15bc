"""Arrays as small PNG pictures, one pixel for each value."""

import base64
from io import BytesIO
from typing import Any

import numpy as np


def heat(values: bytes, shape: tuple[int, ...]) -> str:
    """A gate as a data address: 0 is dark, 255 is bright, in matplotlib's viridis.

    Args:
        values: 0..255, row by row.
        shape: (C,) or (H, W).
    """
    return _png(np.frombuffer(values, np.uint8).reshape((1, *shape)[-2:]), "viridis")


def picture(pixels: bytes, width: int, height: int, channels: int) -> str:
    """An image as a data address; grey with 1 channel, RGB with 3."""
    image = np.frombuffer(pixels, np.uint8).reshape(height, width, channels)
    return _png(image[..., 0] if channels == 1 else image, "gray")


def _png(pixels: Any, colours: str) -> str:
    from matplotlib.image import imsave

    file = BytesIO()
    imsave(
        file, pixels, vmin=0, vmax=255, cmap=colours, format="png", origin="upper", metadata={"Software": "attn-export"}
    )
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
