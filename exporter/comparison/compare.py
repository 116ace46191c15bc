"""Two reports -> what became faster or slower."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from attn_export.exporter.budgets.check import check_budgets, failure
from attn_export.exporter.comparison.circumstances import circumstances, other_machine, refuse_another_network
from attn_export.exporter.comparison.pair import hidden_by_noise, pair_of, slower_words
from attn_export.exporter.comparison.read import TimedReport, read_timed_report
from attn_export.exporter.comparison.runs import Runs, name_of, pairs_of, unpaired
from attn_export.exporter.errors import IncomparableReportsError
from attn_export.exporter.latency.bootstrap import fewest_rounds
from attn_export.exporter.records.budget import Budget
from attn_export.exporter.records.compare import ComparisonReport, Pair, ReportSource
from attn_export.exporter.records.latency import BASELINE, Timing
from attn_export.exporter.records.report import ErrorRecord
from attn_export.exporter.records.timing_warnings import latency_warnings

# A larger change of the baseline itself is worth a note.
BASELINE_DRIFT = 0.1


def compare_files(old: Path | str, new: Path | str, *, slower: float = 0.05) -> ComparisonReport:
    """Compare two report files: ``compare_files("old.report.json", "new.report.json")``.

    Args:
        slower: by how much a latency may grow: 0.05 is 5 %.

    Raises:
        UnreadableReportError: a file isn't such a report.
        IncomparableReportsError: another network, or no latency in common that can be compared.
    """
    return compare(read_timed_report(Path(old)), read_timed_report(Path(new)), slower)


def compare(old: TimedReport, new: TimedReport, slower: float, budgets: Sequence[Budget] = ()) -> ComparisonReport:
    """Compare a report with an earlier one of the same network.

    Where both runs have the same baseline, the latency and its ratio to the baseline must agree; otherwise the latency
    decides, and on another machine the ratio.

    ``slower`` is by how much a latency may grow: 0.05 is 5 %. The budgets are for the new report.

    Raises:
        IncomparableReportsError: another network, or no latency in common that can be compared.
        InputError: the new report has no figure for a budget.
    """
    refuse_another_network(old, new)
    machine = other_machine(old, new)
    runs = Runs(old, new, _timings(old, new), bool(machine), max(old.confidence, new.confidence), slower)
    pairs = _pairs(runs, machine)
    only_old = unpaired(old.timings, [before for before, _ in runs.pairs])
    only_new = unpaired(new.timings, [now for _, now in runs.pairs])
    results = check_budgets(new.record, budgets)
    broken = [f"{slower_words(pair)}, where {100 * slower:.3g}% is allowed" for pair in pairs if pair.broken]
    error = failure(results, broken)
    return ComparisonReport(
        old=_source(old),
        new=_source(new),
        same_machine=not machine,
        confidence=runs.confidence,
        slower_allowed=slower,
        pairs=pairs,
        only_old=only_old,
        only_new=only_new,
        notes=(
            *(f"another machine, so only ratios to the baseline are compared: {difference}" for difference in machine),
            *circumstances(old, new),
            *_too_few_rounds(runs),
            *_warnings(runs),
            *_drift(pairs),
            *_hidden(pairs, slower),
            *(f"{name} was timed before, and isn't now" for name in only_old),
            *(f"{name} is timed now, and wasn't before" for name in only_new),
        ),
        budgets=results,
        error=ErrorRecord.of(error),
    )


def _timings(old: TimedReport, new: TimedReport) -> tuple[tuple[Timing, Timing], ...]:
    """At least one pair."""
    found = pairs_of(old, new)
    if not found:
        raise IncomparableReportsError(
            f"{old.path} and {new.path} have no timing in common: {_listed(old.timings)} before, "
            f"{_listed(new.timings)} now",
            hint="Time the same runtimes at the same batch, in the same precision.",
        )
    return found


def _pairs(runs: Runs, machine: Sequence[str]) -> tuple[Pair, ...]:
    """With a verdict on at least one of them, if the machines differ."""
    pairs = tuple(pair_of(runs, before, now) for before, now in runs.pairs)
    if machine and not any(pair.decides for pair in pairs):
        raise IncomparableReportsError(
            f"{runs.old.path} was measured on another machine ({'; '.join(machine)}), and the two reports share no "
            "baseline on the same device",
            hint="Across machines only ratios to a baseline of the same run can be compared: time one in both, such as "
            "eager beside onnxruntime.",
        )
    return pairs


def _source(report: TimedReport) -> ReportSource:
    model = report.record.model
    name, sha256 = (model.name, model.sha256) if model else (None, None)
    return ReportSource(str(report.path), report.record.created, name, sha256)


def _listed(timings: Sequence[Timing]) -> str:
    return "; ".join(dict.fromkeys(map(name_of, timings)))


def _too_few_rounds(runs: Runs) -> Iterator[str]:
    """Reports without confidence intervals."""
    needed = fewest_rounds(runs.confidence)
    for report in (runs.old, runs.new):
        fewest = min(len(timing.rounds_ms) for timing in report.timings)
        if fewest < needed:
            yield f"{report.path} has {fewest} rounds, and {runs.confidence:.0%} intervals need {needed} at least"


def _warnings(runs: Runs) -> Iterator[str]:
    for report in (runs.old, runs.new):
        yield from (f"{report.path}, {warning}" for warning in latency_warnings(report.record.latency))


def _drift(pairs: Sequence[Pair]) -> Iterator[str]:
    """Baselines whose own latency changed a lot."""
    for pair in pairs:
        if pair.verdict != BASELINE or pair.latency is None:
            continue
        times = pair.latency.estimate
        if not 1 / (1 + BASELINE_DRIFT) < times < 1 + BASELINE_DRIFT:
            yield (
                f"{pair.runtime}, which the others are measured against, takes {times:.2f} times as long as before "
                f"(batch {pair.batch}): the machine was in another state, or the network itself has more or less to do"
            )


def _hidden(pairs: Sequence[Pair], allowed: float) -> Iterator[str]:
    """Pairs that would be slower than allowed without the noise of their baseline."""
    for pair in pairs:
        if pair.latency is not None and pair.ratio is not None and hidden_by_noise(pair, allowed):
            yield (
                f"{pair.label} at batch {pair.batch} takes {pair.latency.estimate:.2f} times as long as before, but "
                f"its ratio to {pair.baseline} is too uncertain to confirm it ({pair.ratio.low:.2f} to "
                f"{pair.ratio.high:.2f}), so it isn't called slower; a limit in milliseconds needs no baseline: "
                f"--budget {pair.runtime}:latency=MS"
            )
