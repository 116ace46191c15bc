"""Whether latencies can be believed: known differences, measured many times.

    python benchmarks/latency_trust.py [--runs 100] [--network cbam_resnet8] [--threads 1] [--save]

On a quiet machine, and beside a process that takes a core in bursts:

- same: the same file in two sessions. How often is neither called faster or slower?
- slowed: the same file in two sessions, one of which waits for 5 % of each inference's own time after it. How often is
  that found?
- repeated: the network in PyTorch and in ONNX Runtime, again and again. How far apart are the ratios of two runs?

Every run opens its sessions anew: where their memory happens to lie is part of what differs from run to run.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import keep, markdown, parser_of, show_in_docs

from attn_export.exporter.artifacts import Input, LoadedModel, Signature
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.latency.measure import Measured, measure
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.runtimes.eager import Eager
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.workflows.export import export
from attn_export.exporter.workflows.settings import ExportSettings
from attn_export.models.registry import create

SLOWDOWN = 0.05
BURST = """
import os, random, time
parent = os.getppid()
while os.getppid() == parent:
    until = time.perf_counter() + random.uniform(0.01, 0.3)
    while time.perf_counter() < until:
        pass
    time.sleep(random.uniform(0.01, 0.3))
"""
Row = dict[str, Any]


class Slowed(OnnxRuntime):
    """ONNX Runtime that waits after each inference, for a share of the time that it took."""

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run, and wait."""
        started = time.perf_counter()
        results = super().infer(inputs)
        until = started + (time.perf_counter() - started) * (1 + SLOWDOWN)
        while time.perf_counter() < until:
            pass
        return results


@contextmanager
def disturbed(wanted: bool) -> Iterator[None]:
    """Beside a process that takes a core for a tenth of a second or two, and leaves it for as long."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", BURST])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def timed(pair: Sequence[Runtime], images: Array, schedule: Schedule) -> Measured:
    """One run, with runtimes that are opened for it."""
    first, second = pair
    with first, second:
        return measure([first, second], {"input": images}, schedule)


def runs_of(kind: str, model: LoadedModel, path: Path, options: argparse.Namespace) -> Iterator[Measured]:
    """So many runs of one experiment."""
    shape = (1, *model.inputs[0].shape[1:])
    signature, settings = Signature((Input("input", shape),), ("output",)), Settings(options.threads)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    for seed in range(options.runs if kind != "repeated" else max(2, options.runs // 5)):
        schedule = Schedule(
            interval=options.interval, seconds=options.seconds, fewest_seconds=options.fewest_seconds, seed=seed
        )
        other = Slowed if kind == "slowed" else OnnxRuntime
        first: Runtime = OnnxRuntime(path, signature, settings)
        if kind == "repeated":
            first = Eager(model, signature, settings)
        pair = [first, other(path, signature, settings)]
        yield timed(pair, images, schedule)


def row(kind: str, noisy: bool, measured: Sequence[Measured]) -> Row:
    """What so many runs say."""
    verdicts = Counter(m.timings[1].verdict for m in measured)
    ratios = [m.timings[1].ratio for m in measured]
    apart = [abs(a / b - 1) for i, a in enumerate(ratios) for b in ratios[:i]]
    return {
        "experiment": kind,
        "disturbed": noisy,
        "runs": len(measured),
        "verdicts": dict(verdicts),
        "right": verdicts["can't tell" if kind == "same" else "slower" if kind == "slowed" else "faster"],
        "ratio": statistics.median(ratios),
        "min": min(ratios),
        "max": max(ratios),
        "apart_median": statistics.median(apart),
        "apart_95": float(np.percentile(apart, 95)),
        "reached": sum(m.run.reached for m in measured),
        "seconds": statistics.median(m.run.seconds for m in measured),
        "rounds": statistics.median(m.run.rounds for m in measured),
        "held": sum(
            m.timings[1].ratio_interval[0] <= statistics.median(ratios) <= m.timings[1].ratio_interval[1]
            for m in measured
        ),
    }


TITLES = {"same": "the same file twice", "slowed": "one slowed by 5 %", "repeated": "PyTorch, and ONNX Runtime"}
SAID = {"same": "can't tell", "slowed": "slower", "repeated": "faster"}


HEADS = (
    "",
    "machine",
    "said as it is",
    "ratio: median (smallest to largest)",
    "two runs apart: median, 95 %",
    "seconds",
)


def cells(row: Row) -> list[str]:
    """A row of the table in docs/latency.md."""
    return [
        TITLES[row["experiment"]],
        "a core taken in bursts" if row["disturbed"] else "as it is",
        f"“{SAID[row['experiment']]}” {row['right']} of {row['runs']}",
        f"{row['ratio']:.3f} ({row['min']:.3f} to {row['max']:.3f})",
        f"{row['apart_median']:.1%}, {row['apart_95']:.1%}",
        f"{row['seconds']:.1f}",
    ]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--network", default="cbam_resnet8")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fewest-seconds", type=float, default=Schedule().fewest_seconds)
    parser.add_argument("--interval", type=float, default=0.02)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    random.seed(0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        module = create(options.network)
        shape = (1, 3, options.size, options.size)
        path = export(module, shape, folder, settings=ExportSettings(runtimes=())).onnx
        model = from_module(module, shape[1:])
        for noisy in (False, True):
            for kind in TITLES:
                with disturbed(noisy):
                    rows.append(row(kind, noisy, list(runs_of(kind, model, path, options))))
                print(rows[-1], file=sys.stderr, flush=True)
    shown = markdown(HEADS, map(cells, rows), 2)
    print(shown)
    if options.save:
        keep("latency_trust", settings=vars(options), rows=rows)
        show_in_docs("latency.md", "trust", shown)


if __name__ == "__main__":
    main()
