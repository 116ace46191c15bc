"""The options of pictures."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.commands.parse import check_known, refuse
from attn_export.exporter.commands.parse_served import parse_normalization
from attn_export.exporter.errors import UsageError

if TYPE_CHECKING:
    from attn_export.exporter.images.preprocessing import PictureOptions

LARGEST_SIDE = 16384


def parse_pictures(
    sources: Sequence[Path],
    *,
    mean: str | None = None,
    std: str | None = None,
    resize: str | None = None,
    interpolation: str | None = None,
) -> "PictureOptions":
    """How pictures become inputs.

    ``resize`` is ``256``, the shorter side, or ``HxW``; ``sources`` are the images of all options.

    Raises:
        UsageError: another form, or there are no pictures.
    """
    from attn_export.exporter.images.arrays import ENDINGS
    from attn_export.exporter.images.preprocessing import INTERPOLATIONS, PictureOptions

    given = {"--mean": mean, "--std": std, "--resize": resize, "--interpolation": interpolation}
    if not any(source.suffix.lower() not in ENDINGS for source in sources):
        refuse(given, "for pictures, and none are given", "Arrays are taken as they are.")
    check_known("--interpolation", filter(None, [interpolation]), INTERPOLATIONS)
    return PictureOptions(parse_normalization(mean, std), _resize(resize), interpolation or INTERPOLATIONS[0])


def _resize(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text.lower())
    sizes = tuple(int(size) for size in found.groups() if size) if found else ()
    if not sizes or max(sizes) > LARGEST_SIDE:
        raise UsageError(
            f"--resize {text} is no size", hint="Expected is the shorter side or HxW: --resize 256 or --resize 48x192."
        )
    return sizes
