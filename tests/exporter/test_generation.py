"""Several files are published as one, whatever fails at whatever step; kills are real, of a forked process."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attn_export.exporter.errors import OutputError
from attn_export.exporter.system.generation import JOURNAL, publish_together
from attn_export.exporter.system.scratch import LOCK, clear_abandoned, scratch_folder

OLD = {"a.engine": b"old engine", "a.engine.json": b"old record", "a.onnx.data": b"old weights"}
NEW = {"a.engine": b"new engine", "a.engine.json": b"new record", "caf\udce9.onnx": b"new graph", "model": b"folder"}
STEPS = ((Path, "replace"), (Path, "unlink"), (os, "link"), (os, "fsync"))
LIFE = ((os, "mkdir"), (os, "open"), (os, "unlink"), (os, "rmdir"), (os, "rename"), (fcntl, "flock"))
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need a process of their own")


def content(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, hidden files too."""
    return {path.name: path.read_bytes() if path.is_file() else b"folder" for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    restore(tmp_path)
    return tmp_path


def restore(folder: Path) -> None:
    """Only the old files."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, data in OLD.items():
        (folder / name).write_bytes(data)


def publish(folder: Path) -> None:
    """Publish NEW, and remove the weights that only the old graph needed."""
    with scratch_folder(folder) as scratch:
        for name, data in NEW.items():
            if data == b"folder":
                (scratch / name).mkdir()
                (scratch / name / "1").write_bytes(b"a version")
            else:
                (scratch / name).write_bytes(data)
        publish_together([*((scratch / n, folder / n) for n in NEW), (None, folder / "a.onnx.data")], scratch)


@contextmanager
def at_step(
    number: int, happens: Callable[[], None], *, after: bool, steps: Sequence[tuple[Any, str]] = STEPS
) -> Iterator[list[str]]:
    """Let something happen before or after the step of this number; yields the steps that were taken."""
    taken: list[str] = []

    def disturbed(original: Callable[..., Any], name: str) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            taken.append(name)
            here = len(taken) == number
            if here and not after:
                happens()
            try:
                return original(*arguments, **options)
            finally:
                if here and after:
                    happens()

        return step

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in steps:
            patch.setattr(owner, name, disturbed(getattr(owner, name), name))
        yield taken


def count_of_steps(folder: Path) -> int:
    with at_step(0, lambda: None, after=False) as taken:
        publish(folder)
    assert taken.count("replace") == len(NEW) + 1
    restore(folder)
    return len(taken)


def test_all_files_appear_and_what_only_the_old_ones_needed_goes(folder: Path) -> None:
    publish(folder)
    assert content(folder) == NEW


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_an_error_at_any_step_leaves_the_old_files_or_the_new_ones(
    folder: Path, error: BaseException, after: bool
) -> None:
    def fail() -> None:
        raise error

    for number in range(1, count_of_steps(folder) + 1):
        with at_step(number, fail, after=after) as taken:
            try:
                publish(folder)
                assert content(folder) == NEW
            except (OutputError, KeyboardInterrupt):
                assert content(folder) in (OLD, NEW), (number, taken)
        restore(folder)


@forks
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_after_a_kill_at_any_step_the_next_command_restores_the_old_files(folder: Path, after: bool) -> None:
    for number in range(1, count_of_steps(folder) + 1):
        pid = os.fork()
        if pid == 0:
            with at_step(number, lambda: os._exit(9), after=after):
                publish(folder)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        clear_abandoned(folder)
        assert content(folder) in (OLD, NEW), number
        restore(folder)


@forks
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_after_a_kill_at_any_moment_of_its_life_a_folder_is_cleared(tmp_path: Path, after: bool) -> None:
    def live() -> None:
        with scratch_folder(tmp_path) as scratch:
            (scratch / "a").mkdir()
            for name in ("z.onnx", "a/b.onnx", "0.json"):
                (scratch / name).write_bytes(b"unfinished")

    with at_step(0, lambda: None, after=False, steps=LIFE) as taken:
        live()
    assert {"mkdir", "unlink", "rmdir", "flock"} <= set(taken)
    for number in range(1, len(taken) + 1):
        pid = os.fork()
        if pid == 0:
            with at_step(number, lambda: os._exit(9), after=after, steps=LIFE):
                live()
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        clear_abandoned(tmp_path)
        assert not list(tmp_path.iterdir()), (number, taken[number - 1])


@forks
def test_a_result_that_came_after_a_kill_stays(folder: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with at_step(5, lambda: None, after=False) as taken:
            original = Path.unlink
            Path.unlink = lambda *_, **__: os._exit(9)  # type: ignore[method-assign]
            publish(folder)
            del original, taken
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    (folder / "caf\udce9.onnx").unlink()
    (folder / "caf\udce9.onnx").write_bytes(b"made by the user")
    clear_abandoned(folder)
    assert content(folder) == {**OLD, "caf\udce9.onnx": b"made by the user"}


def test_the_folder_of_a_living_process_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as scratch, scratch_folder(tmp_path) as other:
        assert scratch.is_dir()
        assert other.is_dir()


def test_a_folder_without_a_lock_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / ".attn-export-notes").mkdir()
    (tmp_path / ".attn-export-notes" / "todo.txt").write_text("mine")
    (tmp_path / ".attn-export-file").write_text("mine")
    with scratch_folder(tmp_path):
        pass
    assert {path.name for path in tmp_path.rglob("*")} == {".attn-export-notes", "todo.txt", ".attn-export-file"}


HOSTILE = (
    b'[{"name": "a.engine", "old"',
    b'[{"name": "../elsewhere", "old": "old-0", "new": null}]',
    b'[{"name": "new", "old": "../../elsewhere", "new": null}]',
    b'[{"name": "/elsewhere", "old": "old-0", "new": null}]',
    b'[{"name": "new\\u0000", "old": "old-0", "new": null}]',
    b'[{"name": "a.engine", "old": null, "new": [1e400, 2, 3]}]',
    b"[" * 100_000,
    b"",
)


@pytest.mark.parametrize("journal", HOSTILE, ids=lambda journal: journal[:50].decode())
def test_a_journal_that_somebody_planted_touches_nothing(folder: Path, journal: bytes) -> None:
    left = folder / ".attn-export-left"
    left.mkdir()
    for name, data in ((LOCK, b""), ("old-0", b"planted"), (JOURNAL, journal)):
        (left / name).write_bytes(data)
    clear_abandoned(folder)
    assert {n: (folder / n).read_bytes() for n in OLD} == OLD
    assert {path.name for path in folder.iterdir()} - {left.name} == set(OLD)
    assert not (folder.parent / "elsewhere").exists()


@pytest.mark.parametrize("kind", ["folder", "device"])
def test_what_is_no_file_is_not_replaced_and_nothing_else_either(folder: Path, kind: str) -> None:
    if kind == "folder":
        (folder / "caf\udce9.onnx").mkdir()
    elif hasattr(os, "mkfifo"):
        os.mkfifo(folder / "caf\udce9.onnx")
    else:
        pytest.skip("no devices to make")
    with pytest.raises(OutputError, match="caf"):
        publish(folder)
    assert {n: (folder / n).read_bytes() for n in OLD} == OLD
    assert {path.name for path in folder.iterdir()} == {*OLD, "caf\udce9.onnx"}
