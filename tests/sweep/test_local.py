"""Sweeps in processes of this machine, with jobs that take no time."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from msgspec import structs

from attn_export.exporter.commands.sweep import load_options
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.records.sweep import SweepReport
from attn_export.exporter.sweep.cells import grid_of
from attn_export.exporter.sweep.local import LocalBackend, unoffered_here
from attn_export.exporter.sweep.plan import Plan
from attn_export.exporter.system.machine import usable_cpu_numbers
from attn_export.exporter.workflows.sweep import SweepSettings, error_of, planned, sweep
from tests.sweep import light
from tests.sweep.conftest import ROOT

DRIVER = """\
import sys
from pathlib import Path
from attn_export.exporter.workflows.sweep import SweepSettings, sweep
from tests.sweep import light
folder = Path(sys.argv[1])
plan = light.plan(folder, a="a", b="b", c="c")
sweep(light.grid(folder, plan), SweepSettings(folder / "out"), light.Log(), light.run)
"""
CELLS, JOBS = 6, 9


def compute(folder: Path, plan: Plan) -> tuple[dict[str, str], light.Log, SweepReport]:
    log = light.Log()
    report = sweep(light.grid(folder, plan), SweepSettings(folder / "out"), log, light.run)
    return {f"{row.model} {row.batch}": row.status for row in report.rows}, log, report


def test_a_sweep_computes_everything_once_and_continues(tmp_path: Path) -> None:
    plan = light.plan(tmp_path, a="a", b="b")
    rows, log, report = compute(tmp_path, plan)
    assert set(rows.values()) == {"good"}
    assert log.counts == (6, 0)
    assert error_of(report) is None
    assert (tmp_path / "out" / report.rows[0].report).is_file()
    assert report.rows[1].latency_ms == 2.0
    assert report.rows[1].error == 1e-7  # of the file
    _, again, _ = compute(tmp_path, structs.replace(plan, batches=(2, 4)))
    assert [outcome.name for outcome in again.ended] == [f"{name} fp32 cpu batch 4 onnxruntime" for name in "ab"]


def test_workers_share_the_cpus_and_a_timed_job_has_them_all(tmp_path: Path) -> None:
    grid = light.grid(tmp_path, structs.replace(light.plan(tmp_path, a="a", b="b"), batches=(1,)))
    report = sweep(grid, SweepSettings(tmp_path / "out", workers=2), light.Log(), light.run)
    cpus = len(usable_cpu_numbers())
    assert {row.nodes for row in report.rows} <= {max(1, cpus // 2), -(-cpus // 2)}  # jobs report their CPUs
    assert [row.kernels for row in report.rows] == [cpus, cpus]


def test_a_worker_that_imported_other_sources_is_not_taken(tmp_path: Path) -> None:
    job = next(iter(light.grid(tmp_path, light.plan(tmp_path, a="a")).jobs.values()))
    backend = LocalBackend(light.run, tmp_path, frozenset({"cpu"}))
    (node,), processes = backend.nodes(), []
    try:
        for code in ({"code": "one"}, {}, {"code": "one"}, {"code": "two"}):
            backend.submit(structs.replace(job, files={**job.files, **code}), node, {"model": (tmp_path / "a.onnx",)})
            processes.append(backend._workers[0].process.pid)
            while not backend.wait():
                pass
    finally:
        backend.stop()
    assert processes[0] == processes[1] == processes[2] != processes[3]


def test_one_that_fails_or_dies_costs_only_itself(tmp_path: Path) -> None:
    plan = structs.replace(light.plan(tmp_path, good="fine", bad="disagrees", dead="dies", odd="defect"), batches=(1,))
    rows, _, report = compute(tmp_path, plan)
    assert rows == {"good 1": "good", "bad 1": "bad", "dead 1": "failed", "odd 1": "failed"}
    messages = {row.model: row.message for row in report.rows}
    assert messages["dead"] == "this machine: the worker was ended by SIGKILL: out of luck"
    assert messages["odd"] == "ZeroDivisionError: oops"
    error = error_of(report)
    assert error is not None
    assert error.exit_code == 1
    assert error.message.startswith("of 4 cells 1 disagrees and 2 failed; the first is bad fp32")
    _, again, _ = compute(tmp_path, plan)  # a verdict is final, a death is not
    assert [outcome.name.partition(" ")[0] for outcome in again.ended] == ["dead", "odd"]


def test_the_dry_run_names_needs_and_nodes_and_computes_nothing(tmp_path: Path) -> None:
    plan = light.plan(tmp_path, a="a")
    found = planned(light.grid(tmp_path, plan), SweepSettings(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    (first, _) = found.cells
    assert (first.needs, first.nodes, first.done) == (("a fp32",), ("this machine",), False)
    compute(tmp_path, plan)
    assert all(each.done for each in planned(light.grid(tmp_path, plan), SweepSettings(tmp_path / "out")).cells)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attn_export.exporter.system.gpus.found", lambda: ())


@pytest.mark.parametrize("runtime", ["onnxruntime-cuda", "tensorrt"])
def test_a_target_that_nobody_offers_is_an_error_at_once(runtime: str, tmp_path: Path, no_gpu: None) -> None:
    plan = structs.replace(light.plan(tmp_path, a="a"), targets=("sm75",), runtimes=(runtime,))
    with pytest.raises(RuntimeUnavailableError, match=f"nobody offers sm75: {runtime} needs a GPU for sm75"):
        grid_of(plan, tmp_path, load_options, unoffered_here)


def test_a_runtime_that_cannot_serve_a_target_leaves_it_to_the_others(tmp_path: Path, no_gpu: None) -> None:
    runtimes = ("tensorrt-rtx", "tensorrt")
    plan = structs.replace(light.plan(tmp_path, a="a"), targets=("sm89", "sm87"), runtimes=runtimes, batches=(1,))
    grid = grid_of(plan, tmp_path, load_options, unoffered_here)
    assert [(cell.target, cell.runtime) for cell in grid.cells] == [("sm89", "tensorrt-rtx"), ("sm87", "tensorrt")]
    assert grid.left_out == {
        "tensorrt needs a GPU for sm89, and this machine has none": 1,
        "tensorrt-rtx has no engines for sm87": 1,
    }


def started(folder: Path, seconds: str = "0.05") -> subprocess.Popen[bytes]:
    environment = {**os.environ, light.LOG: str(folder / "log"), light.SECONDS: seconds, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], env=environment, start_new_session=True)


def executed(folder: Path) -> Counter[str]:
    return Counter((folder / "log").read_text().split()) if (folder / "log").exists() else Counter()


def killed_at_random(folder: Path, kills: int, seed: int) -> None:
    """Kill the driver once another job has begun, so that no time on the clock decides; then let one finish."""
    chosen = random.Random(seed)
    for _ in range(kills):
        before, process = executed(folder).total(), started(folder)
        while process.poll() is None and executed(folder).total() == before:
            time.sleep(0.002)
        time.sleep(chosen.random() * 0.1)
        workers = psutil.Process(process.pid).children() if process.poll() is None else []
        process.kill()
        process.wait()
        psutil.wait_procs(workers, timeout=30)
        assert not any(worker.is_running() for worker in workers)
    assert started(folder).wait() == 0


def check_nothing_was_lost(folder: Path, kills: int) -> None:
    counts = executed(folder)
    assert len(counts) == JOBS
    assert counts.total() <= JOBS + kills  # each kill costs at most the job at work
    assert len(list((folder / "out" / "cells").iterdir())) == JOBS
    assert not list((folder / "out").glob(".attn-export-*"))


def test_kill_9_loses_at_most_the_job_at_work(tmp_path: Path) -> None:
    killed_at_random(tmp_path, 1, seed=0)
    check_nothing_was_lost(tmp_path, 1)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(4))
def test_kill_9_at_random_moments(seed: int, tmp_path: Path) -> None:
    killed_at_random(tmp_path, 5, seed)
    check_nothing_was_lost(tmp_path, 5)


def test_ctrl_c_ends_the_workers_and_the_same_command_continues(tmp_path: Path) -> None:
    process = started(tmp_path, "0.2")
    while executed(tmp_path).total() < 2:
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children()
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() != 0
    psutil.wait_procs(workers, timeout=30)
    assert not any(worker.is_running() for worker in workers)
    assert started(tmp_path, "0").wait() == 0
    check_nothing_was_lost(tmp_path, 1)
