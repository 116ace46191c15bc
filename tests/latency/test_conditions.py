"""What the system says of its CPUs, on texts of several machines and on this one; what is made of it."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from attn_export.exporter.errors import UsageError
from attn_export.exporter.latency import affinity, conditions, processors
from attn_export.exporter.latency.affinity import check_cpus, pinned
from attn_export.exporter.latency.conditions import Watch
from attn_export.exporter.latency.processors import Process, Ticks
from attn_export.exporter.records.document import plain as plain_values
from attn_export.exporter.records.latency import Conditions, GpuConditions, GpuProcess
from attn_export.exporter.records.timing_warnings import condition_warnings
from tests.latency.machines import ANCIENT_STAT, BARE, DESKTOP, EPYC, EPYC_CPUINFO, EPYC_STAT, JETSON, JETSON_CPUINFO

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="affinity and /proc are Linux's")

# Texts.


def test_ticks_are_summed_over_the_cpus_that_are_asked_for() -> None:
    assert processors.ticks_of(EPYC_STAT, {0}) == Ticks(2865 + 1148 + 13, 2, 2865 + 1148 + 13 + 2 + 64590 + 41)
    both = processors.ticks_of(EPYC_STAT, {0, 1})
    assert both is not None
    assert (both.busy, both.steal) == (2865 + 1148 + 13 + 21714 + 3457 + 51, 8)


def test_what_runs_in_guests_is_not_counted_twice() -> None:
    told = processors.ticks_of("cpu0 100 0 10 50 0 0 0 0 90 0\n", {0})
    assert told == Ticks(110, 0, 160)


def test_an_old_kernel_steals_nothing() -> None:
    assert processors.ticks_of(ANCIENT_STAT, {0}) == Ticks(500, 0, 1000)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", {0}),
        (EPYC_STAT, set()),
        (EPYC_STAT, {0, 2}),  # a container that numbers CPUs in its own way
        ("cpu0 1 2 3\n", {0}),
        ("cpu0 1 2 3 x 5 6 7 8\n", {0}),
        ("cpux 1 2 3 4 5 6 7 8\n0 1 2 3 4 5 6 7 8\n", {0}),
    ],
)
def test_ticks_that_are_not_all_told_are_not_told(text: str, cpus: set[int]) -> None:
    assert processors.ticks_of(text, cpus) is None


def test_a_program_s_name_may_hold_blanks_and_parentheses() -> None:
    rest = "S 41 42 42 0 -1 4194304 100 200 0 0 7 5 3 2 20 0 1 0 99 0 0"
    for name in ("python", "a b", "x) R 1 (y", ")("):
        assert processors.process_of(f"42 ({name}) {rest}") == Process(42, 41, 17)


@pytest.mark.parametrize("text", ["", "42", "42 (python) S", "42 (a) S 41 1 1 0 -1 4 1 2 0 0 7 x 3 2", "x (a) S 1"])
def test_another_form_is_no_process(text: str) -> None:
    assert processors.process_of(text) is None


def test_a_family_is_a_process_and_all_below_it() -> None:
    everyone = [Process(1, 0, 1), Process(7, 1, 10), Process(8, 7, 20), Process(9, 8, 40), Process(5, 1, 80)]
    assert processors.family_of(7, everyone) == {7: 10, 8: 20, 9: 40}
    assert processors.family_of(99, everyone) == {}
    # A number that was used again while the list was read.
    assert processors.family_of(7, [Process(7, 8, 1), Process(8, 7, 2)]) == {7: 1, 8: 2}


def test_clocks_of_a_pc_and_of_an_arm_machine_that_has_none() -> None:
    assert processors.clocks_of(EPYC_CPUINFO) == {0: 2596.12, 1: 3092.871}
    assert processors.clocks_of(JETSON_CPUINFO) == {}
    assert processors.clocks_of("processor : 0\ncpu MHz : 0.000\nprocessor : 1\ncpu MHz : nan\n") == {}
    assert processors.clocks_of("cpu MHz : 5\n") == {}


LINES = st.lists(
    st.one_of(
        st.text(),
        st.builds("cpu{} {}".format, st.integers(-1, 3), st.lists(st.integers()).map(lambda x: " ".join(map(str, x)))),
        st.builds("{} : {}".format, st.sampled_from(["processor", "cpu MHz"]), st.floats() | st.integers() | st.text()),
        st.builds("{} ({}) S {}".format, st.integers(), st.text(), st.text("0123456789 -x")),
    )
).map("\n".join)


@given(LINES)
def test_no_text_upsets_them(text: str) -> None:
    processors.ticks_of(text, {0, 1})
    processors.clocks_of(text)
    processors.process_of(text)


# Machines.


def test_mhz_and_governor_of_several_machines(tmp_path: Path) -> None:
    epyc, jetson, desktop = (m.at(tmp_path / str(i)) for i, m in enumerate((EPYC, JETSON, DESKTOP)))
    assert processors.clocks((0, 1), epyc) == (2596.1, 3092.9)
    assert processors.clocks((1,), epyc) == (3092.9,)
    assert processors.clocks((0, 1), jetson) == (1510.4, 729.6)
    assert processors.clocks((0, 1), desktop) == (4700.0, 4700.0)
    assert processors.clocks((0, 5), jetson) is None
    assert [processors.governor((0, 1), root) for root in (epyc, jetson, desktop)] == [
        None,
        "schedutil",
        "performance, powersave",
    ]


def test_a_system_that_says_nothing_is_one_without_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getloadavg")  # Windows
    watch = Watch(root=BARE.at(tmp_path))
    watch.start()
    watch.sample()
    found = watch.stop()
    assert found == Conditions()
    assert condition_warnings(found) == []
    assert watch.notes == ()


def test_the_record_has_plain_values(tmp_path: Path) -> None:
    watch = Watch(root=JETSON.at(tmp_path))
    watch.start()
    told = plain_values(watch.stop())
    assert list(told) == ["load", "others", "steal", "mhz", "governor", "gpus", "quota", "throttled"]
    assert (told["governor"], told["gpus"]) == ("schedutil", [])


# Shares.

BEFORE = Ticks(busy=1000, steal=10, total=5000)


def later(busy: int, steal: int, total: int) -> Ticks:
    return Ticks(BEFORE.busy + busy, BEFORE.steal + steal, BEFORE.total + total)


def test_shares_are_of_all_cpu_time_and_ours_is_not_the_others() -> None:
    assert conditions._shares(BEFORE, later(500, 20, 1000), own=400) == (0.1, 0.02)


def test_ticks_that_were_rounded_in_our_favour_are_not_less_than_nothing() -> None:
    assert conditions._shares(BEFORE, later(500, 0, 1000), own=503) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("before", "after", "own"),
    [
        (None, BEFORE, 0),
        (BEFORE, None, 0),
        (BEFORE, later(10, 0, 40), 5),  # too short
        (BEFORE, BEFORE, 0),  # a sandbox whose counters stand still
        (BEFORE, later(-100, 0, 500), 0),  # a CPU that was switched off and on
        (BEFORE, later(100, -5, 500), 0),
        (BEFORE, later(100, 0, 500), -3),
    ],
)
def test_what_cannot_be_known_is_not_told(before: Ticks | None, after: Ticks | None, own: int) -> None:
    assert conditions._shares(before, after, own) == (None, None)


# Programs that use a CPU for so many seconds: of their own time, and of everybody's.
USE = "import sys, time\nwhile time.process_time() < float(sys.argv[1]): pass"
KEEP_BUSY = "import sys, time\nends = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < ends: pass"


@ON_LINUX
def test_what_our_children_do_is_ours_while_they_live_and_when_they_have_ended() -> None:
    before = processors.family()
    assert os.getpid() in before
    child = subprocess.Popen([sys.executable, "-c", USE, "0.4"])
    time.sleep(0.2)
    assert child.pid in processors.family()
    child.wait()
    after = processors.family()
    assert child.pid not in after
    hundredths = 100 * (sum(after.values()) - sum(before.values())) / os.sysconf("SC_CLK_TCK")
    assert hundredths >= 35


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
        assert int(started.stdout) not in processors.family()
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
        ({"others": 0.234}, "other processes took 23% of the CPU time while latencies were taken"),
        ({"steal": 0.05}, "the hypervisor took 5% of the CPU time while latencies were taken"),
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
            "the GPU's clock moved between 1200 and 1710 MHz while latencies were taken",
        ),
    ],
)
def test_each_trouble_is_told_in_words(changed: dict[str, object], told: str) -> None:
    assert condition_warnings(structs.replace(QUIET, **changed)) == [told]


def test_a_throttled_clock_is_told_once() -> None:
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
    [([], "no CPU was chosen"), ([100_000], "can't use CPU 100000: it isn't there"), ([-1], "can't use CPU -1")],
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
    with pytest.raises(UsageError, match="doesn't let a process choose its CPUs"):
        enter_pinned([0])


@ON_LINUX
@pytest.mark.parametrize("error", [PermissionError(1, "Operation not permitted"), OSError(22, "Invalid argument")])
def test_a_system_that_refuses_is_told_and_nothing_is_left_changed(
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
    with pytest.raises(UsageError, match="doesn't let this process choose"):
        enter_pinned([min(before)])
    assert os.sched_getaffinity(0) == before


@ON_LINUX
def test_threads_that_end_meanwhile_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    there: Callable[[], list[int]] = affinity._threads
    monkeypatch.setattr(affinity, "_threads", lambda: [*there(), 2**22 + 1])
    with pinned(sorted(os.sched_getaffinity(0))[:1]):
        pass
