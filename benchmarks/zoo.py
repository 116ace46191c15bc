"""Every network of the zoo at full size: exported, proven, timed.

    python benchmarks/zoo.py [--networks se_resnet50,...] [--save]

Each export is the command itself, in a process of its own, on a checkpoint with random weights. The figures are the
record's: nodes, the largest ratio of error to baseline among gates and among outputs, latencies at batch 1.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from attn_export.exporter.records.document import plain
from attn_export.exporter.records.environment import describe
from attn_export.exporter.report.tables import table
from attn_export.models.registry import names

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "zoo.md"
PROGRAM = [sys.executable, "-m", "attn_export.cli"]


def exported(network: str, folder: str) -> dict[str, Any]:
    """The record of one export, which must succeed."""
    checkpoint = str(Path(folder, f"{network}.pt"))
    subprocess.run([*PROGRAM, "create", network, "-o", checkpoint, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    command = [*PROGRAM, checkpoint, "--onnx", "--json", "--quiet", "--out", folder]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    for file in Path(folder).iterdir():
        file.unlink()
    record: dict[str, Any] = json.loads(made.stdout)
    return record


def row_of(network: str, record: dict[str, Any]) -> dict[str, Any]:
    """The figures of one record."""
    (artifact,) = record["artifacts"]
    comparisons = artifact["validation"]["comparisons"]
    eager, onnx = record["latency"]["timings"]
    return {
        "network": network,
        "nodes_captured": artifact["cleanup"][0]["nodes_before"],
        "nodes": artifact["nodes"],
        "gates": len(artifact["gates"]),
        "gate_ratio": max((c["ratio"] for c in comparisons if c["role"] == "gate"), default=None),
        "output_ratio": max(c["ratio"] for c in comparisons if c["role"] == "output"),
        "eager_ms": eager["median_ms"],
        "onnxruntime_ms": onnx["median_ms"],
        "ratio": onnx["ratio"],
        "threads": record["latency"]["threads"],
    }


def page(rows: list[dict[str, Any]], environment: dict[str, Any]) -> str:
    """docs/zoo.md."""
    packages = environment["packages"]
    libraries = f"torch {packages['torch']}, ONNX Runtime {packages['onnxruntime']}"
    conditions = f"{environment['cpu']}, {rows[0]['threads']} threads, {libraries}."
    lines = [
        "# The zoo at full size",
        "",
        "Made by `python benchmarks/zoo.py`: each network of `attn-export models` with random weights,",
        "exported by the command at its default input, batch 1. *Gates* and *output* are the largest ratios of the",
        "file's error to PyTorch's own float32 error (allowed: 6). Latencies are medians in milliseconds,",
        "the two runtimes in turns; *ratio* is ONNX Runtime's time over PyTorch's.",
        "",
        conditions,
        "",
        "| network | nodes | as captured | gates | output | PyTorch ms | ONNX Runtime ms | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        gates = "–" if row["gate_ratio"] is None else f"{row['gate_ratio']:.2f}"
        lines.append(
            f"| `{row['network']}` | {row['nodes']} | {row['nodes_captured']} | {gates} | {row['output_ratio']:.2f} "
            f"| {row['eager_ms']:.1f} | {row['onnxruntime_ms']:.1f} | {row['ratio']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(names()))
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    shown = table(
        "Zoo", "network", "nodes", "as captured", "gates", "worst gate", "output", "eager ms", "ORT ms", "ratio"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for network in options.networks.split(","):
            row = row_of(network, exported(network, folder))
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
            shown.add_row(
                network,
                str(row["nodes"]),
                str(row["nodes_captured"]),
                str(row["gates"]),
                "" if row["gate_ratio"] is None else f"{row['gate_ratio']:.2f}",
                f"{row['output_ratio']:.2f}",
                f"{row['eager_ms']:.1f}",
                f"{row['onnxruntime_ms']:.1f}",
                f"{row['ratio']:.3f}",
            )
    Console(width=140, highlight=False).print(shown)
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        environment = plain(describe())
        document = {"rows": rows, "environment": environment}
        (RESULTS / "zoo.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        _, heading, others = PAGE.read_text(encoding="utf-8").partition("\n## ")  # sections of other programs
        PAGE.write_text(page(rows, environment) + heading + others, encoding="utf-8")


if __name__ == "__main__":
    main()
