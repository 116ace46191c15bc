"""The output folder: whole outcomes or none, whatever happens."""

import errno
import os
from pathlib import Path

import pytest

from attn_export.exporter.errors import UsageError
from attn_export.exporter.records.report import ErrorRecord
from attn_export.exporter.records.sweep import Figures, Outcome
from attn_export.exporter.sweep.store import RECORD, Store, check_folder, opened

KEY = "ab" * 32
OUTCOME = Outcome(key=KEY, name="a fp32", figures=Figures(bytes=3), files=("model.onnx",))


def made(store: Store) -> Path:
    folder = store.work / "made"
    folder.mkdir()
    (folder / "model.onnx").write_text("abc")
    return folder


def test_an_outcome_comes_back_with_its_files(tmp_path: Path) -> None:
    with opened(tmp_path / "out", ["cell"]) as store:
        assert store.get(KEY) is None
        assert store.publish(OUTCOME, made(store)) == OUTCOME
    again = Store(tmp_path / "out")
    assert again.get(KEY) == OUTCOME
    assert (again.folder(KEY) / "model.onnx").read_text() == "abc"


@pytest.mark.parametrize("damage", ["record", "file", "version", "name"])
def test_a_damaged_outcome_is_computed_again(damage: str, tmp_path: Path) -> None:
    with opened(tmp_path / "out", ["cell"]) as store:
        store.publish(OUTCOME, made(store))
        record = store.folder(KEY) / RECORD
        if damage == "file":
            (store.folder(KEY) / "model.onnx").unlink()
        elif damage == "name":  # the page links to the files that a record names
            record.write_text(record.read_text().replace('"model.onnx"', '"../../sweep.json"'))
        else:
            text = record.read_text()
            record.write_text(
                text[:-20] if damage == "record" else text.replace('"schema_version": 3', '"schema_version": 1')
            )
        assert store.get(KEY) is None
        store.publish(OUTCOME, made(store))
        assert store.get(KEY) == OUTCOME


@pytest.mark.parametrize(("code", "kept"), [(1, True), (3, True), (5, False), (6, False), (70, False)])
def test_only_failures_of_the_job_itself_are_kept(code: int, kept: bool, tmp_path: Path) -> None:
    failed = Outcome(key=KEY, name="a", figures=Figures(), error=ErrorRecord("m", "h", code))
    with opened(tmp_path / "out", ["cell"]) as store:
        folder = made(store)
        assert store.publish(failed, folder) == failed
        assert (store.get(KEY) == failed) == kept
        assert not folder.exists()


def test_a_full_disk_costs_one_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "out", ["cell"]) as store:
        with monkeypatch.context() as patch:

            def full(_: int) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patch.setattr(os, "fsync", full)
            lost = store.publish(OUTCOME, made(store))
        assert lost.error is not None
        assert lost.error.exit_code == 6
        assert "No space left" in lost.error.message
        assert store.get(KEY) is None
        assert [path.name for path in store.work.iterdir()] == ["lock"]
        store.publish(OUTCOME, made(store))
        assert store.get(KEY) == OUTCOME


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "out" / ".attn-export-left"
    left.mkdir(parents=True)
    (left / "lock").touch()
    with opened(tmp_path / "out", ["cell"]):
        assert not left.exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "cells", "sweep.json"]


def test_a_folder_of_another_plan_is_refused_and_one_of_a_changed_plan_is_not(tmp_path: Path) -> None:
    with opened(tmp_path / "out", ["a", "b"]):
        pass
    check_folder(tmp_path / "out", ["b", "c"])
    with pytest.raises(UsageError, match="the results of another plan: none of its 2 cells"):
        check_folder(tmp_path / "out", ["c", "d"])


def test_a_folder_with_something_else_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="something else"), opened(tmp_path, ["a"]):
        pass
    with pytest.raises(UsageError, match="is no folder"), opened(tmp_path / "thesis.tex", ["a"]):
        pass


def test_two_sweeps_do_not_work_in_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with opened(out, ["a"]), pytest.raises(UsageError, match="another sweep is at work"), opened(out, ["a"]):
        pass
