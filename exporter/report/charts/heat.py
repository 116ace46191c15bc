"""Values between 0 and 1 as small pictures, one pixel for each; and pictures as they are."""

import base64
import struct
import zlib
from functools import cache

import numpy as np

GREY, RGB, INDEXED = 0, 2, 3
LEVELS = 64  # more can't be told apart, and would make the palette larger than the picture


def heat(values: bytes, width: int, height: int) -> str:
    """Bytes 0..255, row by row, as a PNG in matplotlib's viridis: dark is 0, bright is 1. A data address."""
    levels = np.frombuffer(values, np.uint8).astype(np.uint16) * LEVELS // 256
    return _png(levels.astype(np.uint8).tobytes(), width, height, INDEXED, _palette())


def picture(pixels: bytes, width: int, height: int, channels: int) -> str:
    """An image of 1 or 3 channels as a PNG. A data address."""
    return _png(pixels, width, height, GREY if channels == 1 else RGB)


@cache
def _palette() -> bytes:
    from matplotlib import colormaps

    return np.round(colormaps["viridis"](np.linspace(0, 1, LEVELS))[:, :3] * 255).astype(np.uint8).tobytes()


def _png(pixels: bytes, width: int, height: int, kind: int, palette: bytes = b"") -> str:
    """Portable Network Graphics, third edition: a header, a palette, compressed rows each after a zero, an end."""
    row = width * (3 if kind == RGB else 1)
    lines = b"".join(b"\0" + pixels[start : start + row] for start in range(0, row * height, row))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if palette:
        parts.append((b"PLTE", palette))
    parts += [(b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
