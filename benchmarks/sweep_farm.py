"""A sweep of 10,000 cells on 200 machines that are simulated, through the real plan, scheduler and store.

    PYTHONPATH=. python benchmarks/sweep_farm.py [--nodes 200] [--save]

A tenth of the machines are servers that export; the others offer one of ten GPUs. Jobs take 20 s on average, drawn from
an exponential distribution, on the simulation's clock. Three farms: none of the machines dies, a tenth does, and
a tenth is missing from the start. What is really measured is what a cell costs the machine that decides: CPU time of
the scheduler, and keeping an outcome on the disk.
"""

import random
import tempfile
import time
from pathlib import Path
from typing import Any

from common import keep, markdown, parser_of

from attn_export.exporter.artifacts import Input, LoadOptions
from attn_export.exporter.records.sweep import Figures, Outcome
from attn_export.exporter.sweep.cells import Grid, grid_of
from attn_export.exporter.sweep.job import Node
from attn_export.exporter.sweep.plan import Plan
from attn_export.exporter.sweep.schedule import Scheduler
from attn_export.exporter.sweep.store import opened
from tests.sweep.farm import Farm, Memory
from tests.sweep.light import Log

TARGETS = ("sm75", "sm80", "sm86", "sm87", "sm89", "sm90", "sm100", "sm110", "sm120", "sm121")
NETWORKS, BATCHES = 100, (1, 2, 4, 8, 16)
JOB_SECONDS = 20.0
PUBLISHED = 500


def the_grid(folder: Path) -> Grid:
    """100 networks x 2 precisions x 10 targets x 5 batches."""
    for i in range(NETWORKS):
        (folder / f"net{i}.onnx").write_text(str(i))
    names = tuple(f"net{i}.onnx" for i in range(NETWORKS))
    plan = Plan(names, ("fp32", "fp16"), TARGETS, BATCHES, ("tensorrt",))
    return grid_of(plan, folder, lambda _: LoadOptions(inputs=(Input("input", (1, 3, 224, 224)),)))


def the_nodes(count: int) -> list[Node]:
    servers = [Node(f"server {i}", frozenset({"cpu"})) for i in range(count // 10)]
    return servers + [Node(f"device {i}", frozenset({TARGETS[i % 10]})) for i in range(count - len(servers))]


def simulated(grid: Grid, nodes: list[Node], deaths: dict[str, float]) -> dict[str, Any]:
    farm, log = Farm(nodes, deaths=deaths, seconds=JOB_SECONDS), Log()
    scheduler = Scheduler(grid.jobs, {}, backend=farm, keeper=Memory(), inputs=lambda _: {}, watch=log)
    started = time.process_time()
    outcomes = scheduler.run()
    seconds = time.process_time() - started
    done = sum(outcome.error is None for outcome in outcomes.values())
    return {
        "nodes": len(nodes),
        "dead": len(deaths),
        "jobs": len(grid.jobs),
        "done": done,
        "lost_and_repeated": len(log.lost_jobs),
        "farm_hours": farm.now() / 3600,
        "ideal_hours": JOB_SECONDS * len(grid.jobs) / len(nodes) / 3600,
        "cpu_ms_of_a_job": 1000 * seconds / len(grid.jobs),
    }


def published(folder: Path) -> float:
    """Milliseconds to keep an outcome of two small files, synced."""
    with opened(folder / "out", ["cell"]) as store:
        started = time.perf_counter()
        for i in range(PUBLISHED):
            made = store.work / str(i)
            made.mkdir()
            (made / "latency.report.json").write_text("x" * 20_000)
            (made / "model.engine").write_bytes(b"x" * 200_000)
            files = ("latency.report.json", "model.engine")
            store.publish(Outcome(key=f"{i:064x}"[::-1], name=str(i), figures=Figures(), files=files), made)
        return 1000 * (time.perf_counter() - started) / PUBLISHED


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--nodes", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.process_time()
        grid = the_grid(folder)
        planning = 1000 * (time.process_time() - started) / len(grid.cells)
        keeping = published(folder)
    nodes = the_nodes(options.nodes)
    chosen = random.Random(0).sample(nodes, len(nodes) // 10)
    end = JOB_SECONDS * len(grid.jobs) / len(nodes)
    deaths = {node.name: random.Random(i).random() * end for i, node in enumerate(chosen)}
    rows = [
        {"farm": "all live"} | simulated(grid, nodes, {}),
        {"farm": "a tenth dies"} | simulated(grid, nodes, deaths),
        {"farm": "a tenth is missing"} | simulated(grid, [node for node in nodes if node not in chosen], {}),
    ]
    print(markdown([*rows[0]], [[f"{v:.2f}" if isinstance(v, float) else v for v in row.values()] for row in rows]))
    print(f"{len(grid.cells)} cells; planning: {planning:.3f} ms a cell; keeping an outcome, synced: {keeping:.2f} ms")
    if options.save:
        keep("sweep_farm", rows=rows, planning_ms=planning, keeping_ms=keeping)


if __name__ == "__main__":
    main()
