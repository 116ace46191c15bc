"""What a record says about the gates that were looked at."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attn_export.exporter.report.findings.attention import inventories_of, place_of
from attn_export.exporter.report.findings.words import counted, error, shape

PYTORCH = "PyTorch"
KINDS = {"natural": "noise with the spectrum of photographs", "real": "one of yours"}
SHOWN_AT_ONCE = 8  # blocks; of more, the first of each stage and the last are shown, and the others folded


@dataclass(frozen=True)
class Gate:
    """One gate on the sample image.

    Attributes:
        path: of its module.
        kind: "channel" or "spatial".
        shape: (C,) or (H, W).
        values: by source, "PyTorch" being the first, bytes 0..255 for 0..1, row by row.
        differences: by artifact, the largest absolute difference to PyTorch.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    values: Mapping[str, bytes]
    differences: Mapping[str, float]

    @property
    def spread(self) -> tuple[float, float, float]:
        """Smallest, middle and largest value in PyTorch, or in the first source there is."""
        values = sorted(next(iter(self.values.values())))
        return values[0] / 255, values[len(values) // 2] / 255, values[-1] / 255

    @property
    def words(self) -> str:
        """``64 channels: 0.02 to 0.98, median 0.41``."""
        low, middle, high = self.spread
        what = counted(self.shape[0], "channel") if len(self.shape) == 1 else f"{shape(self.shape)} places"
        return f"{what}: {low:.2f} to {high:.2f}, median {middle:.2f}"


@dataclass(frozen=True)
class SeenBlock:
    """The gates of one attention block."""

    path: str
    kind: str
    gates: tuple[Gate, ...]


@dataclass(frozen=True)
class Image:
    """The sample image: rows of bytes, ``channels`` (1 or 3) for each pixel; its size in pixels."""

    pixels: bytes
    width: int
    height: int
    channels: int
    kind: str

    @property
    def words(self) -> str:
        """What it is, and its size."""
        made = KINDS.get(self.kind, self.kind)
        return f"The sample image, {made}, {shape((self.width, self.height))} pixels"


def image_of(record: dict[str, Any]) -> Image | None:
    """The sample image; None where no gate was looked at, or the image isn't whole."""
    seen = record.get("gate_activations")
    if not seen or not seen.get("image"):
        return None
    image = seen["image"]
    height, width = (*image["shape"], 1, 1)[1:3]
    pixels = _bytes(image["pixels"])
    if not pixels or len(pixels) != width * height * image["channels"]:
        return None
    return Image(pixels, width, height, image["channels"], image["kind"])


def gates_of(record: dict[str, Any]) -> list[Gate]:
    """All gates whose values are whole, in the order of computation."""
    found = []
    for entry in (record.get("gate_activations") or {}).get("gates") or []:
        size = 1
        for dim in entry["shape"]:
            size *= dim
        values = {source: _bytes(text) for source, text in entry["values"].items()}
        values = {source: data for source, data in values.items() if data and len(data) == size}
        if values:
            order = sorted(values, key=lambda source: source != PYTORCH)
            found.append(
                Gate(
                    entry["module_path"],
                    entry["kind"],
                    tuple(entry["shape"]),
                    {source: values[source] for source in order},
                    dict(entry.get("differences") or {}),
                )
            )
    return found


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def blocks_seen(record: dict[str, Any]) -> list[SeenBlock]:
    """The gates by the block they belong to; one that no block claims is a block of its own."""
    known = {place_of(block): block["kind"] for _, blocks in inventories_of(record) for block in blocks}
    grouped: dict[str, list[Gate]] = {}
    for gate in gates_of(record):
        own = [place for place in known if gate.path == place or gate.path.startswith(f"{place}.")]
        grouped.setdefault(max(own, key=len, default=gate.path), []).append(gate)
    return [SeenBlock(path, known.get(path, ""), tuple(gates)) for path, gates in grouped.items()]


def shown_at_once(blocks: Sequence[SeenBlock]) -> tuple[list[SeenBlock], list[SeenBlock]]:
    """The blocks that a reader sees first, and the others."""
    if len(blocks) <= SHOWN_AT_ONCE:
        return list(blocks), []
    stages: dict[str, SeenBlock] = {}
    for block in blocks:
        stages.setdefault(block.path.partition(".")[0], block)
    first = [*list(stages.values())[: SHOWN_AT_ONCE - 1], blocks[-1]]
    first = list({block.path: block for block in first}.values())
    return first, [block for block in blocks if block not in first]


def unavailable(record: dict[str, Any]) -> dict[str, str]:
    """Artifacts whose gates can't be seen, with the reason."""
    return dict((record.get("gate_activations") or {}).get("unavailable") or {})


def difference_sentences(record: dict[str, Any]) -> list[str]:
    """For each artifact, how far its gates are from PyTorch's."""
    found: dict[str, list[tuple[float, str]]] = {}
    for gate in gates_of(record):
        for name, difference in gate.differences.items():
            found.setdefault(name, []).append((difference, gate.path))
    return [
        f"{name}: on this image no gate differs from PyTorch's by more than {error(max(of)[0])} ({max(of)[1]})."
        for name, of in found.items()
    ]
