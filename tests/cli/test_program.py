"""The program's two processes: crashes of native code, kills and signals each end with one message and a known code."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from attn_export.exporter.system.supervision import private_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork: the work is done in one process")

PROGRAM = [sys.executable, "-m", "attn_export"]
# The program with a STAND-IN for the work, and signals held back until its own first line.
STAND_IN = """
import itertools, os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
import attn_export.__main__ as program
WORK
print("started", flush=True)
program.main()
"""
SLEEP = """
import attn_export.cli
def run(arguments, interrupted):
    print("working", flush=True)
    try:
        while True:
            time.sleep(60)
    except KeyboardInterrupt:
        raise
attn_export.cli.run = run
"""
STUCK = """
import attn_export.cli
from attn_export.exporter.system.bounds import bounded_time
def run(arguments, interrupted):
    print("working", flush=True)
    with bounded_time(SECONDS):
        sum(itertools.repeat(0))  # looks at no signal
attn_export.cli.run = run
"""

IMPORT = """
import attn_export.cli
def run(arguments, interrupted):
    import onnxruntime
    return 0
attn_export.cli.run = run
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of the programs that a test starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def overflowing(path: Path) -> Path:
    """A graph that divides the smallest integer by -1, which ends ONNX Runtime with SIGFPE on x86."""
    lowest, minus_one = (onnx.numpy_helper.from_array(np.array([v]), n) for v, n in ((-(2**63), "a"), (-1, "b")))
    nodes = [
        helper.make_node("Div", ["a", "b"], ["q"]),
        helper.make_node("Cast", ["q"], ["c"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [lowest, minus_one])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def program(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*PROGRAM, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def start(work: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start the program with a stand-in and wait until the work has begun."""
    command = [sys.executable, "-c", STAND_IN.replace("WORK", work), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def working(work: str, *arguments: str) -> "subprocess.Popen[str]":
    process = start(work, *arguments)
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def messages(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other processors divide without a signal")
def test_a_crash_of_native_code_is_an_error_with_a_message(tmp_path: Path, temporary: Path) -> None:
    source = overflowing(tmp_path / "model.onnx")
    done = program("clean", source.name, "-o", "clean.onnx", "--quiet", "--json", "--debug", cwd=tmp_path)
    assert done.returncode in (0, 3)  # 0 where the processor has no such signal
    if done.returncode == 3:
        assert "ONNX Runtime crashed (SIGFPE)" in done.stderr
        assert "onnxruntime" in done.stderr.partition("\nerror:")[0], "--debug shows where"
        assert len(messages(done.stderr)) == 1
        assert json.loads(done.stdout)["error"]["exit_code"] == 3
        assert sorted(p.name for p in tmp_path.iterdir()) == [source.name, temporary.name]
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("sent", "code", "says"),
    [("SIGSEGV", 3, "SIGSEGV"), ("SIGKILL", 6, "memory"), ("SIGBUS", 3, "changed"), ("SIGXCPU", 6, "time")],
)
def test_a_death_of_the_work_is_said(sent: str, code: int, says: str, temporary: Path) -> None:
    process = working(SLEEP)
    os.kill(children_of(process.pid)[0], getattr(signal, sent))
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == code
    assert says in messages(stderr)[0]
    assert len(messages(stderr)) == 1
    assert not list(temporary.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the limit")
@pytest.mark.parametrize(("limit", "code"), [(1, 6), (8, 3)])
def test_an_abort_where_memory_is_limited_is_for_lack_of_it(limit: int, code: int, temporary: Path) -> None:
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit} << 30, -1))"
    process = working(f"{SLEEP}\n{limited}")
    os.kill(children_of(process.pid)[0], signal.SIGABRT)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == code
    assert ("not enough memory" in messages(stderr)[0]) == (code == 6)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the limit")
def test_native_code_that_takes_too_long_is_ended(temporary: Path) -> None:
    process = working(STUCK.replace("SECONDS", "0"))
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 6
    assert "processor time" in messages(stderr)[0]
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("words", "streams", "code"),
    [
        pytest.param("models", ">&-", 0, marks=pytest.mark.full),
        pytest.param("inspect no.onnx", "2>&-", 3, marks=pytest.mark.full),
        ("inspect no.onnx", ">&- 2>&- <&-", 3),
    ],
)
def test_streams_may_be_closed(words: str, streams: str, code: int, tmp_path: Path, temporary: Path) -> None:
    command = f'exec "{sys.executable}" -m attn_export {words} {streams}'
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_full_standard_error_leaves_the_exit_code(tmp_path: Path, temporary: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PROGRAM, "inspect", "no.onnx"], cwd=tmp_path, stderr=full, check=False)
    assert done.returncode == 3


def test_an_empty_folder_of_others_stays(temporary: Path) -> None:
    (temporary / "attn-export-tests-1").mkdir()
    (temporary / ".attn-export-1").mkdir()
    with private_folder():
        pass
    assert [path.name for path in temporary.iterdir()] == ["attn-export-tests-1"]


def test_nothing_is_reported_to_the_makers_of_libraries(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime keeps a number for a user of whom it reports, in the home."""
    for name in ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert start(IMPORT).wait(timeout=600) == 0
    assert not list(tmp_path.rglob("*onnxruntime*"))


def test_a_current_folder_that_was_deleted_is_an_error(tmp_path: Path, temporary: Path) -> None:
    """Libraries look for it as they are imported, and end the process."""
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f'rmdir "{gone}"; exec "{sys.executable}" -m attn_export models'
    done = subprocess.run(["sh", "-c", command], cwd=gone, capture_output=True, text=True, check=False)
    assert (done.returncode, messages(done.stderr)) == (6, ["error: the current folder was deleted"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep other limits")
@pytest.mark.parametrize(
    ("limit", "things"), [("-n 12", "12 open files"), ("-u 4", "4 processes"), ("-f 0", "0 bytes")]
)
def test_a_limit_too_low_for_libraries_is_an_error(limit: str, things: str, tmp_path: Path, temporary: Path) -> None:
    command = f'ulimit {limit}; exec "{sys.executable}" -m attn_export models'
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    assert things in messages(done.stderr)[0]
    assert not list(temporary.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
@pytest.mark.parametrize("place", ["argument", "folder"])
def test_names_that_are_not_utf8_are_refused(place: str, tmp_path: Path, temporary: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / name).mkdir()
    words, cwd = ([name], tmp_path) if place == "argument" else (["models"], tmp_path / name)
    done = subprocess.run([*PROGRAM, *words, "--json"], cwd=cwd, capture_output=True, check=False)
    assert done.returncode == 3
    assert "caf\\udce9 isn't a name in UTF-8" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.parametrize(
    "sent", [signal.SIGINT, *(pytest.param(s, marks=pytest.mark.full) for s in (signal.SIGTERM, signal.SIGHUP))]
)
def test_every_signal_is_an_interruption(sent: signal.Signals, temporary: Path) -> None:
    process = working(SLEEP)
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=600)
    assert (process.returncode, messages(stderr)) == (130, ["error: interrupted; nothing was left half-written"])
    assert not list(temporary.iterdir())


def test_a_signal_before_anything_is_imported_is_an_interruption(temporary: Path) -> None:
    process = start("os.kill(os.getpid(), signal.SIGTERM)", "models")
    stdout, stderr = process.communicate(timeout=600)
    assert (process.returncode, messages(stderr)) == (130, ["error: interrupted; nothing was left half-written"])
    assert stdout == ""


def test_work_that_looks_at_no_signal_is_killed_by_the_second(temporary: Path) -> None:
    process = working(STUCK.replace("SECONDS", "1000"))
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=600)
    assert (process.returncode, messages(stderr)) == (130, ["error: interrupted; nothing was left half-written"])
    assert not list(temporary.iterdir())


def test_an_interrupted_import_is_no_missing_library(temporary: Path) -> None:
    work = """
import attn_export.cli
def app(**_):
    print("working", flush=True)
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        raise ImportError("numpy failed to import") from None
attn_export.cli.app = app
"""
    process = working(work)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=600)
    assert (process.returncode, messages(stderr)) == (130, ["error: interrupted; nothing was left half-written"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process of its parent's death")
def test_the_work_ends_with_its_parent(temporary: Path) -> None:
    process = working(SLEEP)
    (child,) = children_of(process.pid)
    process.kill()
    process.communicate(timeout=600)
    while Path(f"/proc/{child}/stat").exists() and ") Z " not in Path(f"/proc/{child}/stat").read_text():
        time.sleep(0.01)
    program("--version", cwd=temporary)  # clears what the killed one left
    assert not list(temporary.iterdir())


def test_signals_that_were_ignored_stay_ignored(temporary: Path) -> None:
    process = working("signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + SLEEP)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=600)
    assert (process.returncode, len(messages(stderr))) == (130, 1)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 50))])
def test_at_any_moment_a_signal_ends_it_in_one_way(seed: int, temporary: Path) -> None:
    moment = random.Random(seed)
    process = start("", "models")
    time.sleep(moment.uniform(0, 0.6))
    process.send_signal(moment.choice([signal.SIGINT, signal.SIGTERM]))
    _, stderr = process.communicate(timeout=600)
    assert (process.returncode, len(messages(stderr))) in ((0, 0), (130, 1))
    assert "Traceback" not in stderr
    assert not list(temporary.iterdir())
