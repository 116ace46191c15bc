"""A quantization: its quality, the layers that lose most, and what stays in float32."""

from collections.abc import Sequence

from attn_export.exporter.records.quantization import Quantization, Sensitivity
from attn_export.exporter.records.verdict import Quality
from attn_export.exporter.report.findings.table import GOOD, Cell, Table, table
from attn_export.exporter.report.findings.words import percent

WORST_LAYERS = 5
MOST = 20  # rows about single layers and blocks


def quality_table(record: Quantization) -> Table:
    """The quality on each set of images."""
    rows: list[tuple[str, Quality | None]] = [
        ("calibration", record.quality),
        ("other images", record.held_out),
    ]
    cells = [[name, *_quality(quality)] for name, quality in rows if quality is not None]
    return table("Against the float32 file", ["<images", "number", "SQNR", "classes that agree"], cells)


def steps_table(record: Quantization) -> Table:
    """What each step gained, and whether the file has it."""
    rows, before = [], None
    for step in record.steps:
        now = worst_sqnr(step.quality)
        gain = "" if before is None or now is None else f"{now - before:+.1f} dB"
        rows.append([step.name, *_quality(step.quality)[1:], gain, Cell("yes", GOOD) if step.kept else "no"])
        before = now if step.kept else before
    return table("Steps", ["<tried", "SQNR", "classes that agree", "gain", "<kept"], rows)


def layers_table(record: Quantization) -> Table:
    """The layers whose outputs lose most."""
    known = sorted(
        (layer for layer in record.layers if layer.sqnr_db is not None), key=lambda layer: layer.sqnr_db or 0
    )
    rows = [
        [
            layer.module_path or layer.node,
            layer.op_type,
            _decibels(layer.sqnr_db),
            "" if layer.correction is None else percent(layer.correction),
        ]
        for layer in known[:WORST_LAYERS]
    ]
    return table("Layers with the largest error", ["<layer", "<operator", "SQNR", "bias corrected by"], rows)


def sensitivity_rows(found: Sequence[Sensitivity], kind: str) -> tuple[Table, list[Sensitivity]]:
    """The layers, or blocks, that add most error when they alone are quantized."""
    shown = [one for one in found if one.kind == kind][:MOST]
    rows = [[one.name, one.op_type, *_quality(one.quality)[1:]] for one in shown]
    columns = [f"<{kind}", "<operator", "SQNR", "classes that agree"]
    return table(f"Each {kind} quantized alone", columns, rows), shown


def summary(record: Quantization) -> str:
    """What was quantized and how, in a sentence."""
    reasons = ", ".join(list(dict.fromkeys(node.reason.partition(" of ")[0] for node in record.kept))[:4])
    kept = f"; {len(record.kept)} layers stay in {record.around} ({reasons})" if record.kept else ""
    counts = f"{len(record.layers)} layers and {len(record.tensors)} activations"
    ranges = f"ranges by {record.ranges} on {record.images} images"
    return f"{record.precision} for {record.runtime}: {counts}, {ranges}{kept}"


def _quality(quality: Quality) -> list[str]:
    agreement = "" if quality.agreement is None else f"{quality.agreement:.1%}"
    return [str(quality.images), _decibels(worst_sqnr(quality)), agreement]


def worst_sqnr(quality: Quality) -> float | None:
    """The smallest SQNR of an output; None where nothing differs."""
    return min(quality.sqnr_db.values(), key=lambda value: float("inf") if value is None else value, default=None)


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f} dB"
