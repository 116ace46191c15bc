"""What attention costs at full size: networks of the zoo in ONNX Runtime, for one image of 224x224.

    python benchmarks/attention_cost.py [--networks se_resnet50,...] [--targets any,onnxruntime] [--threads N] [--save]

Each is captured and cleaned as the command does it, with random weights, and then measured by what the command uses.
The figures hold for the machine and the hour: other work on it shows in the intervals.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import keep, markdown, parser_of, show_in_docs, words_of

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
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.progress import NullProgress
from attn_export.models.registry import architecture, create

NETWORKS = ["se_resnet50", "cbam_resnet50", "se_mobilenet_v3_large"]
HEADS = ("network, for", "of the MACs", "of kernel time", "in blocks", "with", "without", "ratio")


def files_of(network: str, targets: list[Target], folder: Path) -> Iterator[OnnxFile]:
    """The network as it is exported for each target."""
    graph = capture(from_module(create(network).eval(), architecture(network).input_shape))
    for target in targets:
        copy = type(graph)(**{**vars(graph), "model": graph.model.clone()})
        yield onnx_file.write(clean_graph(copy, target)[0], folder / f"{network}.{target}.onnx")


def row_of(cost: dict[str, Any]) -> list[str]:
    """What the page shows of a file."""
    network, target, _ = cost["artifact"].split(".")
    low, high = cost["ratio_interval"]
    return [
        f"`{network}`, {target}",
        percent(cost["attention_macs"] / cost["macs"]),
        percent(cost["attention_ms"] / cost["profiled_ms"]),
        *(f"{milliseconds(cost[key])} ms" for key in ("attention_ms", "with_ms", "without_ms")),
        f"{cost['ratio']:.3f} ({low:.3f}–{high:.3f})",
    ]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--networks", type=words_of, default=NETWORKS)
    parser.add_argument("--targets", type=words_of, default=["any", "onnxruntime"])
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--seconds", type=float, default=40.0, help="of the schedule, for each file")
    options = parser.parse_args()
    settings, schedule = Settings(options.threads), Schedule(seconds=options.seconds)
    costs: list[dict[str, Any]] = []
    load = os.getloadavg()[0]
    for network in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            for file in files_of(network, list(map(Target, options.targets)), Path(folder)):
                costs += map(plain, attention_costs([file], 1, settings, schedule, NullProgress()))
                print(" | ".join(row_of(costs[-1])), flush=True)
    environment = describe()
    conditions = (
        f"{environment.cpu}, {options.threads} threads, ONNX Runtime {environment.packages['onnxruntime']}, one image; "
        f"load average {load:.1f} when it began."
    )
    figures = f"{markdown(HEADS, map(row_of, costs))}\n\n{conditions}"
    print(figures)
    if options.save:
        keep("attention_cost", costs=costs, load=load)
        show_in_docs("attention-cost.md", "figures", figures)


if __name__ == "__main__":
    main()
