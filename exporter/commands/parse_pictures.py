"""Values of the options of pictures, and of what artifacts take and return."""

import math
import re

from attn_export.exporter.artifacts import BGR, NCHW, NHWC, RGB, Normalization, Postprocessing
from attn_export.exporter.errors import UsageError

EXAMPLE = "Expected is uint8, uint8:nhwc or uint8:nhwc:bgr; without more pixels are NCHW and RGB."
LARGEST_SIDE = 16384


def parse_normalization(mean: str | None, std: str | None) -> Normalization | None:
    """Mean and standard deviation for pixels in 0..1; None without either.

    Raises:
        UsageError: only one is given, they are no numbers, or those of pixels of 0 to 255.
    """
    if (mean is None) != (std is None):
        lacking = "--std" if std is None else "--mean"
        raise UsageError(f"{lacking} is missing", hint="Give both, for pixels in 0..1: --mean 0.5,0.5,0.5 --std 1,1,1.")
    normalization = None
    if mean is not None and std is not None:
        normalization = Normalization(_numbers("--mean", mean), _numbers("--std", std))
        if min(normalization.std) <= 0:
            raise UsageError(f"--std {std}: a deviation is above 0", hint="Pixels are divided by it.")
        if max(normalization.mean) > 1:
            raise UsageError(f"--mean {mean} is for pixels of 0 to 255", hint="Divide both by 255, for pixels in 0..1.")
    return normalization


def parse_pixels(text: str) -> tuple[str, str]:
    """``uint8:nhwc:bgr``: layout and order of channels, in any order. Raises UsageError: another form."""
    first, *rest = text.lower().split(":")
    layouts = [word for word in rest if word in (NCHW, NHWC)]
    orders = [word for word in rest if word in (RGB, BGR)]
    if first != "uint8" or len(layouts) + len(orders) != len(rest) or max(len(layouts), len(orders)) > 1:
        raise UsageError(f"--input-image {text} can't be understood", hint=EXAMPLE)
    return (*layouts, NCHW)[0], (*orders, RGB)[0]


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise UsageError(f"{option} {text} is no list of numbers", hint=f"For example {option} 0.485,0.456,0.406.")
    return numbers


def parse_postprocessing(text: str) -> Postprocessing:
    """``softmax`` or ``top=5``. Raises UsageError: another form."""
    if text == "softmax":
        return Postprocessing()
    if found := re.fullmatch(r"top=([1-9]\d{0,4})", text):
        return Postprocessing(int(found[1]))
    raise UsageError(f"--output {text} can't be understood", hint="Expected is softmax, or top=5 for the best classes.")


def parse_resize(text: str | None) -> tuple[int, ...]:
    """``256``, the shorter side, or ``48x192``; empty for None. Raises UsageError: another form."""
    if text is None:
        return ()
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text.lower())
    sizes = tuple(int(size) for size in found.groups() if size) if found else ()
    if not sizes or max(sizes) > LARGEST_SIDE:
        raise UsageError(
            f"--resize {text} is no size", hint="Expected is the shorter side or HxW: --resize 256 or --resize 48x192."
        )
    return sizes
