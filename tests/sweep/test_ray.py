"""Sweeps on a Ray cluster of several nodes, all of this machine; where Ray is installed."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.records.sweep import SweepReport
from attn_export.exporter.sweep.plan import Plan
from attn_export.exporter.workflows.sweep import SweepSettings, planned, sweep
from tests.sweep import light
from tests.sweep.conftest import ROOT
from tests.sweep.test_sweep import answer, full_plan, unmeasured

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head that exports, and two nodes with a GPU that isn't there."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / ".typing"), str(ROOT)]))
        patch.setenv("ATTN_EXPORT_CACHE", str(tmp_path_factory.mktemp("nodes")))
        patch.setenv("RAY_ENABLE_AUTO_CONNECT", "0")
        try:
            made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
            for _ in range(2):
                made.add_node(num_cpus=1, resources={"sm86": 1})
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            pytest.skip("Ray gives a node 30 s to start, and this machine takes longer")
        yield made
        ray.shutdown()
        made.shutdown()


def compute(folder: Path, plan: Plan, address: str, run: Any = light.run) -> tuple[SweepReport, light.Log]:
    log = light.Log()
    return sweep(light.grid(folder, plan), SweepSettings(folder / "out", address), log, run), log


def for_gpus(folder: Path, **models: str) -> Plan:
    return structs.replace(light.plan(folder, **models), targets=("sm86",), runtimes=("tensorrt",))


@pytest.mark.full
def test_exports_run_on_the_server_and_engines_where_their_gpu_is(tmp_path: Path, cluster: Any) -> None:
    report, log = compute(tmp_path, for_gpus(tmp_path, a="a", b="b"), cluster.address)
    assert {row.status for row in report.rows} == {"good"}
    places = dict(log.started_jobs)
    server = {node for name, node in log.started_jobs if name.endswith("fp32")}
    assert len(server) == 1
    assert {node for name, node in places.items() if "sm86" in name}.isdisjoint(server)
    assert (tmp_path / "out" / report.rows[0].report).read_text() == "{}"
    again, _ = compute(tmp_path, for_gpus(tmp_path, a="a", b="b"), cluster.address)
    assert (again.computed, again.reused) == (0, 6)


@pytest.mark.full
def test_a_verdict_is_final_and_a_dead_worker_is_tried_elsewhere(tmp_path: Path, cluster: Any) -> None:
    plan = structs.replace(for_gpus(tmp_path, good="fine", bad="disagrees", dead="dies"), batches=(1,))
    report, log = compute(tmp_path, plan, cluster.address)
    assert {row.model: row.status for row in report.rows} == {"good": "good", "bad": "bad", "dead": "failed"}
    tried = [name.partition(" ")[0] for name, _ in log.started_jobs if "sm86" in name]
    assert {name: tried.count(name) for name in tried} == {"good": 1, "bad": 1, "dead": 3}


@pytest.mark.full
def test_the_job_of_a_lost_node_runs_on_another(tmp_path: Path, cluster: Any) -> None:
    nodes = [cluster.add_node(num_cpus=1, resources={"sm89": 1}) for _ in range(2)]
    begun = tmp_path / "begun"
    plan = structs.replace(for_gpus(tmp_path, net=f"waits for its end {begun}"), targets=("sm89",), batches=(1,))
    log = light.Log()

    def kill() -> None:
        while not begun.exists():
            time.sleep(0.05)
        identifier = log.started_jobs[-1][1].split()[-1]
        (victim,) = (node for node in nodes if node.node_id.startswith(identifier))
        cluster.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    report = sweep(light.grid(tmp_path, plan), SweepSettings(tmp_path / "out", cluster.address), log, light.run)
    assert [row.status for row in report.rows] == ["good"]
    assert len(log.lost_jobs) == 1
    assert report.rows[0].node != log.lost_jobs[0][1]


@pytest.mark.full
def test_a_target_that_nobody_offers_is_an_error_at_once(tmp_path: Path, cluster: Any) -> None:
    plan = structs.replace(for_gpus(tmp_path, a="a"), targets=("sm120",))
    with pytest.raises(RuntimeUnavailableError, match="no node offers sm120; offered are cpu, sm86"):
        planned(light.grid(tmp_path, plan), SweepSettings(tmp_path / "out", cluster.address))


@pytest.mark.full
def test_a_cluster_that_cannot_be_reached_is_an_error_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(RuntimeUnavailableError, match="there is no Ray cluster"):
        planned(light.grid(tmp_path, light.plan(tmp_path, a="a")), SweepSettings(tmp_path / "out", f"127.0.0.1:{port}"))


@pytest.mark.full
def test_the_same_records_come_from_this_machine_and_from_a_cluster(
    tmp_path: Path, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = str(full_plan(tmp_path))
    code, here = answer([plan, "-o", str(tmp_path / "here")], capsys)
    assert code == 0, here
    code, there = answer([plan, "-o", str(tmp_path / "there"), "--ray", cluster.address], capsys)
    assert code == 0, there
    assert unmeasured(here) == unmeasured(there)
