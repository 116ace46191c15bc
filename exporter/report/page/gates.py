"""The section on the gates that were looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.charts.gate_spread import gate_spread
from attn_export.exporter.report.charts.heat import heat, picture
from attn_export.exporter.report.findings import gates as findings
from attn_export.exporter.report.findings.words import error, shortened
from attn_export.exporter.report.page.section import Section

LONGEST_NAME = 28


@dataclass(frozen=True)
class Picture:
    """A gate's values from one source: its name, a data address, a text for those who don't see it, what differs."""

    source: str
    label: str
    address: str
    alternative: str
    difference: str


@dataclass(frozen=True)
class Gate:
    """A gate as pictures: a "strip" for channels, a "map" for places."""

    path: str
    kind: str
    form: str
    words: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Block:
    """The gates of one block."""

    path: str
    kind: str
    gates: tuple[Gate, ...]


def section(report: Report) -> Section:
    """The sample image, how open every gate is, and each gate in PyTorch beside each artifact."""
    title = "The gates looked at"
    blocks, unavailable = findings.gated_blocks(report), findings.unavailable(report)
    if not blocks and not unavailable:
        return Section("gates", title, "Gates", absent="No gate was looked at.")
    first, others = findings.shown_at_once(blocks)
    image = findings.image_of(report)
    return Section(
        "gates",
        title,
        "Gates",
        {
            "image": image,
            "image_address": picture(image.pixels, image.width, image.height, image.channels) if image else "",
            "image_words": image.words if image else "",
            "sentences": findings.difference_sentences(report),
            "spread": gate_spread("gate-spread", [gate for block in blocks for gate in block.gates]),
            "first": _drawn(first),
            "others": _drawn(others),
            "unavailable": unavailable,
        },
    )


def _drawn(blocks: Sequence[findings.GatedBlock]) -> list[Block]:
    return [Block(b.path, b.kind, tuple(_gate(gate, b.path) for gate in b.gates)) for b in blocks]


def _gate(gate: findings.Gate, block: str) -> Gate:
    height, width = (1, *gate.shape)[-2:]
    pictures = [
        Picture(
            source,
            shortened(source, LONGEST_NAME),
            heat(values, width, height),
            f"{gate.kind} gate of {block} in {source}: {gate.words}",
            f"off by {error(gate.differences[source])}" if source in gate.differences else "",
        )
        for source, values in gate.values.items()
    ]
    return Gate(gate.path, gate.kind, "strip" if len(gate.shape) == 1 else "map", gate.words, tuple(pictures))
