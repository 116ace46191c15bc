"""The verdicts at the head of a report."""

from dataclasses import dataclass

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings import attention, budgets, conditions, errors, latency
from attn_export.exporter.report.findings.table import GOOD, PLAIN, UNSURE
from attn_export.exporter.report.findings.words import interval, listed, milliseconds, ratio


@dataclass(frozen=True)
class Badge:
    """One verdict.

    Attributes:
        about: its subject.
        verdict: in a few words.
        basis: the evidence, in a sentence.
        mark: "good", "bad", "unsure" or "plain".
        section: of the page, with the details.
    """

    about: str
    verdict: str
    basis: str
    mark: str
    section: str


def badges(report: Report) -> list[Badge]:
    """The verdicts on everything in this report."""
    found = []
    if errors.was_requested(report):
        found.append(Badge("Against PyTorch", *errors.verdict_words(report), "error"))
    if verdict := budgets.verdict_words(report.budgets):
        found.append(Badge("Budgets", *verdict, "budgets"))
    if report.latency.timings:
        found.append(_fastest(report))
    if cost := attention.summary(report):
        found.append(Badge("Attention", *cost, PLAIN, "attention"))
    return found


def _fastest(report: Report) -> Badge:
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
        return Badge("Fastest", labels[0], f"All others are slower.{more}", GOOD, "latency")
    if best is None:
        return Badge(
            "Fastest", "Can't tell", f"Nothing is significantly faster than {labels[0]}.{more}", UNSURE, "latency"
        )
    basis = f"{ratio(best.ratio)} of {labels[0]}'s time ({interval(best.ratio_interval)})."
    near = [labels[i] for i, t in enumerate(timings) if i and t is not best and latency.overlap(t, best)]
    basis += f" It does not differ significantly from {listed(near)}." if near else ""
    devices = latency.devices_compared(best)
    basis += f" The ratio compares {devices}." if devices else ""
    mark = UNSURE if near else GOOD
    return Badge("Fastest", labels[timings.index(best)], f"{basis}{more}", mark, "latency")
