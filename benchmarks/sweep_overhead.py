"""What a sweep costs beside its work: wall time of the command, seconds of its jobs, CPU time of both.

    python benchmarks/sweep_overhead.py [PLAN] [--keep DIR] [--save]

The whole command counts, from its imports to its page: reading the plan, starting the worker, keeping the outcomes and
drawing the tables. The worker imports torch once; that is part of its first job. CPU time doesn't depend on what else
the machine does, as wall time does. The same command again shows what it costs to find everything done.
"""

import json
import os
import resource
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from common import keep, parser_of

DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "plan.toml"


def cpu(who: int) -> float:
    """CPU seconds of this process, or of the workers that have ended."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def swept(plan: Path, out: Path) -> dict[str, Any]:
    """Run the command in this process, whose CPU time is therefore the sweep's own."""
    started, own, workers = time.perf_counter(), cpu(resource.RUSAGE_SELF), cpu(resource.RUSAGE_CHILDREN)
    from attn_export.cli import run

    with redirect_stdout(StringIO()) as printed:
        if run(["sweep", str(plan), "-o", str(out), "--json", "--quiet"]):
            raise SystemExit(printed.getvalue())
    document = json.loads(printed.getvalue())
    return {
        "jobs": document["computed"],
        "work_seconds": document["work_seconds"],
        "scheduled_seconds": document["seconds"],
        "command_seconds": time.perf_counter() - started,
        "own_cpu_seconds": cpu(resource.RUSAGE_SELF) - own,
        "worker_cpu_seconds": cpu(resource.RUSAGE_CHILDREN) - workers,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("plan", nargs="?", type=Path, default=DIGITS)
    parser.add_argument("--keep", type=Path, help="the output folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        out = options.keep or Path(name, "out")
        first, again = swept(options.plan, out), swept(options.plan, out)
    work, command = first["work_seconds"], first["command_seconds"]
    own, workers = first["own_cpu_seconds"], first["worker_cpu_seconds"]
    running, more = 100 * (first["scheduled_seconds"] / work - 1), 100 * (command / work - 1)
    print(f"{first['jobs']} jobs, {work:.1f} s of work; {running:.1f} % more from the first job to the last outcome")
    print(f"the command, with its imports and its page: {command:.1f} s, {more:.1f} % more")
    print(f"CPU time: workers {workers:.1f} s, the sweep itself {own:.2f} s, {100 * own / workers:.1f} %")
    print(f"again: {again['command_seconds']:.1f} s, {again['jobs']} jobs; load {first['load']:.1f}")
    if options.save:
        keep("sweep_overhead", first=first, again=again)


if __name__ == "__main__":
    main()
