"""What the whole command costs beside a bare ``torch.onnx.export`` of the same network.

    python benchmarks/export_cost.py [--runs 3] [--networks se_resnet50,cbam_resnet50] [--save]

Each run is a process of its own, started alternately; wall time and peak memory are the operating system's. The goal:
what the command adds (cleanup, reference outputs, validation, writing) takes less time than the bare export, and the
peak memory is at most 1.5 times as high. Latencies are left out: their time is set, not needed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from attn_export.exporter.records.document import plain
from attn_export.exporter.records.environment import describe
from attn_export.exporter.report.tables import table

RESULTS = Path(__file__).parent / "results"
BARE = """
import sys, torch
from pathlib import Path
from attn_export.exporter.checkpoint import load
model = load(Path(sys.argv[1]))
example = torch.randn(2, *model.inputs[0].shape[1:])
torch.onnx.export(model.module, (example,), sys.argv[2], dynamo=True, opset_version=20, verbose=False,
                  dynamic_shapes=({0: torch.export.Dim("batch")},), input_names=["input"], output_names=["output"])
"""


def measured(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak MiB of a process that must succeed."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--networks", default="se_resnet50,cbam_resnet50")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    console = Console(width=120, highlight=False)
    shown = table(
        "Whole command and bare export",
        "network",
        "bare s",
        "command s",
        "added / bare",
        "bare MiB",
        "command MiB",
        "memory",
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for network in options.networks.split(","):
            checkpoint = str(Path(folder, f"{network}.pt"))
            program = [sys.executable, "-m", "attn_export.cli"]
            subprocess.run(
                [*program, "create", network, "-o", checkpoint, "--quiet"], check=True, stdout=subprocess.DEVNULL
            )
            bare = [sys.executable, "-c", BARE, checkpoint, str(Path(folder, "bare.onnx"))]
            whole = [*program, checkpoint, "--onnx", "--no-bench", "--quiet", "--out", folder]
            measured(bare)  # fills the disk cache
            pairs = [(measured(bare), measured(whole)) for _ in range(options.runs)]
            row = {
                "network": network,
                "bare_seconds": statistics.median(b[0] for b, _ in pairs),
                "command_seconds": statistics.median(w[0] for _, w in pairs),
                "added_over_bare": statistics.median((w[0] - b[0]) / b[0] for b, w in pairs),
                "bare_mib": statistics.median(b[1] for b, _ in pairs),
                "command_mib": statistics.median(w[1] for _, w in pairs),
                "memory_ratio": statistics.median(w[1] / b[1] for b, w in pairs),
                "runs": options.runs,
            }
            rows.append(row)
            shown.add_row(
                network,
                f"{row['bare_seconds']:.1f}",
                f"{row['command_seconds']:.1f}",
                f"{row['added_over_bare']:.2f}",
                f"{row['bare_mib']:.0f}",
                f"{row['command_mib']:.0f}",
                f"{row['memory_ratio']:.2f}",
            )
    console.print(shown)
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        document = {"rows": rows, "environment": plain(describe())}
        (RESULTS / "export_cost.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
