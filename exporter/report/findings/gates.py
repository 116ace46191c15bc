"""Gate activations of one image."""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attn_export.exporter.records.gates import PYTORCH, GateActivation, Picture
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings.attention import inventories_of
from attn_export.exporter.report.findings.table import Table, table
from attn_export.exporter.report.findings.words import counted, error, shape

KINDS = {"drawing": "a drawing", "natural": "noise with the spectrum of photographs", "real": "one of yours"}
PERCENTILES = {"min": 0, "p10": 0.1, "median": 0.5, "p90": 0.9, "max": 1}
CONSTANT_WITHIN = 0.02
SHOWN_AT_ONCE = 6  # blocks; of more, the page shows the first of each stage and the last, and folds the others


@dataclass(frozen=True)
class Gate:
    """One gate, (C,) or (H, W), as bytes 0..255 for 0..1 row by row, by source with PyTorch first."""

    path: str
    kind: str
    shape: tuple[int, ...]
    values: Mapping[str, bytes]
    differences: Mapping[str, float]

    @property
    def spread(self) -> tuple[float, float, float]:
        """Min, median and max in PyTorch, or else in the first source."""
        values = sorted(next(iter(self.values.values())))
        return values[0] / 255, values[len(values) // 2] / 255, values[-1] / 255

    @property
    def words(self) -> str:
        """``64 channels: 0.02 to 0.98, median 0.41``."""
        low, middle, high = self.spread
        size = counted(self.shape[0], "channel") if len(self.shape) == 1 else f"{shape(self.shape)} positions"
        return f"{size}: {low:.2f} to {high:.2f}, median {middle:.2f}"

    @property
    def contrast(self) -> float:
        """The largest difference between two of its values."""
        return self.spread[2] - self.spread[0]

    @property
    def range_words(self) -> str:
        """``a spatial gate, 0.02 (dark) to 0.98 (bright)``."""
        low, _, high = self.spread
        return f"a {self.kind} gate, {low:.2f} (dark) to {high:.2f} (bright)"


@dataclass(frozen=True)
class GatedBlock:
    """The gates of one attention block."""

    path: str
    kind: str
    gates: tuple[Gate, ...]


@dataclass(frozen=True)
class Image:
    """The sample image: rows of bytes with ``channels`` (1 or 3) for each pixel, and its size in pixels."""

    pixels: bytes
    width: int
    height: int
    channels: int
    kind: str

    @property
    def words(self) -> str:
        """Kind and size."""
        kind = KINDS.get(self.kind, self.kind)
        return f"The sample image, {kind}, {shape((self.width, self.height))} pixels"


def image_of(report: Report) -> Image | None:
    """The sample image; None without gate activations, or where its data is incomplete."""
    return image_in(report.gate_activations.image) if report.gate_activations else None


def image_in(picture: Picture | None) -> Image | None:
    """The image of a record; None where its data is incomplete."""
    if picture is None or len(picture.shape) != 3:
        return None
    channels, height, width = picture.shape
    pixels = _bytes(picture.pixels)
    whole = channels in (1, 3) and min(width, height) > 0 and len(pixels) == width * height * channels
    return Image(pixels, width, height, channels, picture.kind) if whole else None


def gates_of(report: Report) -> list[Gate]:
    """All gates with complete values, in the order of computation."""
    records = report.gate_activations.gates if report.gate_activations else ()
    return [gate for record in records if (gate := _gate(record))]


def _gate(record: GateActivation) -> Gate | None:
    if len(record.shape) != (2 if record.kind == "spatial" else 1) or min(record.shape) < 1:
        return None
    values = {source: _bytes(text) for source, text in record.values.items()}
    whole = {source: data for source, data in values.items() if len(data) == math.prod(record.shape)}
    ordered = {source: whole[source] for source in sorted(whole, key=lambda source: source != PYTORCH)}
    return Gate(record.module_path, record.kind, record.shape, ordered, record.differences) if ordered else None


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def gated_blocks(report: Report) -> list[GatedBlock]:
    """The gates by attention block; a gate outside the inventory is a block of its own."""
    kinds = {block.place: block.kind for _, blocks in inventories_of(report) for block in blocks}
    grouped: dict[str, list[Gate]] = {}
    for gate in gates_of(report):
        around = [place for place in kinds if gate.path == place or gate.path.startswith(f"{place}.")]
        grouped.setdefault(max(around, key=len, default=gate.path), []).append(gate)
    return [GatedBlock(path, kinds.get(path, ""), tuple(gates)) for path, gates in grouped.items()]


def shown_at_once(blocks: Sequence[GatedBlock]) -> tuple[list[GatedBlock], list[GatedBlock]]:
    """The blocks that the page shows first, and the folded ones."""
    if len(blocks) <= SHOWN_AT_ONCE:
        return list(blocks), []
    stages: dict[str, GatedBlock] = {}
    for block in blocks:
        stages.setdefault(block.path.partition(".")[0], block)
    first = [*list(stages.values())[: SHOWN_AT_ONCE - 1], blocks[-1]]
    first = list({block.path: block for block in first}.values())
    return first, [block for block in blocks if block not in first]


def unavailable(report: Report) -> dict[str, str]:
    """Artifacts without gate activations, with the reasons."""
    return report.gate_activations.unavailable if report.gate_activations else {}


def spread_table(report: Report) -> Table:
    """Percentiles of every gate on the sample image, in PyTorch, and whether it is nearly constant."""
    rows = []
    for gate in gates_of(report):
        values = sorted(next(iter(gate.values.values())))
        spread = [f"{values[round(share * (len(values) - 1))] / 255:.2f}" for share in PERCENTILES.values()]
        rows.append([gate.path, gate.kind, *spread, "nearly" if gate.contrast < CONSTANT_WITHIN else ""])
    return table("Values of each gate on the sample image", ["gate", "<kind", *PERCENTILES, "<constant"], rows)


def difference_sentences(report: Report) -> list[str]:
    """The largest difference between the gates of each artifact and PyTorch's."""
    found: dict[str, list[tuple[float, str]]] = {}
    for gate in gates_of(report):
        for name, difference in gate.differences.items():
            found.setdefault(name, []).append((difference, gate.path))
    return [
        f"{name}: no gate differs from PyTorch by more than {error(max(of)[0])} ({max(of)[1]}) on this image."
        for name, of in found.items()
    ]


def gate_of_card(report: Report) -> Gate | None:
    """The gate that the summary card shows: a spatial one if there is one, that with the most detail and contrast."""
    gates = gates_of(report)
    spatial = [gate for gate in gates if gate.kind == "spatial"]
    return max(spatial or gates, key=lambda gate: math.prod(gate.shape) * gate.contrast, default=None)
