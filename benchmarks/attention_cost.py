"""What attention costs at full size: networks of the zoo in ONNX Runtime, for one image of 224x224.

    python benchmarks/attention_cost.py [--networks se_resnet50,...] [--targets any,onnxruntime] [--threads N] [--save]

Each is captured and cleaned as the command does it, with random weights, and then measured by what the command uses.
The figures hold for the machine and the hour: other work on it shows in the intervals.
"""

import argparse
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from attn_export.exporter.artifacts import OnnxFile, Target
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.latency.attention_cost.costs import attention_costs
from attn_export.exporter.network.capture import capture
from attn_export.exporter.records.document import plain
from attn_export.exporter.records.environment import describe
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.report.findings.words import milliseconds, percent
from attn_export.exporter.report.terminal import attention_parts, drawn
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.progress import NullProgress
from attn_export.models.registry import architecture, create

RESULTS = Path(__file__).parent / "results" / "attention_cost.json"
PAGE = Path(__file__).parents[1] / "docs" / "attention-cost.md"
NETWORKS = "se_resnet50,cbam_resnet50,se_mobilenet_v3_large"
TABLE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)
HEAD = "| network, for | of the MACs | of kernel time | in blocks | with | without | ratio |"
RULE = "|---|---:|---:|---:|---:|---:|---|"


def files_of(network: str, targets: list[Target], folder: Path) -> Iterator[OnnxFile]:
    """The network as it is exported for each target."""
    graph = capture(from_module(create(network).eval(), architecture(network).input_shape))
    for target in targets:
        copy = type(graph)(**{**vars(graph), "model": graph.model.clone()})
        yield onnx_file.write(clean_graph(copy, target)[0], folder / f"{network}.{target}.onnx")


def table_of(costs: list[dict[str, Any]], threads: int, load: float, environment: dict[str, Any]) -> str:
    """What the page shows."""
    lines = [HEAD, RULE]
    for cost in costs:
        network, target, _ = cost["artifact"].split(".")
        low, high = cost["ratio_interval"]
        lines.append(
            f"| `{network}`, {target} | {percent(cost['attention_macs'] / cost['macs'])} "
            f"| {percent(cost['attention_ms'] / cost['profiled_ms'])} | {milliseconds(cost['attention_ms'])} ms "
            f"| {milliseconds(cost['with_ms'])} ms | {milliseconds(cost['without_ms'])} ms "
            f"| {cost['ratio']:.3f} ({low:.3f}–{high:.3f}) |"
        )
    runtime = f"ONNX Runtime {environment['packages']['onnxruntime']}"
    many = f"{threads} thread{'s' if threads > 1 else ''}"
    conditions = f"{environment['cpu']}, {many}, {runtime}, one image; load average {load:.1f} when it began."
    return "\n".join([*lines, "", conditions, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=NETWORKS)
    parser.add_argument("--targets", default="any,onnxruntime")
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--seconds", type=float, default=40.0, help="of the schedule, for each file")
    parser.add_argument("--save", action="store_true", help="keep the figures here and in docs/attention-cost.md")
    options = parser.parse_args()
    settings, schedule = Settings(options.threads), Schedule(seconds=options.seconds)
    costs: list[dict[str, Any]] = []
    load = os.getloadavg()[0]
    console = Console(width=140, highlight=False)
    for network in options.networks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            targets = [Target(name) for name in options.targets.split(",")]
            for file in files_of(network, targets, Path(folder)):
                measured = attention_costs([file], 1, settings, schedule, NullProgress())
                costs += [plain(cost) for cost in measured]
                for part in (part for cost in measured for part in drawn(attention_parts(cost))):
                    console.print(part)
    environment = plain(describe())
    figures = table_of(costs, options.threads, load, environment)
    console.print(figures, markup=False)
    if options.save:
        RESULTS.write_text(
            json.dumps({"costs": costs, "load": load, "environment": environment}, indent=1) + "\n", encoding="utf-8"
        )
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(TABLE.sub(lambda _: figures, text), encoding="utf-8")


if __name__ == "__main__":
    main()
