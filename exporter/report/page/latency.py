"""The section on latencies."""

from dataclasses import dataclass
from typing import Any

from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.distributions import distributions
from attn_export.exporter.report.charts.drift import drift
from attn_export.exporter.report.charts.ratios import ratios
from attn_export.exporter.report.charts.throughput import throughput
from attn_export.exporter.report.findings import conditions
from attn_export.exporter.report.findings import latency as findings
from attn_export.exporter.report.findings.table import Table
from attn_export.exporter.report.page.section import Section


@dataclass(frozen=True)
class Batch:
    """One batch size."""

    size: int
    sentences: tuple[str, ...]
    latencies: Table
    ran: Table
    charts: tuple[Chart, ...]


def section(record: dict[str, Any]) -> Section:
    """Tables, distributions and ratios for each batch, the conditions, and what speaks against relying on them."""
    if not findings.timings_of(record):
        return Section("latency", "Latency", "Latency", absent="Nothing was timed.")
    batches = [_batch(record, size, timings) for size, timings in findings.by_batch(record).items()]
    rates = throughput("throughput", findings.throughput_of(record))
    return Section(
        "latency",
        "Latency",
        "Latency",
        {
            "first": batches[0],
            "others": batches[1:],
            "throughput": rates,
            "condition_cautions": conditions.condition_cautions(record),
            "conditions": conditions.conditions_sentences(record),
            "runs": conditions.run_table(record),
            "gpus": conditions.gpu_table(record),
        },
    )


def _batch(record: dict[str, Any], size: int, timings: list[findings.Timing]) -> Batch:
    labels, confidence = findings.labels_of(timings), findings.confidence_of(record)
    drawn = (
        distributions(f"distributions-{size}", timings, labels),
        ratios(f"ratios-{size}", timings, labels, confidence),
        drift(f"drift-{size}", timings, labels),
    )
    pairs = list(zip(timings, labels, strict=True))[1:]
    return Batch(
        size,
        tuple(findings.ratio_sentence(t, label, labels[0]) for t, label in pairs),
        findings.latency_table(timings, confidence),
        findings.what_ran(timings),
        tuple(chart for chart in drawn if chart),
    )
