"""The page of a quantization: what each step gained, the quality, and the layers that lose most."""

from attn_export.exporter.records.quantization import Quantization
from attn_export.exporter.report.charts.sensitivity import sensitivity_chart
from attn_export.exporter.report.findings.quantization import layers_table, quality_table, steps_table, summary
from attn_export.exporter.report.page.render import page


def render_quantization(record: Quantization) -> str:
    """The page; equal records give equal pages."""
    charts = [sensitivity_chart(kind, kind, record.sensitivity) for kind in ("layer", "block")]
    tables = [steps_table(record), quality_table(record), layers_table(record)]
    return page(
        "quantization.html",
        title=f"{record.precision} for {record.runtime}",
        summary=summary(record),
        tables=[table for table in tables if table.rows],
        charts=[chart for chart in charts if chart],
    )
