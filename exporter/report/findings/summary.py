"""The summary card of a report: what agrees, how fast it is, and what it takes, each in a few words."""

from collections.abc import Iterator
from dataclasses import dataclass

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings import accuracy, attention, budgets, conditions, errors, latency
from attn_export.exporter.report.findings.table import GOOD, PLAIN, UNSURE
from attn_export.exporter.report.findings.words import listed, milliseconds, size, speed

WIDEST = 0.1  # half-width of an interval that the card still shows without a question mark


@dataclass(frozen=True)
class Badge:
    """One fact with its evidence in a sentence, a mark as of a `Cell`, and the section with the details."""

    about: str
    verdict: str
    basis: str
    mark: str
    section: str


def badges(report: Report) -> list[Badge]:
    """All facts of the card."""
    return list(_badges(report))


def _badges(report: Report) -> Iterator[Badge]:
    if errors.was_requested(report):
        yield Badge("Against PyTorch", *errors.verdict_words(report), "error")
    if accuracies := accuracy.verdict_words(report.evaluation):
        yield Badge("Accuracy", *accuracies, "accuracy")
    if report.latency.timings:
        yield _speed(report)
    if files := report.onnx_files:
        file, steps = files[0], files[0].cleanup
        found = attention.blocks_words(file.attention)
        if steps:
            words = f"{steps[0].nodes_before} → {file.nodes}"
            yield Badge("Nodes", words, f"{file.path}, as captured and after the cleanup; {found}.", PLAIN, "graph")
        else:
            yield Badge("Nodes", str(file.nodes), f"{file.path}; {found}.", PLAIN, "graph")
    sizes = [(a.path, a.bytes) for a in report.runnable if a.bytes is not None]
    if sizes:
        (path, first), *others = sizes
        more = "".join(f"; {name} {size(count)}" for name, count in others)
        yield Badge("File size", size(first), f"{path}{more}.", PLAIN, "environment")
    if cost := attention.summary(report):
        yield Badge("Attention", *cost, PLAIN, "attention")
    if verdict := budgets.verdict_words(report.budgets):
        yield Badge("Budgets", *verdict, "budgets")


def _speed(report: Report) -> Badge:
    """The fastest runtime at the first batch."""
    batches = latency.by_batch(report.latency)
    batch, timings = next(iter(batches.items()))
    labels, best = latency.labels_of(timings), latency.fastest(timings)
    more = f" Batch {batch}; {len(batches) - 1} more below." if len(batches) > 1 else f" Batch {batch}."
    more += " See the warnings about the timing." if conditions.warning_sentences(report.latency) else ""
    if len(timings) == 1:
        words = f"{milliseconds(timings[0].median_ms)} ms"
        return Badge("Latency", words, f"{labels[0]}, timed alone.{more}", PLAIN, "latency")
    if best is None and all(t.verdict == "slower" and t.ratio_interval[0] > 1 for t in timings[1:]):
        return Badge("Speed", f"{labels[0]} is the fastest", f"All others are slower.{more}", GOOD, "latency")
    if best is None:
        words = f"Nothing is significantly faster than {labels[0]}.{more}"
        return Badge("Speed", "Can't be told apart", words, UNSURE, "latency")
    fast, between = speed(best.ratio, best.ratio_interval)
    basis = f"{between}: {labels[timings.index(best)]} against {labels[0]}.{more}"
    near = [labels[i] for i, t in enumerate(timings) if i and t is not best and latency.overlap(t, best)]
    basis += f" It does not differ significantly from {listed(near)}." if near else ""
    devices = latency.devices_compared(best)
    basis += f" The ratio compares {devices}." if devices else ""
    known = all(run.reached or run.interval <= WIDEST for run in report.latency.runs if run.batch == batch)
    return Badge("Speed", f"{fast} times as fast", basis, GOOD if known else UNSURE, "latency")
