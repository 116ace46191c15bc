"""The scheduler, on machines that are simulated."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn_export.exporter.records.report import ErrorRecord
from attn_export.exporter.records.sweep import Figures, Outcome
from attn_export.exporter.sweep.job import Job, Make, Network, Node
from attn_export.exporter.sweep.schedule import ATTEMPTS, PATIENCE_SECONDS, Scheduler
from tests.sweep.farm import Farm, Memory
from tests.sweep.light import Log

TASK = Make(Network("zoo", "se_resnet8"), "fp32", "any")
HERE = Node("here", frozenset({"cpu"}))


def a_job(name: str, *needs: str, target: str = "cpu", timed: bool = False) -> Job:
    return Job(name, name, TASK, needs={need: need for need in needs}, target=target, timed=timed)


def run(jobs: Sequence[Job], farm: Farm, kept: dict[str, Outcome] | None = None) -> tuple[dict[str, Outcome], Log]:
    log = Log()
    scheduler = Scheduler(
        {job.key: job for job in jobs}, kept or {}, backend=farm, keeper=Memory(), inputs=lambda _: {}, watch=log
    )
    return scheduler.run(), log


def done(key: str, error: ErrorRecord | None = None) -> Outcome:
    return Outcome(key=key, name=key, figures=Figures(), error=error)


def test_what_a_job_needs_comes_first_and_what_is_there_is_not_computed() -> None:
    farm = Farm([HERE])
    _, log = run([a_job("c", "b"), a_job("b", "a"), a_job("a"), a_job("d")], farm, {"d": done("d")})
    assert [name for name, _ in log.started_jobs] == ["a", "b", "c"]
    assert log.counts == (4, 1)


def test_a_failed_need_fails_what_needs_it_without_running_it() -> None:
    failed = done("a", ErrorRecord("differs", "look", 1))
    outcomes, log = run([a_job("a"), a_job("b", "a"), a_job("c", "b")], Farm([HERE]), {"a": failed})
    assert not log.started_jobs
    assert [outcomes[key].error for key in "bc"] == [failed.error] * 2


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 4), st.integers(0, 9))
def test_timed_jobs_are_alone_on_their_machine(timed: list[bool], slots: int, seed: int) -> None:
    farm = Farm([Node("a", frozenset({"cpu"}), slots), Node("b", frozenset({"cpu"}), slots)], seed=seed)
    jobs = {str(i): a_job(str(i), timed=each) for i, each in enumerate(timed)}
    run(list(jobs.values()), farm)
    for key, node, start, end in farm.log:
        beside = [k for k, n, s, e in farm.log if n == node and k != key and s < end and start < e]
        assert not (jobs[key].timed and beside)
    assert len(farm.log) == len(jobs)


def test_a_job_runs_where_its_target_is_offered() -> None:
    nodes = [Node("server", frozenset({"cpu"})), Node("jetson", frozenset({"sm87"}))]
    _, log = run([a_job("a"), a_job("b", "a", target="sm87", timed=True)], Farm(nodes))
    assert log.started_jobs == [("a", "server"), ("b", "jetson")]


def test_the_job_of_a_lost_node_runs_elsewhere() -> None:
    nodes = [Node("first", frozenset({"cpu"})), Node("second", frozenset({"cpu"}))]
    outcomes, log = run([a_job("a")], Farm(nodes, deaths={"first": 0.0}))
    assert outcomes["a"].node == "second"
    assert log.lost_jobs == [("a", "first")]


def test_a_job_that_loses_every_node_is_not_tried_for_ever() -> None:
    nodes = [Node(str(i), frozenset({"cpu"})) for i in range(9)]
    farm = Farm(nodes, deaths={str(i): 0.001 * i for i in range(9)}, seconds=1e6)
    outcomes, log = run([a_job("a")], farm)
    assert len(log.started_jobs) == ATTEMPTS
    assert outcomes["a"].error is not None
    assert outcomes["a"].error.exit_code == 5


def test_a_node_that_lost_a_job_rests_though_it_is_still_listed() -> None:
    class Listed(Farm):
        def nodes(self) -> Sequence[Node]:
            return nodes

    nodes = [Node("first", frozenset({"cpu"})), Node("second", frozenset({"cpu"}))]
    _, log = run([a_job("a"), a_job("b")], Listed(nodes, deaths={"first": 0.0}))
    assert [node for _, node in log.started_jobs] == ["first", "second", "second"]


def test_jobs_without_a_node_are_given_up_after_a_while() -> None:
    farm = Farm([Node("a", frozenset({"sm86"})), HERE], deaths={"a": 0.0})
    outcomes, _ = run([a_job("x", target="sm86"), a_job("y")], farm)
    assert outcomes["y"].error is None
    assert outcomes["x"].error == ErrorRecord(
        "no node offers sm86 any more", "Start one; the same command continues.", 5
    )
    assert farm.now() >= PATIENCE_SECONDS


@pytest.mark.parametrize("dying", [0, 5])
def test_every_job_of_a_farm_is_done_once_though_nodes_die(dying: int) -> None:
    nodes = [Node(f"n{i}", frozenset({"cpu", f"sm8{i % 3}"})) for i in range(20)]
    makes = [a_job(f"make {i}") for i in range(30)]
    cells = [a_job(f"cell {i}", f"make {i % 30}", target=f"sm8{i % 3}", timed=True) for i in range(300)]
    farm = Farm(nodes, deaths={f"n{i}": 3.0 + i for i in range(dying)})
    outcomes, log = run([*makes, *cells], farm)
    assert all(outcome.error is None for outcome in outcomes.values())
    assert len(log.ended) == 330
    assert len(farm.log) == 330 + len(log.lost_jobs)
    assert len(log.lost_jobs) <= dying
