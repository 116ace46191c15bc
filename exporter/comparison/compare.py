"""Two reports -> what got faster, what got slower, and what can't be told."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from attn_export.exporter.comparison.circumstances import circumstances, other_machine, refuse_another_network
from attn_export.exporter.comparison.pair import Pair, pair_of
from attn_export.exporter.comparison.pairing import name_of, pairs_of, unpaired
from attn_export.exporter.comparison.read import LoadedReport, read_report
from attn_export.exporter.comparison.runs import Runs
from attn_export.exporter.comparison.validations import compare_validations, validation_notes
from attn_export.exporter.errors import IncomparableReportsError
from attn_export.exporter.latency.bootstrap import fewest_rounds
from attn_export.exporter.records.budget import BudgetResult
from attn_export.exporter.records.compare import ComparisonReport, PairRecord, ReportSource, ValidationChange
from attn_export.exporter.records.latency import BASELINE, Timing
from attn_export.exporter.records.report import ErrorRecord

if TYPE_CHECKING:
    from attn_export.exporter.errors import AttnExportError

# A baseline that itself changed by more than this is worth a note.
WORTH_SAYING = 0.1


@dataclass(frozen=True)
class Comparison:
    """What two reports say of each other.

    Attributes:
        old, new: the reports.
        confidence: of all intervals, 0..1.
        slower: how much slower is allowed: 0.05 is 5 %.
        machine: how the machine differs; nothing where it is the same.
        pairs: in the new report's order.
        only_old, only_new: names of timings that the other report doesn't have.
        validations: of the artifacts of both.
        notes: what else has to be known, one sentence each.
    """

    old: LoadedReport
    new: LoadedReport
    confidence: float
    slower: float
    machine: tuple[str, ...]
    pairs: tuple[Pair, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    validations: tuple[ValidationChange, ...]
    notes: tuple[str, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """A sentence for everything that got slower by more than is allowed, beyond noise."""
        return tuple(
            f"{pair.slower_words()}, where {100 * self.slower:.3g}% is allowed"
            for pair in self.pairs
            if pair.slower_than(self.slower)
        )


def compare(old: LoadedReport, new: LoadedReport, slower: float) -> Comparison:
    """Compare a report with an earlier one of the same network.

    Where both runs have the same baseline, the latency and the ratio to it have to say the same; otherwise the latency
    decides, and on another machine the ratio.

    Args:
        old: the earlier.
        new: the later.
        slower: how much slower is allowed: 0.05 is 5 %.

    Raises:
        IncomparableReportsError: another network, or no latency in common that can be compared.
    """
    refuse_another_network(old, new)
    machine, found = other_machine(old, new), pairs_of(old, new)
    if not found:
        raise IncomparableReportsError(
            f"{old.path} and {new.path} have no timing in common: {_listed(old.timings)} before, "
            f"{_listed(new.timings)} now",
            hint="Time the same runtimes at the same batch, in the same precision.",
        )
    runs = Runs(old, new, found, bool(machine), max(old.confidence, new.confidence))
    pairs = tuple(pair_of(runs, before, now) for before, now in found)
    if machine and not any(pair.decides for pair in pairs):
        raise IncomparableReportsError(
            f"{old.path} was measured elsewhere ({'; '.join(machine)}), and the two reports share no baseline on the "
            "same device",
            hint="Across machines only ratios to a baseline of the same run can be compared: time one in both, such as "
            "eager beside onnxruntime.",
        )
    validations = compare_validations(old, new)
    only_old = unpaired(old.timings, [before for before, _ in found])
    only_new = unpaired(new.timings, [now for _, now in found])
    notes = (
        *(f"another machine, so only ratios to the baseline are compared: {how}" for how in machine),
        *circumstances(old, new),
        *_too_few_rounds(runs),
        *_noisy(runs),
        *_drift(pairs),
        *_hidden(pairs, slower),
        *(f"{name} was timed before, and isn't now" for name in only_old),
        *(f"{name} is timed now, and wasn't before" for name in only_new),
        *validation_notes(validations),
    )
    return Comparison(old, new, runs.confidence, slower, machine, pairs, only_old, only_new, validations, notes)


def _listed(timings: Sequence[Timing]) -> str:
    return "; ".join(dict.fromkeys(map(name_of, timings)))


def _too_few_rounds(runs: Runs) -> Iterator[str]:
    """Reports that no interval can be had of."""
    least = fewest_rounds(runs.confidence)
    for report in (runs.old, runs.new):
        fewest = min(len(timing.rounds_ms) for timing in report.timings)
        if fewest < least:
            yield f"{report.path} has {fewest} rounds, and {runs.confidence:.0%} intervals need {least} at least"


def _noisy(runs: Runs) -> Iterator[str]:
    """Runs that weren't as certain as they were asked to be."""
    for report in (runs.old, runs.new):
        asked = report.record.latency.schedule.interval
        for run in report.record.latency.runs:
            if not run.reached:
                share = run.interval
                known = (
                    f"knows its ratios to ±{share:.1%} only" if share < 1 else "doesn't even know its ratios to ±100%"
                )
                yield (
                    f"{report.path} {known}, and ±{asked:.1%} was asked for (batch {run.batch}): the machine was "
                    "too noisy for the time"
                )


