"""The section on gate activations."""

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.charts.gate_spread import gate_spread
from attn_export.exporter.report.charts.pictures import heat, picture
from attn_export.exporter.report.findings import gates as findings
from attn_export.exporter.report.page.section import Section


def section(report: Report) -> Section:
    """The sample image, the spread of every gate, and each gate as a heat map in PyTorch and in each artifact."""
    title = "Gate activations"
    blocks, unavailable = findings.gated_blocks(report), findings.unavailable(report)
    if not blocks and not unavailable:
        return Section("gates", title, "Gates", absent="No gate activations were captured.")
    first, others = findings.shown_at_once(blocks)
    image = findings.image_of(report)
    content = {
        "image": image,
        "address": picture(image.pixels, image.width, image.height, image.channels) if image else "",
        "heat": heat,
        "sentences": findings.difference_sentences(report),
        "spread": gate_spread("gate-spread", [gate for block in blocks for gate in block.gates]),
        "first": first,
        "others": others,
        "unavailable": unavailable,
    }
    return Section("gates", title, "Gates", content)
