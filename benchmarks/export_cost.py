"""What the whole command costs beside a bare ``torch.onnx.export`` of the same network.

    python benchmarks/export_cost.py [--runs 3] [--networks se_resnet50,cbam_resnet50] [--save]

Each run is a process of its own, started alternately; wall time and peak memory are the operating system's. The goal:
what the command adds (cleanup, reference outputs, validation, writing) takes less time than the bare export, and the
peak memory is at most 1.5 times as high. Latencies are left out: their time is set, not needed.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import keep, markdown, parser_of, words_of

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


def costs(network: str, runs: int, folder: str) -> dict[str, Any]:
    """Medians of the pairs of runs of one network."""
    checkpoint, program = str(Path(folder, f"{network}.pt")), [sys.executable, "-m", "attn_export.cli"]
    measured([*program, "create", network, "-o", checkpoint, "--quiet"])
    bare = [sys.executable, "-c", BARE, checkpoint, str(Path(folder, "bare.onnx"))]
    whole = [*program, checkpoint, "--onnx", "--no-bench", "--quiet", "--out", folder]
    measured(bare)  # fills the disk cache
    pairs = [(measured(bare), measured(whole)) for _ in range(runs)]
    return {
        "network": network,
        "bare_seconds": statistics.median(b[0] for b, _ in pairs),
        "command_seconds": statistics.median(w[0] for _, w in pairs),
        "added_over_bare": statistics.median((w[0] - b[0]) / b[0] for b, w in pairs),
        "bare_mib": statistics.median(b[1] for b, _ in pairs),
        "command_mib": statistics.median(w[1] for _, w in pairs),
        "memory_ratio": statistics.median(w[1] / b[1] for b, w in pairs),
        "runs": runs,
    }


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the README's table."""
    bare, whole = (f"{row[f'{name}_seconds']:.1f} s, {row[f'{name}_mib']:.0f} MiB" for name in ("bare", "command"))
    return [f"`{row['network']}`", bare, whole, f"{row['added_over_bare']:.2f}", f"{row['memory_ratio']:.2f} times"]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--networks", type=words_of, default=["se_resnet50", "cbam_resnet50"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [costs(network, options.runs, folder) for network in options.networks]
    heads = ("network", "bare", "whole command, without latencies", "added / bare", "peak memory")
    print(markdown(heads, map(cells, rows)))
    if options.save:
        keep("export_cost", rows=rows)


if __name__ == "__main__":
    main()
