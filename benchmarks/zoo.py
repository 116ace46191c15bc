"""Every network of the zoo at full size: exported, proven, timed.

    python benchmarks/zoo.py [--networks se_resnet50,...] [--save]

Each export is the command itself, in a process of its own, on a checkpoint with random weights. The figures are the
record's: nodes, the largest ratio of error to baseline among gates and among outputs, latencies at batch 1. Rows that
are kept and weren't asked for stay.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import RESULTS, keep, markdown, parser_of, show_in_docs, words_of

from attn_export.exporter.records.environment import describe
from attn_export.models.registry import names

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


HEADS = ("network", "nodes", "as captured", "gates", "output", "PyTorch ms", "ONNX Runtime ms", "ratio")


def cells(row: dict[str, Any]) -> list[str | None]:
    """A row of the table in docs/zoo.md."""
    gates = None if row["gate_ratio"] is None else f"{row['gate_ratio']:.2f}"
    times = [
        f"{row['output_ratio']:.2f}",
        f"{row['eager_ms']:.1f}",
        f"{row['onnxruntime_ms']:.1f}",
        f"{row['ratio']:.2f}",
    ]
    return [f"`{row['network']}`", str(row["nodes"]), str(row["nodes_captured"]), gates, *times]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--networks", type=words_of, default=names())
    options = parser.parse_args()
    kept = json.loads((RESULTS / "zoo.json").read_text(encoding="utf-8"))["rows"]
    found = {row["network"]: row for row in kept}
    with tempfile.TemporaryDirectory() as folder:
        for network in options.networks:
            found[network] = row_of(network, exported(network, folder))
            print(json.dumps(found[network]), file=sys.stderr, flush=True)
    rows = [found[network] for network in names() if network in found]
    environment = describe()
    libraries = f"torch {environment.packages['torch']}, ONNX Runtime {environment.packages['onnxruntime']}"
    shown = f"{environment.cpu}, {rows[0]['threads']} threads, {libraries}.\n\n{markdown(HEADS, map(cells, rows))}"
    print(shown)
    if options.save:
        keep("zoo", rows=rows)
        show_in_docs("zoo.md", "zoo", shown)


if __name__ == "__main__":
    main()
