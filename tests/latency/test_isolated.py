"""Runtimes in isolated workers, with real ONNX Runtime: their rounds and errors, and which must be isolated."""

import os
import pickle
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from attn_export.exporter import errors
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.errors import (
    AttnExportError,
    RuntimeUnavailableError,
    UnreadableEngineError,
    UsageError,
)
from attn_export.exporter.latency import cpu_state
from attn_export.exporter.latency.isolated import Isolated, requires_isolation
from attn_export.exporter.latency.measure import measure
from attn_export.exporter.latency.rounds import InProcess
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.runtimes.eager import Eager
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.runtimes.onnxruntime_cuda import OnnxRuntimeCuda
from attn_export.exporter.runtimes.tensorrt import TensorRT
from attn_export.exporter.system.affinity import pinned
from tests.latency.samples import ONE, SIGNATURE, images, is_there
from tests.runtimes.standin import write_engine

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


# Turns.


def test_it_is_the_same_runtime_and_leaves_nothing_behind(runtime: OnnxRuntime, model: Path) -> None:
    with OnnxRuntime(model, SIGNATURE, ONE) as other, Isolated(runtime) as there:
        here = InProcess(other)
        for name in ("name", "artifact", "provenance", "device", "precision", "clock"):
            assert getattr(there, name) == getattr(here, name), name
        assert (there.process, here.process) == ("own", "shared")
        assert there.open_seconds > 0
        there.load(images())
        turn = there.turn(4)
        assert len(turn.seconds) == 4
        assert all(0 < second < 60 for second in turn.seconds)
        assert turn.device_seconds is None
        assert len(there.turn(1, warmed=False).seconds) == 1
        pid = there.pid
        assert pid != os.getpid()
        assert is_there(pid)
    assert not is_there(pid)
    there.end()  # a second time does nothing


def test_batches_follow_each_other_and_one_is_let_go_of_in_between(runtime: OnnxRuntime) -> None:
    with Isolated(runtime) as there:
        for batch, size in ((1, 8), (5, 16), (2, 9)):
            there.load(images(batch, size))
            assert len(there.turn(2).seconds) == 2
            there.close()


def test_images_may_be_larger_than_a_pipe_and_in_any_layout(runtime: OnnxRuntime) -> None:
    with Isolated(runtime) as there:
        there.load({"input": images(4, 512)["input"].transpose(0, 1, 3, 2)})
        assert len(there.turn(1).seconds) == 1


def test_two_of_them_take_turns_with_one_of_this_process(model: Path) -> None:
    made = [OnnxRuntime(model, SIGNATURE, ONE) for _ in range(3)]
    asked: list[str] = []
    with ExitStack() as stack:
        here = stack.enter_context(made[0])
        there = [stack.enter_context(Isolated(runtime)) for runtime in made[1:]]
        assert there[0].pid != there[1].pid
        for title, one in zip("ab", there, strict=True):
            watch(one, title, asked)
        schedule = Schedule(seconds=0, fewest_rounds=8, most_rounds=8, inferences=2, warm_up_seconds=0.01)
        found = measure([here, *there], images(), schedule)
        pids = [one.pid for one in there]
    assert [timing.process for timing in found.timings] == ["shared", "own", "own"]
    assert {timing.artifact for timing in found.timings} == {"mean.onnx"}
    # In each round both had a turn, in an order that was drawn.
    rounds = ["".join(asked[-16:][i : i + 2]) for i in range(0, 16, 2)]
    assert set(rounds) == {"ab", "ba"}
    assert not any(map(is_there, pids))


def watch(timed: Isolated, title: str, asked: list[str]) -> None:
    """Let a list have the order of turns."""
    turn = timed.turn

    def noted(*args: Any, **options: Any) -> Any:
        asked.append(title)
        return turn(*args, **options)

    timed.turn = noted  # type: ignore[method-assign]


@ON_LINUX
def test_between_turns_it_uses_no_cpu(runtime: OnnxRuntime) -> None:
    with Isolated(runtime) as there:
        there.load(images())
        there.turn(3)
        assert there.pid is not None
        before = cpu_state.process_times()[there.pid]
        time.sleep(0.6)
        assert cpu_state.process_times()[there.pid] - before < 0.04


@ON_LINUX
def test_it_may_use_the_same_cpus_and_its_time_is_ours(runtime: OnnxRuntime) -> None:
    cpu = max(os.sched_getaffinity(0))
    with pinned([cpu]), Isolated(runtime) as there:
        assert there.pid is not None
        threads = [int(place.name) for place in Path(f"/proc/{there.pid}/task").iterdir()]
        assert [os.sched_getaffinity(thread) for thread in threads] == [{cpu}] * len(threads)
        assert there.pid in cpu_state.process_times()


