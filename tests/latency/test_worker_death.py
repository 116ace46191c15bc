"""Workers that die, hang, are interrupted or lose their parent; real ONNX Runtime, and a STAND-IN that misbehaves."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.latency import isolated as room
from attn_export.exporter.latency.isolated import Isolated
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from tests.latency.samples import ONE, SIGNATURE, images, is_there, wait_until_gone


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_one_that_is_killed_between_turns_is_named_and_the_others_are_closed(name: str, model: Path) -> None:
    made = [Isolated(OnnxRuntime(model, SIGNATURE, ONE)) for _ in range(2)]
    with ExitStack() as stack:
        for there in made:
            stack.enter_context(there)
            there.load(images())
        pids = [there.pid for there in made]
        assert pids[0] is not None
        os.kill(pids[0], getattr(signal, name))
        with pytest.raises(RuntimeUnavailableError, match=f"isolated worker was ended by {name} while it was timed"):
            made[0].turn(10**9)  # the signal may come in the middle of it
        assert len(made[1].turn(1).seconds) == 1
        made[0].close()
    assert not any(map(is_there, pids))


def test_one_that_dies_in_the_middle_of_a_turn(runtime: OnnxRuntime) -> None:
    with Isolated(runtime) as there:
        there.load(images())
        pid = there.pid
        assert pid is not None
        killer = threading.Timer(0.3, os.kill, [pid, signal.SIGKILL])
        killer.start()
        with pytest.raises(RuntimeUnavailableError, match="SIGKILL") as caught:
            there.turn(10**9)
        killer.join()
        assert "memory" in caught.value.hint
        assert not is_there(pid)


def test_an_interruption_ends_it_and_goes_on(runtime: OnnxRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with Isolated(runtime) as there:
        pid = there.pid
        monkeypatch.setattr(Connection, "poll", interrupt)
        with pytest.raises(KeyboardInterrupt):
            there.turn(10**9)
    assert not is_there(pid)


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from attn_export.exporter.artifacts import Axis, Signature, Input
from attn_export.exporter.latency.isolated import Isolated
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime

signature = Signature((Input("input", (2, 3, 8, 8), axes=(Axis("batch", 0),)),), ("output",))
with Isolated(OnnxRuntime(Path(sys.argv[1]), signature, Settings(threads=1))) as there:
    there.load({"input": np.zeros((2, 3, 8, 8), np.float32)})
    print(there.pid, flush=True)
    if sys.argv[2] == "in a turn":
        there.turn(10**9)
    sys.stdin.read()
"""


@pytest.fixture(params=["in a turn", "between turns"])
def parent(request: pytest.FixtureRequest, model: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A process of its own with a worker of its own, and that one's number."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(model), request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process, int(process.stdout.readline())
    process.kill()
    process.communicate()


def test_ctrl_c_ends_both(parent: tuple["subprocess.Popen[str]", int]) -> None:
    process, pid = parent
    time.sleep(0.2)
    for target in (pid, process.pid):  # a terminal sends it to both
        os.kill(target, signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert not is_there(pid)


# In the middle of a turn it is given some seconds to come to its end.
@pytest.mark.parametrize("parent", [pytest.param("in a turn", marks=pytest.mark.full), "between turns"], indirect=True)
def test_a_parent_that_is_killed_leaves_no_orphan(parent: tuple["subprocess.Popen[str]", int]) -> None:
    process, pid = parent
    time.sleep(0.2)
    process.kill()
    process.wait()
    wait_until_gone(pid, seconds=600)


# A library that misbehaves.

Broken = Callable[[str], Isolated]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Broken:
    """``broken("exit:open")`` runs in the stand-in, which workers find in the place of ONNX Runtime."""
    shutil.copy(Path(__file__).with_name("fake_onnxruntime.py"), tmp_path / "onnxruntime.py")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def make_one(words: str) -> Isolated:
        (tmp_path / "m.onnx").write_text(words)
        return Isolated(OnnxRuntime(tmp_path / "m.onnx", SIGNATURE, ONE))

    return make_one


@pytest.mark.parametrize("when", ["open", "run"])
def test_what_a_library_prints_is_no_answer(when: str, broken: Broken, capfd: pytest.CaptureFixture[str]) -> None:
    with broken(f"noise:{when} slow") as there:
        there.load(images())
        for _ in range(3):
            assert len(there.turn(2).seconds) == 2
        assert there.provenance == "onnxruntime 0.0, CPUExecutionProvider"
    assert capfd.readouterr() == ("", "")


def test_one_that_ends_by_itself_is_named_with_its_code_and_last_words(broken: Broken) -> None:
    there = broken("exit:open")
    with pytest.raises(
        RuntimeUnavailableError, match="isolated worker ended with exit code 7 while it was opened"
    ) as caught:
        there.open()
    assert caught.value.hint == "Its last line was: libfoo: bad state"
    assert there.pid is None


def test_one_that_crashes_is_named_with_its_signal(broken: Broken) -> None:
    with pytest.raises(RuntimeUnavailableError, match="isolated worker was ended by SIGSEGV while it was opened"):
        broken("crash").open()


def test_one_whose_memory_runs_out_says_so(broken: Broken) -> None:
    with pytest.raises(MemoryError, match="no room for a tensor"):
        broken("memory:open").open()


def test_one_that_hangs_is_ended(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "OPEN_SECONDS", 1.5)
    there = broken("hang")
    with pytest.raises(RuntimeUnavailableError, match="had not answered after 2 s, and was killed while it was opened"):
        there.open()
    assert there.pid is None


def test_the_time_for_a_turn_grows_with_the_work(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    with broken("slow") as there:
        there.load(images(batch=8))
        monkeypatch.setattr(room, "ANSWER_SECONDS", 0.0)
        assert len(there.turn(30).seconds) == 30  # 1.5 s
