"""CPU times, clocks and affinity, on made-up machines and on this one; the warnings that follow."""

import json
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from msgspec import structs

from attn_export.exporter.errors import UsageError
from attn_export.exporter.latency import conditions, cpu_state
from attn_export.exporter.latency.conditions import Watch
from attn_export.exporter.latency.cpu_state import CpuTimes
from attn_export.exporter.records.document import plain as plain_values
from attn_export.exporter.records.latency import Conditions, GpuConditions, GpuProcess
from attn_export.exporter.records.timing_warnings import condition_warnings
from attn_export.exporter.system import affinity
from attn_export.exporter.system.affinity import check_cpus, pinned

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="affinity and /proc are Linux's")

# A made-up machine: psutil's answers, and files of /sys.


class LinuxTimes(NamedTuple):
    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    irq: float
    softirq: float
    steal: float
    guest: float
    guest_nice: float


FIRST = LinuxTimes(28.0, 0.5, 11.0, 645.0, 0.5, 0.25, 0.25, 0.125, 25.0, 0.5)
SECOND = LinuxTimes(217.0, 0.0, 34.0, 431.0, 4.0, 0.0, 0.5, 0.5, 0.0, 0.0)


@pytest.fixture
def cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """``cpus({"cpu0/cpufreq/scaling_governor": "performance"})``: the files are all that /sys has of CPUs."""
    monkeypatch.setattr(cpu_state, "CPUS", tmp_path)

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n")

    return write


def cpufreq(governors: str, khz: str) -> dict[str, str]:
    """For CPUs from 0 on."""
    found = {f"cpu{i}/cpufreq/scaling_governor": name for i, name in enumerate(governors.split())}
    return found | {f"cpu{i}/cpufreq/scaling_cur_freq": number for i, number in enumerate(khz.split())}


def test_cpu_times_are_summed_over_the_chosen_cpus_and_guests_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [FIRST, SECOND])
    one, both = cpu_state.cpu_times({0}), cpu_state.cpu_times({0, 1})
    assert one == CpuTimes(40.0, 0.125, 40.0 + 0.125 + 645.5)
    assert both is not None
    assert (both.busy, both.steal) == (40.0 + 251.5, 0.625)


def test_a_system_that_counts_less_has_no_steal_time(monkeypatch: pytest.MonkeyPatch) -> None:
    mac = types.SimpleNamespace(user=4.0, nice=0.0, system=1.0, idle=5.0)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [mac])
    assert cpu_state.cpu_times({0}) == CpuTimes(5.0, 0.0, 10.0)


