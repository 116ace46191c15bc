"""The CPU time that a container may use: read from files of both versions of control groups, and respected."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn_export.exporter.latency.conditions import Watch
from attn_export.exporter.records.latency import Conditions
from attn_export.exporter.records.timing_warnings import condition_warnings
from attn_export.exporter.system import quota as quotas
from attn_export.exporter.system.machine import usable_cpu_numbers, usable_cpus
from attn_export.exporter.system.quota import Quota, cpu_quota

STAT = "usage_usec 5\nnr_periods {}\nnr_throttled {}\nthrottled_usec 7\n"


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def docker(root: Path, granted: str = "150000 100000", periods: int = 40, throttled: int = 10) -> Path:
    """In a container of version 2 its own group is the outermost that is seen."""
    stat = STAT.format(periods, throttled)
    return machine(root, "0::/\n", {"sys/fs/cgroup/cpu.max": f"{granted}\n", "sys/fs/cgroup/cpu.stat": stat})


def test_a_container_s_quota_is_read(tmp_path: Path) -> None:
    assert cpu_quota(docker(tmp_path)) == Quota(1.5, 40, 10)


def test_version_1_has_other_files(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/cpu,cpuacct/docker/abc"
    files = {f"{folder}/cpu.cfs_quota_us": "50000", f"{folder}/cpu.cfs_period_us": "100000"}
    files[f"{folder}/cpu.stat"] = "nr_periods 3\nnr_throttled 1\nthrottled_time 99\n"
    groups = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n2:cpuset:/\n"
    assert cpu_quota(machine(tmp_path, groups, files)) == Quota(0.5, 3, 1)


def test_in_a_container_of_version_1_the_path_is_the_host_s(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}
    assert cpu_quota(machine(tmp_path, "3:cpu:/docker/abc\n", files)) == Quota(2.0, 0, 0)


def test_the_tightest_of_the_groups_around_counts(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/a.slice/cpu.max": "100000 100000",
        "sys/fs/cgroup/a.slice/b.scope/cpu.max": "400000 100000",
        "sys/fs/cgroup/other/cpu.max": "1000 100000",
    }
    found = cpu_quota(machine(tmp_path, "0::/a.slice/b.scope\n", files))
    assert found is not None
    assert found.cpus == 1.0


@pytest.mark.parametrize("granted", ["max 100000", "", "-1 100000", "0 100000", "100000", "100000 0", "x y", "9" * 30])
def test_without_a_limit_there_is_no_quota(granted: str, tmp_path: Path) -> None:
    assert cpu_quota(docker(tmp_path, granted)) is None


def test_a_path_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "max 100000", "sys/cpu.max": "1000 100000"}
    assert cpu_quota(machine(tmp_path, "0::/../..\n", files)) is None


def test_a_system_without_groups_has_none(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@given(st.text())
def test_no_text_upsets_it(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotas, "_text", lambda _: text)
        cpu_quota(Path("/nowhere"))


def test_there_are_no_more_threads_than_it_pays_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attn_export.exporter.system.machine.usable_cpu_numbers", lambda: tuple(range(8)))
    cases = {"50000 100000": 1, "150000 100000": 1, "300000 100000": 3, "1600000 100000": 8, "max 100000": 8}
    assert {granted: usable_cpus(docker(tmp_path, granted)) for granted in cases} == cases


def test_here_it_is_what_the_system_says() -> None:
    assert 1 <= usable_cpus() <= len(usable_cpu_numbers())


def test_how_often_it_was_used_up_is_reported_of_the_run_alone(tmp_path: Path) -> None:
    watch = Watch(root=docker(tmp_path, periods=100, throttled=90))
    watch.start()
    docker(tmp_path, periods=140, throttled=100)
    conditions = watch.stop()
    assert (conditions.quota, conditions.throttled) == (1.5, 0.25)
    (said,) = [trouble for trouble in condition_warnings(conditions) if "quota" in trouble]
    assert "1.5 CPUs was used up in 25% of its periods" in said


def test_a_quota_that_was_never_used_up_is_no_trouble(tmp_path: Path) -> None:
    watch = Watch(root=docker(tmp_path, periods=100, throttled=90))
    watch.start()
    docker(tmp_path, periods=140, throttled=90)
    assert not any("quota" in trouble for trouble in condition_warnings(watch.stop()))
    assert condition_warnings(Conditions(quota=1.5)) == []


def test_a_quota_that_was_changed_meanwhile_tells_nothing(tmp_path: Path) -> None:
    watch = Watch(root=docker(tmp_path))
    watch.start()
    docker(tmp_path, "200000 100000", periods=99, throttled=50)
    assert watch.stop().throttled is None
