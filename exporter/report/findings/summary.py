"""The verdicts of a record, as they stand at the head of a report."""

from dataclasses import dataclass
from typing import Any

from attn_export.exporter.report.findings import attention, budgets, conditions, errors, latency
from attn_export.exporter.report.findings.table import GOOD, PLAIN, UNSURE
from attn_export.exporter.report.findings.words import interval, listed, milliseconds, ratio


@dataclass(frozen=True)
class Badge:
    """One verdict.

    Attributes:
        about: what it is about.
        verdict: in a few words.
        basis: what it rests on, in a sentence.
        mark: "good", "bad", "unsure" or "plain".
        section: where the page says more.
    """

    about: str
    verdict: str
    basis: str
    mark: str
    section: str


def badges(record: dict[str, Any]) -> list[Badge]:
    """The verdicts, those that are about anything in this record."""
    found = []
    if errors.was_asked(record):
        found.append(Badge("Against PyTorch", *errors.verdict_words(record), "error"))
    if told := budgets.verdict_words(record):
        found.append(Badge("Budgets", *told, "budgets"))
    if latency.timings_of(record):
        found.append(_fastest(record))
    if cost := attention.summary(record):
        found.append(Badge("Attention", cost[0], cost[1], PLAIN, "attention"))
    return found


def _fastest(record: dict[str, Any]) -> Badge:
    """Which runtime is the fastest at the first batch, and by how much."""
    batch, timings = next(iter(latency.by_batch(record).items()))
    labels = latency.labels_of(timings)
    others = len(latency.by_batch(record)) - 1
    more = f" Batch {batch}; {others} more below." if others else f" Batch {batch}."
    best = latency.fastest(timings)
    careful = " Mind the condition_cautions." if conditions.condition_cautions(record) else ""
    if len(timings) == 1:
        words = f"{milliseconds(timings[0]['median_ms'])} ms"
        return Badge("Latency", words, f"{labels[0]}, timed alone.{more}{careful}", PLAIN, "latency")
    if best is None and all(t["verdict"] == "slower" for t in timings[1:]):
        return Badge("Fastest", labels[0], f"Everything else is slower.{more}{careful}", GOOD, "latency")
    if best is None:
        told = f"Nothing is faster than {labels[0]} beyond what chance could do."
        return Badge("Fastest", "Can't tell", f"{told}{more}{careful}", UNSURE, "latency")
    label = labels[timings.index(best)]
    told = f"{ratio(best['ratio'])} of {labels[0]}'s time ({interval(best['ratio_interval'])})."
    near = [labels[i] for i, t in enumerate(timings) if i and t is not best and latency.overlap(t, best)]
    told += f" It can't be told apart from {listed(near)}." if near else ""
    across = f" It compares {latency.devices_compared(best)}." if latency.devices_compared(best) else ""
    return Badge("Fastest", label, f"{told}{across}{more}{careful}", GOOD, "latency")
