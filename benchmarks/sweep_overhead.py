"""What a sweep costs beside its work: the command's wall time, and the seconds that its jobs took.

    python benchmarks/sweep_overhead.py [--networks se_resnet18,cbam_resnet18] [--seconds 8] [--save]

The whole command counts, from its start to its end: reading the plan, starting the worker, keeping the outcomes, tables
and page. The worker imports torch once; that is part of its first job. The same command again shows what it costs to
find everything done.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from attn_export.exporter.records.document import plain
from attn_export.exporter.records.environment import describe

RESULTS = Path(__file__).parent / "results"


def swept(plan: Path) -> tuple[float, dict[str, Any]]:
    """Wall seconds of the command, and its document."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "attn_export.cli", "sweep", str(plan), "--json", "--quiet"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - started, json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="se_resnet18,cbam_resnet18")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    networks = json.dumps(options.networks.split(","))
    with tempfile.TemporaryDirectory() as name:
        plan = Path(name, "plan.toml")
        plan.write_text(
            f'models = {networks}\nprecisions = ["fp32", "fp16"]\nbatches = [1, 4]\n'
            f'runtimes = ["eager", "onnxruntime"]\nseconds = {options.seconds}\n'
        )
        wall, document = swept(plan)
        again, reused = swept(plan)
    work = document["work_seconds"]
    figures = {
        "cells": len(document["rows"]),
        "jobs": document["computed"],
        "work_seconds": work,
        "command_seconds": wall,
        "overhead": (wall - work) / work,
        "again_seconds": again,
        "again_computed": reused["computed"],
    }
    Console(width=120, highlight=False).print(
        f"{figures['cells']} cells, {figures['jobs']} jobs: {work:.1f} s of work, the command {wall:.1f} s, "
        f"{100 * figures['overhead']:.1f} % beside the work; again {again:.1f} s, {reused['computed']} jobs computed"
    )
    if options.save:
        text = json.dumps({**figures, "environment": plain(describe())}, indent=1) + "\n"
        (RESULTS / "sweep_overhead.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