@pytest.mark.parametrize(
    ("online", "chosen"),
    [
        ("0-1", set()),
        ("0-1", {0, 2}),  # a container that numbers CPUs in its own way
        ("0,2", {0, 1}),  # the second in the list is CPU 2
    ],
)
def test_a_cpu_that_is_not_listed_has_no_times(
    online: str, chosen: set[int], cpus: Callable[[dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpus({"online": online})
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [FIRST, SECOND])
    assert cpu_state.cpu_times(chosen) is None


def refuse(*_: object, **__: object) -> Any:
    raise FileNotFoundError("/proc/stat")


def test_clocks_and_governor_of_several_machines(
    cpus: Callable[[dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    virtual = [types.SimpleNamespace(current=mhz) for mhz in (2596.12, 3092.871)]
    monkeypatch.setattr(psutil, "cpu_freq", lambda percpu: virtual)
    assert (cpu_state.clocks((0, 1)), cpu_state.governor((0, 1))) == ((2596.1, 3092.9), None)
    assert cpu_state.clocks((1,)) == (3092.9,)
    assert cpu_state.clocks((0, 5)) is None
    cpus(cpufreq("schedutil schedutil", "1510400 729600"))  # a Jetson, where psutil has one clock for each cluster
    assert (cpu_state.clocks((0, 1)), cpu_state.governor((0, 1))) == ((1510.4, 729.6), "schedutil")
    cpus(cpufreq("performance powersave", "4699998 4700000"))
    assert (cpu_state.clocks((0, 1)), cpu_state.governor((0, 1))) == ((4700.0, 4700.0), "performance, powersave")


@pytest.mark.parametrize("clock", [0.0, None])
def test_a_clock_that_is_not_reported_is_none(
    clock: float | None, cpus: Callable[[dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [] if clock is None else [types.SimpleNamespace(current=clock)]
    monkeypatch.setattr(psutil, "cpu_freq", lambda percpu: listed)
    assert cpu_state.clocks((0,)) is None


def test_a_system_that_reports_nothing_is_one_without_conditions(
    tmp_path: Path, cpus: Callable[[dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cpu_times", "cpu_freq", "Process", "getloadavg"):
        monkeypatch.setattr(psutil, name, refuse)
    watch = Watch(root=tmp_path)
    watch.start()
    watch.sample()
    found = watch.stop()
    assert found == Conditions()
    assert condition_warnings(found) == []


def test_the_record_has_plain_values(tmp_path: Path, cpus: Callable[[dict[str, str]], None]) -> None:
    cpus(cpufreq(" ".join(["schedutil"] * 1024), ""))
    watch = Watch(root=tmp_path)
    watch.start()
    values = plain_values(watch.stop())
    assert list(values) == ["load", "others", "steal", "mhz", "governor", "gpus", "quota", "throttled", "notes"]
    assert (values["governor"], values["gpus"]) == ("schedutil", [])


# Shares.

BEFORE = CpuTimes(busy=10.0, steal=0.1, total=50.0)


def later(busy: float, steal: float, total: float) -> CpuTimes:
    return CpuTimes(BEFORE.busy + busy, BEFORE.steal + steal, BEFORE.total + total)


def test_shares_are_of_all_cpu_time_and_ours_is_no_background_load() -> None:
    assert conditions._shares(BEFORE, later(5.0, 0.2, 10.0), ours=4.0) == (0.1, 0.02)


def test_rounding_in_our_favour_is_not_less_than_nothing() -> None:
    assert conditions._shares(BEFORE, later(5.0, 0, 10.0), ours=5.03) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("before", "after", "own"),
    [
        (None, BEFORE, 0),
        (BEFORE, None, 0),
        (BEFORE, later(0.1, 0, 0.4), 0.05),  # too short
        (BEFORE, BEFORE, 0),  # a sandbox whose counters stand still
        (BEFORE, later(-1.0, 0, 5.0), 0),  # a CPU that was switched off and on
        (BEFORE, later(1.0, -0.05, 5.0), 0),
        (BEFORE, later(1.0, 0, 5.0), -0.03),
    ],
)
def test_shares_that_cannot_be_known_are_none(before: CpuTimes | None, after: CpuTimes | None, own: float) -> None:
    assert conditions._shares(before, after, own) == (None, None)


# Programs that use a CPU for so many seconds: of their own time, and of everybody's.
USE = (
    "import sys, time\nwhile time.process_time() < float(sys.argv[1]): pass\n"
    "print('used', flush=True)\nsys.stdin.read()"
)
KEEP_BUSY = "import sys, time\nends = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < ends: pass"


@ON_LINUX
def test_what_our_children_do_is_ours_while_they_live_and_when_they_have_ended() -> None:
    before = cpu_state.process_times()
    assert os.getpid() in before
    command = [sys.executable, "-c", USE, "0.4"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "used\n"
        assert child.pid in cpu_state.process_times()
    after = cpu_state.process_times()
    assert child.pid not in after
    assert sum(after.values()) - sum(before.values()) >= 0.35


@ON_LINUX
@pytest.mark.skipif(os.getpid() == 1, reason="every process without a parent is this one's")
def test_a_process_of_somebody_else_is_seen() -> None:
    """One that isn't below this one: its parent has ended, so it belongs to the system's first process."""
    cpu = min(os.sched_getaffinity(0))
    starter = (
        "import os, subprocess, sys\n"
        f"os.sched_setaffinity(0, {{{cpu}}})\n"
        "print(subprocess.Popen([sys.executable, '-c', *sys.argv[1:]], stdout=subprocess.DEVNULL).pid)"
    )
    with pinned([cpu]):
        watch = Watch()
        watch.start()
        command = [sys.executable, "-c", starter, KEEP_BUSY, "1.5"]
        started = subprocess.run(command, capture_output=True, text=True, check=True)
        assert int(started.stdout) not in cpu_state.process_times()
        time.sleep(1.2)
        found = watch.stop()
    assert found.others is not None
    assert found.others > 0.3
    assert found.load is not None
    assert any("other processes took" in sentence for sentence in condition_warnings(found))


# In words.

GPU = GpuConditions(0, "A GPU", clock_mhz=(1700.0, 1710.0, 1750.0))
QUIET = Conditions(0.1, 0.01, 0.0, (2400.0,), "performance", (GPU,))


def test_a_quiet_machine_is_no_trouble() -> None:
    assert condition_warnings(QUIET) == []
    assert condition_warnings(structs.replace(QUIET, load=64.0)) == []  # our own work of before is in it


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"others": 0.234}, "other processes took 23% of the CPU time during the timing"),
        ({"steal": 0.05}, "the hypervisor took 5% of the CPU time during the timing"),
        (
            {"gpus": (structs.replace(GPU, throttling=("power cap", "software thermal slowdown")),)},
            "the GPU was throttled: power cap, software thermal slowdown",
        ),
        ({"gpus": (structs.replace(GPU, others=(GpuProcess(1, 5),)),)}, "1 other process uses the GPU"),
        (
            {"gpus": (structs.replace(GPU, others=(GpuProcess(1, 5), GpuProcess(2, 5))),)},
            "2 other processes use the GPU",
        ),
        (
            {"gpus": (GPU, structs.replace(GPU, index=3, throttling=("hardware power brake",)))},
            "GPU 3 was throttled: hardware power brake",
        ),
        (
            {"gpus": (structs.replace(GPU, clock_mhz=(1200.0, 1500.0, 1710.0)),)},
            "the GPU's clock moved between 1200 and 1710 MHz during the timing",
        ),
    ],
)
def test_each_trouble_is_reported_in_words(changed: dict[str, object], told: str) -> None:
    assert condition_warnings(structs.replace(QUIET, **changed)) == [told]


def test_a_throttled_clock_is_reported_once() -> None:
    slow = structs.replace(GPU, clock_mhz=(700.0, 900.0, 1710.0), throttling=("power cap",))
    assert condition_warnings(structs.replace(QUIET, gpus=(slow,))) == ["the GPU was throttled: power cap"]


# Which CPUs.


@contextmanager
def waiting_thread() -> Iterator[int]:
    """A thread that is there before, by its number."""
    told: list[int] = []
    is_there, may_go = threading.Event(), threading.Event()

    def wait() -> None:
        told.append(threading.get_native_id())
        is_there.set()
        may_go.wait(30)

    thread = threading.Thread(target=wait)
    thread.start()
    is_there.wait(30)
    try:
        yield told[0]
    finally:
        may_go.set()
        thread.join()


@ON_LINUX
def test_every_thread_is_pinned_and_gets_back_what_it_had() -> None:
    usable = os.sched_getaffinity(0)
    one = {max(usable)}
    with waiting_thread() as old:
        os.sched_setaffinity(old, {min(usable)})
        with pinned([*one, *one]), waiting_thread() as new:
            assert [os.sched_getaffinity(t) for t in (0, old, new)] == [one] * 3
            child = subprocess.run(
                [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"],
                capture_output=True,
                text=True,
                check=True,
            )
            assert json.loads(child.stdout) == sorted(one)
            inner = new
            with pytest.raises(ValueError, match="stop"), pinned(sorted(one)):
                raise ValueError("stop")
            assert os.sched_getaffinity(inner) == one
        assert os.sched_getaffinity(old) == {min(usable)}
    assert os.sched_getaffinity(0) == usable


@ON_LINUX
def test_a_thread_that_began_inside_gets_what_the_caller_had() -> None:
    usable = os.sched_getaffinity(0)
    with pinned([min(usable)]):
        context = waiting_thread()
        inside = context.__enter__()
    assert os.sched_getaffinity(inside) == usable
    context.__exit__(None, None, None)


@ON_LINUX
@pytest.mark.parametrize(
    ("cpus", "message"),
    [([], "no CPU is given"), ([100_000], "can't use CPU 100000: it doesn't exist"), ([-1], "can't use CPU -1")],
)
def test_cpus_that_cannot_be_had_are_wrong_usage(cpus: list[int], message: str) -> None:
    before = os.sched_getaffinity(0)
    for refuses in (check_cpus, enter_pinned):
        with pytest.raises(UsageError, match=message) as caught:
            refuses(cpus)
        assert "may use" in caught.value.hint
    assert os.sched_getaffinity(0) == before


def enter_pinned(cpus: list[int]) -> None:
    with pinned(cpus):
        raise AssertionError("was granted")


@ON_LINUX
def test_a_cpu_that_others_keep_for_themselves_is_not_ours() -> None:
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        pytest.skip("there is one CPU only")
    with pinned(usable[:1]), pytest.raises(UsageError, match=f"can't use CPU {usable[1]}"):
        check_cpus(usable)


def test_a_system_without_affinity_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(UsageError, match="doesn't support CPU affinity"):
        enter_pinned([0])


@ON_LINUX
@pytest.mark.parametrize("error", [PermissionError(1, "Operation not permitted"), OSError(22, "Invalid argument")])
def test_a_system_that_refuses_is_reported_and_nothing_is_left_changed(
    error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = os.sched_getaffinity(0), os.sched_setaffinity

    def refuse(thread: int, cpus: set[int]) -> None:
        if cpus != before:
            raise error
        real(thread, cpus)

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    if len(before) < 2:
        pytest.skip("there is one CPU only")
    with pytest.raises(UsageError, match="the CPU affinity can't be set"):
        enter_pinned([min(before)])
    assert os.sched_getaffinity(0) == before


@ON_LINUX
def test_threads_that_end_meanwhile_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    there: Callable[[], list[int]] = affinity._threads
    monkeypatch.setattr(affinity, "_threads", lambda: [*there(), 2**22 + 1])
    with pinned(sorted(os.sched_getaffinity(0))[:1]):
        pass
