"""How often `attn-export compare` is wrong, and how often it sees what there is: runs of the same against each other.

    python benchmarks/compare_runs.py [--runs 10] [--seconds 8] [--threads 1] [--networks …,…] [--save]

Each run is a process of its own; those of the networks alternate. Every run is compared with every other in either
order, and `--slower` is the default of 5 %. As nothing changed, whatever is called too slow is a false alarm: by the
latency alone, by the ratio to PyTorch alone, and where both have to show it, which is what the command does. Then the
later run of each pair is made slower by a known factor, and what is called too slow is right.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import keep, parser_of
from msgspec import structs

from attn_export.exporter.comparison.compare import compare
from attn_export.exporter.comparison.pair import MARGINS
from attn_export.exporter.comparison.read import TimedReport, read_timed_report
from attn_export.exporter.records.compare import Pair
from attn_export.exporter.records.latency import Timing

PROGRAM = [sys.executable, "-m", "attn_export.cli"]
ALLOWED = 0.05
FACTORS = (1.1, 1.2)
FILE = "onnxruntime"


def prepared(network: str, folder: Path) -> tuple[str, str]:
    """A checkpoint and its ONNX file."""
    checkpoint = str(folder / f"{network}.pt")
    for arguments in (["create", network, "-o", checkpoint], [checkpoint, "--onnx", "--no-bench"]):
        subprocess.run([*PROGRAM, *arguments, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return checkpoint, str(folder / f"{network}.onnx")


def benched(files: Sequence[str], options: Sequence[str], path: Path) -> TimedReport:
    """The report of one run."""
    command = [*PROGRAM, "bench", *files, *options, "--no-cost", "--quiet", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    path.write_text(done.stdout, encoding="utf-8")
    return read_timed_report(path)


def slowed(report: TimedReport, factor: float) -> TimedReport:
    """The same with a file that takes so many times as long."""
    latency = report.record.latency
    timings = tuple(_slowed(timing, factor) if timing.runtime == FILE else timing for timing in latency.timings)
    record = structs.replace(report.record, latency=structs.replace(latency, timings=timings))
    return TimedReport(report.path, record)


def _slowed(timing: Timing, factor: float) -> Timing:
    rounds = tuple(tuple(value * factor for value in values) for values in timing.rounds_ms)
    return structs.replace(timing, median_ms=timing.median_ms * factor, ratio=timing.ratio * factor, rounds_ms=rounds)


def pairs(reports: Sequence[TimedReport], factor: float) -> list[Pair]:
    """Of the file, every run against every other, the later one slower by a factor."""
    return [
        next(pair for pair in compare(old, slowed(new, factor), ALLOWED).pairs if pair.runtime == FILE)
        for old, new in itertools.permutations(reports, 2)
    ]


def alone(found: Sequence[Pair], which: str) -> int:
    """How many would be called too slow by one figure, by the margin that two have."""
    beyond = (1 + ALLOWED) * (1 + MARGINS["both"])
    changes = [getattr(pair, which) for pair in found]
    return sum(change is not None and change.low > beyond for change in changes)


def spread(values: Sequence[float]) -> float:
    """How much larger the largest is than the smallest."""
    return max(values) / min(values) - 1


def judged(network: str, reports: Sequence[TimedReport]) -> dict[str, Any]:
    """What the runs of one network say of the command."""
    same = pairs(reports, 1.0)
    timings = [{t.runtime: t for t in report.timings} for report in reports]
    return {
        "network": network,
        "runs": len(reports),
        "pairs": len(same),
        "baseline_spread": spread([t["eager"].median_ms for t in timings]),
        "file_spread": spread([t[FILE].median_ms for t in timings]),
        "ratio_spread": spread([t[FILE].ratio for t in timings]),
        "others": [run.conditions.others for r in reports for run in r.record.latency.runs if run.conditions],
        "false_by_latency": alone(same, "latency"),
        "false_by_ratio": alone(same, "ratio"),
        "false_alarms": sum(pair.broken for pair in same),
        "seen": {str(factor): sum(pair.broken for pair in pairs(reports, factor)) for factor in FACTORS},
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", default="se_resnet8,se_resnet18")
    options = parser.parse_args()
    passed = ["--seconds", str(options.seconds), "--threads", str(options.threads)]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {network: prepared(network, folder) for network in options.networks.split(",")}
        reports: dict[str, list[TimedReport]] = {network: [] for network in files}
        for run, (network, paths) in itertools.product(range(options.runs), files.items()):
            reports[network].append(benched(paths, passed, folder / f"{network}.{run}.report.json"))
        rows = [judged(network, made) for network, made in reports.items()]
    for row in rows:
        print(json.dumps(row))
    if options.save:
        keep("compare_runs", seconds=options.seconds, threads=options.threads, rows=rows)


if __name__ == "__main__":
    main()
