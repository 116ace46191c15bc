"""The summary card of a report as a PNG picture, for sharing."""

import textwrap
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.charts.pictures import overlay, pixels_of
from attn_export.exporter.report.findings.environment import network_words, title_of
from attn_export.exporter.report.findings.gates import gate_of_card, image_of
from attn_export.exporter.report.findings.summary import Badge, badges
from attn_export.exporter.report.findings.table import BAD, GOOD, PLAIN, UNSURE
from attn_export.exporter.report.findings.words import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT, DENSITY = 600, 315, 144  # points, and pixels in an inch: 1200 by 630 pixels
INK, SOFT, LINE, PAPER, RAISED = "#1a1e23", "#55606c", "#dde2e7", "#ffffff", "#f5f7f9"
MARKS = {GOOD: ("#1a7a3a", "✓ "), BAD: ("#b3261e", "✗ "), UNSURE: ("#8a5800", "? ")}
EDGE, GAP, TOP, BOTTOM, PICTURES = 24.0, 8.0, 62.0, 26.0, 186.0  # points
MOST = 6  # badges


def render_card(report: Report) -> bytes:
    """The card as a PNG file of 1200 by 630 pixels; equal reports give equal cards."""
    settings: dict[Any, Any] = {"font.family": "DejaVu Sans", "text.parse_math": False, "text.color": INK}
    with rc_context(settings):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=DENSITY, facecolor=PAPER)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
        axes.axis("off")
        axes.text(EDGE, 32, shortened(title_of(report), 46), fontsize=17, fontweight="bold", va="baseline")
        axes.text(EDGE, 48, shortened(network_words(report), 90), fontsize=8.5, color=SOFT, va="baseline")
        axes.text(EDGE, HEIGHT - 12, f"attn-export · {report.created[:10]}", fontsize=7.5, color=SOFT)
        left = EDGE + (_gate(figure, axes, report) and PICTURES + 2 * GAP)
        found = badges(report)
        kept = sorted(found, key=lambda badge: badge.mark == PLAIN)[:MOST]  # verdicts before facts
        _badges(axes, [badge for badge in found if badge in kept], left)
        file = BytesIO()
        figure.savefig(file, format="png", metadata={"Software": "attn-export"})
    return file.getvalue()


def _gate(figure: Figure, axes: "Axes", report: Report) -> bool:
    """The image with the gate of the card above it, or a channel gate below it; whether there is any."""
    image, gate = image_of(report), gate_of_card(report)
    if image is None or gate is None:
        return False
    spatial = gate.kind == "spatial"
    side = PICTURES
    place = (EDGE / WIDTH, 1 - (TOP + side) / HEIGHT, side / WIDTH, side / HEIGHT)
    shown = figure.add_axes(place, anchor="NW")
    shown.imshow(overlay(image, gate) if spatial else pixels_of(image), interpolation="nearest")
    shown.axis("off")
    if not spatial:
        strip = figure.add_axes((place[0], place[1], place[2], 14 / HEIGHT))
        strip.imshow(np.frombuffer(next(iter(gate.values.values())), np.uint8)[None], aspect="auto", vmin=0, vmax=255)
        strip.axis("off")
    for line, text in enumerate((shortened(gate.path, 40), gate.range_words)):
        axes.text(EDGE, TOP + side + 11 + 10 * line, text, fontsize=7.5, color=SOFT)
    return True


def _badges(axes: "Axes", found: list[Badge], left: float) -> None:
    """Boxes in two columns."""
    rows = max(1, -(-len(found) // 2))
    width = (WIDTH - EDGE - left - GAP) / 2
    height = (HEIGHT - TOP - BOTTOM - GAP * (rows - 1)) / rows
    letters = int(width / 3.75)
    for index, badge in enumerate(found):
        x, y = left + index % 2 * (width + GAP), TOP + index // 2 * (height + GAP)
        colour, sign = MARKS.get(badge.mark, (INK, ""))
        axes.fill([x, x + width, x + width, x], [y, y, y + height, y + height], color=RAISED, linewidth=0)
        axes.plot([x, x + width], [y, y], color=colour if sign else LINE, linewidth=2, solid_capstyle="butt")
        axes.text(x + 8, y + 14, badge.about, fontsize=7.5, color=SOFT)
        words = f"{sign}{shortened(badge.verdict, int(width / 8))}"
        axes.text(x + 8, y + 31, words, fontsize=12.5, fontweight="bold", color=colour)
        lines = textwrap.wrap(badge.basis, letters, max_lines=max(1, int((height - 38) / 9)), placeholder=" …")
        axes.text(x + 8, y + 38, "\n".join(lines), fontsize=6.2, color=SOFT, va="top", linespacing=1.35)