def _drift(pairs: Sequence[Pair]) -> Iterator[str]:
    """Baselines that changed a lot themselves."""
    for pair in pairs:
        if pair.verdict != BASELINE or pair.latency is None:
            continue
        times = pair.latency.estimate
        if max(times, 1 / times) > 1 + WORTH_SAYING:
            yield (
                f"{pair.runtime}, which the others are measured against, takes {times:.2f} times as long as before "
                f"(batch {pair.batch}): the machine was in another state, or the network itself has more or less to do"
            )


def _hidden(pairs: Sequence[Pair], allowed: float) -> Iterator[str]:
    """What would be too slow, if the baseline's noise didn't hide it."""
    for pair in pairs:
        if pair.latency is not None and pair.ratio is not None and pair.hidden_by_noise(allowed):
            yield (
                f"{pair.named} at batch {pair.batch} takes {pair.latency.estimate:.2f} times as long as before, but "
                f"its ratio to {pair.baseline} is too uncertain to confirm it ({pair.ratio.low:.2f} to "
                f"{pair.ratio.high:.2f}), so it isn't called slower; a limit in milliseconds needs no baseline: "
                f"--budget {pair.runtime}:latency=MS"
            )


def compare_files(old: Path | str, new: Path | str, *, slower: float = 0.05) -> ComparisonReport:
    """Compare two report files: ``compare_files("old.report.json", "new.report.json")``.

    Args:
        old: the earlier report of an export or a bench.
        new: the later one, of the same network.
        slower: by how much a latency may grow: 0.05 is 5 %.

    Raises:
        UnreadableReportError: a file isn't such a report.
        IncomparableReportsError: another network, or no latency in common that can be compared.
    """
    return comparison_report(compare(read_report(Path(old)), read_report(Path(new)), slower), (), None)


def comparison_report(
    comparison: Comparison, results: Sequence[BudgetResult], error: "AttnExportError | None"
) -> ComparisonReport:
    """The document of a comparison, see docs/compare.schema.json.

    Args:
        comparison: of two reports.
        results: of the budgets, of the new one.
        error: that the command ends with; None where nothing is broken.
    """
    return ComparisonReport(
        old=_source(comparison.old),
        new=_source(comparison.new),
        same_machine=not comparison.machine,
        confidence=comparison.confidence,
        slower_allowed=comparison.slower,
        pairs=tuple(
            PairRecord(**structs.asdict(pair), broken=pair.slower_than(comparison.slower)) for pair in comparison.pairs
        ),
        only_old=comparison.only_old,
        only_new=comparison.only_new,
        validations=comparison.validations,
        notes=comparison.notes,
        budgets=tuple(results),
        error=ErrorRecord(error.message, error.hint, error.exit_code) if error else None,
    )


def _source(report: LoadedReport) -> ReportSource:
    model = report.record.model
    return ReportSource(
        str(report.path), report.record.created, model.name if model else None, model.sha256 if model else None
    )