def test_what_lies_in_the_user_s_folder_is_not_run(
    runtime: OnnxRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "onnxruntime", "json", "pickle", "socket", "multiprocessing", "attn_export"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    with Isolated(runtime) as there:
        assert there.provenance.startswith("onnxruntime 1.")


def test_a_relative_path_is_this_process_s(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    with Isolated(OnnxRuntime(Path(model.name), SIGNATURE, ONE)) as there:
        assert there.artifact == model.name


# Errors.


@pytest.mark.parametrize(
    ("name", "kind"), [("absent.onnx", RuntimeUnavailableError), ("absent.engine", UnreadableEngineError)]
)
def test_what_can_t_be_opened_is_reported_as_it_would_be_here(
    name: str, kind: type[AttnExportError], tmp_path: Path
) -> None:
    made = TensorRT if name.endswith("engine") else OnnxRuntime
    told = []
    for where in (lambda runtime: runtime, Isolated):
        with pytest.raises(kind) as caught:
            where(made(tmp_path / name, SIGNATURE, ONE)).open()
        told.append((caught.value.message, caught.value.hint))
    assert told[0] == told[1]


def test_a_batch_that_does_not_fit_is_an_error_and_the_next_one_runs(runtime: OnnxRuntime) -> None:
    with Isolated(runtime) as there:
        there.load({"input": np.zeros((2, 5, 8, 8), np.float32)})
        with pytest.raises(RuntimeUnavailableError, match=r"onnxruntime failed: .*INVALID_ARGUMENT") as caught:
            there.turn(1)
        assert "Traceback" in str(caught.value.__cause__)
        there.load(images())
        assert len(there.turn(1).seconds) == 1


def test_what_only_this_process_has_stays_here(model: Path) -> None:
    net = from_module(nn.Conv2d(3, 4, 3).eval(), (3, 8, 8))
    tapped = OnnxRuntime(model, SIGNATURE, ONE, extra_outputs=["input"])
    for runtime in (Eager(net, SIGNATURE, ONE), tapped):
        with pytest.raises(UsageError, match=f"{runtime.name} can't be timed in an isolated worker"):
            Isolated(runtime)


def test_one_that_was_ended_says_so(runtime: OnnxRuntime) -> None:
    there = Isolated(runtime)
    with there:
        pass
    with pytest.raises(RuntimeUnavailableError, match="has no isolated worker any more"):
        there.turn(1)
    there.close()


def test_without_a_python_to_start_it_is_not_available(runtime: OnnxRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(RuntimeUnavailableError, match="can't be isolated: No such file"):
        Isolated(runtime).open()


# Which have to be apart.


@pytest.fixture
def nothing_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def engines(folder: Path, *names: str) -> list[Runtime]:
    return [TensorRT(write_engine(folder / f"{i}.engine", name), SIGNATURE, ONE) for i, name in enumerate(names)]


@pytest.mark.usefixtures("nothing_imported")
def test_engines_of_both_tensorrts_are_apart_and_nothing_else_is(tmp_path: Path, runtime: OnnxRuntime) -> None:
    both = engines(tmp_path, "tensorrt", "tensorrt-rtx", "tensorrt")
    assert requires_isolation([runtime, *both]) == tuple(both)
    assert requires_isolation([runtime, both[0], both[2]]) == ()
    assert requires_isolation([both[1]]) == ()
    assert requires_isolation([runtime]) == requires_isolation([]) == ()


@pytest.mark.usefixtures("nothing_imported")
def test_a_library_that_was_built_with_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classic, rtx = engines(tmp_path, "tensorrt", "tensorrt-rtx")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", sys)
    assert requires_isolation([classic]) == (classic,)
    assert requires_isolation([rtx]) == ()


# Copies.


def test_a_pickled_copy_is_the_same_runtime(tmp_path: Path) -> None:
    (engine,) = engines(tmp_path, "tensorrt")
    half = OnnxRuntime(tmp_path / "m.onnx", SIGNATURE, ONE)
    half.precision = "float16"
    trusted = TensorRT(tmp_path / "0.engine", SIGNATURE, ONE, trust=True)
    cuda = OnnxRuntimeCuda(tmp_path / "m.onnx", SIGNATURE, Settings(threads=3, device="cuda"))
    for runtime in (engine, trusted, cuda, half):
        assert runtime.can_be_isolated
        copy = pickle.loads(pickle.dumps(runtime))
        assert type(copy) is type(runtime)
        for name in ("name", "path", "signature", "settings", "precision", "artifact"):
            assert getattr(copy, name) == getattr(runtime, name), name
        assert getattr(copy, "trust", None) == getattr(runtime, "trust", None)


FIELDS = {
    "exit_code": 1,
    "names": ("os.system",),
    "nearest": "se_resnet18",
    "missing": ("a",),
    "unexpected": (),
    "misshapen": ("b",),
    "tensors": ("c",),
    "module_path": "layer1",
}
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AttnExportError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_of_ours_arrives_as_it_was(kind: type[AttnExportError]) -> None:
    code = kind.__init__.__code__
    keywords = code.co_varnames[2 : 2 + code.co_kwonlyargcount]
    error = kind("it went wrong", hint="Do this.", **{name: FIELDS[name] for name in keywords if name != "hint"})
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert str(copy) == "it went wrong"


MAIN = """
from pathlib import Path
import numpy as np
print("imported", flush=True)
from attn_export.exporter.artifacts import Signature, Input
from attn_export.exporter.latency.isolated import Isolated
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime

runtime = OnnxRuntime(Path({path!r}), Signature((Input("input", (2, 3, 8, 8)),), ("output",)), Settings(threads=1))
with Isolated(runtime) as isolated:
    isolated.load(dict(input=np.zeros((2, 3, 8, 8), np.float32)))
    print(len(isolated.turn(2).seconds))
"""


@pytest.mark.parametrize("way", [["script.py"], ["-m", "script"], ["-c", "import script"]], ids=lambda way: way[0])
def test_a_script_without_a_main_guard_runs_once(way: list[str], model: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(MAIN.format(path=str(model)))
    done = subprocess.run(
        [sys.executable, *way], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
    )
    assert (done.returncode, done.stdout) == (0, "imported\n2\n"), done.stderr
