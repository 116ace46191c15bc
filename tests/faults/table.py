"""The table of planted faults and what caught each, in docs/validation.md and benchmarks/results/faults.json.

python -m tests.faults.table [--save]
"""

import argparse
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import onnx
from rich.console import Console

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.network.batches import nominal_batches
from attn_export.exporter.records.document import plain
from attn_export.exporter.records.environment import describe
from attn_export.exporter.report.tables import table
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.validation.matching import RUNS_OF_QUANTIZED
from attn_export.exporter.validation.quantized import runtime_conformance
from attn_export.exporter.validation.validate import validate, validate_outputs
from tests.conftest import SHARED
from tests.faults import quantization, running
from tests.faults.catalogue import FAULTS, NETWORKS, PLACES, TRAINED
from tests.faults.editing import Edited
from tests.faults.planting import ONE_THREAD, Row, Subject, judge, row
from tests.numbers import or_infinite

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "validation.md"
RESULTS = ROOT / "benchmarks" / "results" / "faults.json"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
LAYER = "layer2.0.conv2.weight"
HALF_FAULTS = ("gate always open", "average and maximum swapped", "its pool takes the maximum", "batch reversed")
QUANTIZED = "the graph in float64"


def good(subject: Subject) -> Iterator[Row]:
    """The files that nothing was planted in."""
    for file in (subject.file, subject.half):
        verdict = validate(file, subject.reference, ONE_THREAD)
        found = row("", subject.name, verdict, PLACES[subject.name])
        yield Row(
            f"none, {file.precision.onnx_name}",
            subject.name,
            found.caught,
            found.check,
            "",
            or_infinite(verdict.worst.ratio),
        )


def planted(subject: Subject) -> Iterator[Row]:
    """Faults of files in float32, some in float16, and of runtimes."""
    for fault in FAULTS:
        if subject.name in fault.networks:
            yield judge(fault, subject)
    place = PLACES[subject.name]
    for fault in FAULTS:
        if subject.name in fault.networks and fault.name in HALF_FAULTS:
            file = subject.faulty(lambda edited, f=fault: f.plant(edited, place), subject.half)  # type: ignore[misc]
            yield row(f"float16: {fault.name}", subject.name, validate(file, subject.reference, ONE_THREAD), place)
    if subject.name in TRAINED:
        for name, runtime in running.RUNTIMES.items():
            made = runtime(subject.file.path, subject.file.signature, ONE_THREAD)
            yield row(name, subject.name, validate_outputs(made, Precision.FP32, subject.reference), place)
        yield from whole_numbers(subject)


def whole_numbers(subject: Subject) -> Iterator[Row]:
    """Faults of a runtime with an int8 graph; the good one first."""
    images = nominal_batches(subject.model.inputs, 4, RUNS_OF_QUANTIZED)
    path = subject.folder / "int8.onnx"
    graph = quantization.quantized(subject.file.path, path, [b.arrays["input"] for b in images[:3]], per_channel=False)
    for name, plant in {"none, int8": None, **quantization.FAULTS}.items():
        ran = graph
        if plant is not None:
            edited = Edited(graph)
            plant(edited, LAYER)
            ran = subject.folder / "faulty.onnx"
            onnx.save(edited.model, ran)
        verdict = runtime_conformance(OnnxRuntime(ran, subject.file.signature, ONE_THREAD), graph, images)[0]
        check = "" if verdict.agrees else QUANTIZED
        yield Row(name, subject.name, not verdict.agrees, check, "output", or_infinite(verdict.worst.ratio))


def page(rows: Sequence[Row]) -> str:
    """The table in Markdown: faults, and what was good."""
    lines = ["| planted | networks | caught by | faintest |", "|---|---:|---|---:|"]
    for name in dict.fromkeys(r.fault for r in rows if not r.fault.startswith("none")):
        same = [r for r in rows if r.fault == name]
        caught = [r for r in same if r.caught]
        checks = ", ".join(dict.fromkeys(r.check for r in caught))
        finite = [r.ratio for r in caught]
        faintest = min(finite, default=0.0)
        told = "not a number" if math.isinf(faintest) else f"{faintest:,.0f}×"
        lines.append(f"| {name} | {len(caught)} of {len(same)} | {checks} | {told} |")
    lines += ["", "| nothing planted | networks | flagged | largest ratio |", "|---|---:|---:|---:|"]
    for name in dict.fromkeys(r.fault for r in rows if r.fault.startswith("none")):
        same = [r for r in rows if r.fault == name]
        flagged = sum(r.caught for r in same)
        lines.append(f"| {name.removeprefix('none, ')} | {len(same)} | {flagged} | {max(r.ratio for r in same):.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="write the page and the figures")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            os.environ[SHARED] = folder
            subject = Subject(name, Path(folder))
            rows += [*good(subject), *planted(subject)]
        Console(stderr=True).print(f"{name}: {sum(r.network == name for r in rows)} rows")
    made = table("Planted faults", "fault", "network", "caught", "check", "ratio")
    for found in rows:
        made.add_row(found.fault, found.network, "yes" if found.caught else "no", found.check, f"{found.ratio:.2f}")
    Console(width=140).print(made)
    if options.save:
        text = PAGE.read_text(encoding="utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{page(rows)}\n{END}{after}", encoding="utf-8")
        kept = [{**asdict(r), "ratio": r.ratio if math.isfinite(r.ratio) else None} for r in rows]
        RESULTS.write_text(json.dumps({"environment": plain(describe()), "rows": kept}, indent=1) + "\n")
    wrong = [r for r in rows if r.caught is r.fault.startswith("none")]
    if wrong:
        raise SystemExit(f"missed, or flagged though good: {wrong}")


if __name__ == "__main__":
    main()
