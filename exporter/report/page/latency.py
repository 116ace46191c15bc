"""The section on latencies."""

from dataclasses import dataclass

from attn_export.exporter.records.latency import Timing
from attn_export.exporter.records.report import Report
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


def section(report: Report) -> Section:
    """Tables, distributions and ratios for each batch, the conditions, and what speaks against relying on them."""
    if not report.latency.timings:
        return Section("latency", "Latency", "Latency", absent="Nothing was timed.")
    batches = [_batch(report, size, timings) for size, timings in findings.by_batch(report.latency).items()]
    rates = throughput("throughput", findings.throughput_of(report.latency))
    return Section(
        "latency",
        "Latency",
        "Latency",
        {
            "first": batches[0],
            "others": batches[1:],
            "throughput": rates,
            "warnings": conditions.latency_warnings(report.latency),
            "conditions": conditions.condition_sentences(report.latency),
            "runs": conditions.run_table(report.latency),
            "gpus": conditions.gpu_table(report.latency),
        },
    )


def _batch(report: Report, size: int, timings: list[Timing]) -> Batch:
    labels, confidence = findings.labels_of(timings), findings.confidence_of(report.latency)
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
        findings.runtime_table(timings),
        tuple(chart for chart in drawn if chart),
    )
