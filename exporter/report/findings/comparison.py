"""Two reports beside each other."""

from attn_export.exporter.records.compare import Change, ComparisonReport, Pair
from attn_export.exporter.report.findings.table import BAD, GOOD, PLAIN, QUIET, Cell, Table, table

MARKS = {"faster": GOOD, "baseline": QUIET, "not compared": QUIET}
BASES = {"both": "by both", "ratio": "by the ratio", "latency": "by the latency", None: ""}


def pair_table(comparison: ComparisonReport) -> Table:
    """One row for each pair of timings."""
    baselines = {pair.baseline for pair in comparison.pairs if pair.baseline}
    baseline = baselines.pop() if len(baselines) == 1 else "baseline"
    several = len({pair.device for pair in comparison.pairs}) > 1
    heads = "runtime,<of,batch,old ms,new ms,new / old,interval".split(",")
    heads += [f"× {baseline}, new / old", "interval", "<verdict", "<decided"]
    return table("", heads, [_row(pair, several) for pair in comparison.pairs])


def _row(pair: Pair, several: bool) -> list[str | Cell]:
    return [
        f"{pair.runtime} ({pair.device})" if several else pair.runtime,
        pair.artifact or "the module",
        str(pair.batch),
        f"{pair.old_ms:.3f}",
        f"{pair.new_ms:.3f}",
        *_change(pair.latency),
        *_change(pair.ratio),
        Cell("slower, too much", BAD) if pair.broken else Cell(pair.verdict, MARKS.get(pair.verdict, PLAIN)),
        Cell(BASES[pair.decides], QUIET),
    ]


def _change(change: Change | None) -> tuple[str, str]:
    return ("—", "") if change is None else (f"{change.estimate:.3f}", f"{change.low:.3f}–{change.high:.3f}")


def caption(comparison: ComparisonReport) -> str:
    """The meaning of the numbers."""
    return (
        f"above 1: slower than before; {comparison.confidence:.0%} intervals; up to "
        f"{100 * comparison.slower_allowed:.3g}% slower is allowed"
    )
