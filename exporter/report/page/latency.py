"""The section on latencies."""

from collections.abc import Mapping, Sequence

from attn_export.exporter.records.latency import Timing
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.charts.distributions import distributions
from attn_export.exporter.report.charts.drift import drift
from attn_export.exporter.report.charts.ratios import ratios
from attn_export.exporter.report.charts.throughput import throughput
from attn_export.exporter.report.findings import conditions
from attn_export.exporter.report.findings import latency as findings
from attn_export.exporter.report.page.section import Section


def section(report: Report) -> Section:
    """Tables and charts for each batch size, the conditions, and warnings about the timing."""
    latency = report.latency
    if not latency.timings:
        return Section("latency", "Latency", "Latency", absent="Nothing was timed.")
    confidence = findings.confidence_of(latency)
    first, *others = (_batch(size, timings, confidence) for size, timings in findings.by_batch(latency).items())
    content = {
        "first": first,
        "others": others,
        "throughput": throughput("throughput", findings.throughput_of(latency)),
        "warnings": conditions.warning_sentences(latency),
        "conditions": conditions.condition_sentences(latency),
        "runs": conditions.run_table(latency),
        "gpus": conditions.gpu_table(latency),
    }
    return Section("latency", "Latency", "Latency", content)


def _batch(size: int, timings: Sequence[Timing], confidence: str) -> Mapping[str, object]:
    labels = findings.labels_of(timings)
    charts = (
        distributions(f"distributions-{size}", timings, labels),
        ratios(f"ratios-{size}", timings, labels, confidence),
        drift(f"drift-{size}", timings, labels),
    )
    others = list(zip(timings, labels, strict=True))[1:]
    return {
        "size": size,
        "sentences": [findings.ratio_sentence(t, label, labels[0]) for t, label in others],
        "latencies": findings.latency_table(timings, confidence),
        "runtimes": findings.runtime_table(timings),
        "charts": [chart for chart in charts if chart],
    }
