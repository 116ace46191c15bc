"""A file is there whole or not at all, and what was there before stays until it is replaced."""

import errno
import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attn_export.exporter.errors import OutputError
from attn_export.exporter.system.files import publish, sha256_of, unwritable
from attn_export.exporter.system.scratch import scratch_folder, written_atomically

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def content(folder: Path) -> dict[str, bytes]:
    """Everything below a folder; a hidden scratch folder would show as well."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"folder" for p in folder.rglob("*")}


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that its owner made read-only."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    yield folder
    folder.chmod(stat.S_IRWXU)


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    with written_atomically(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"new")
        assert not (tmp_path / "a.bin").exists()
        assert temporary.parent.parent == tmp_path, "a rename is atomic within one file system only"
    assert content(tmp_path) == {"a.bin": b"new"}


def test_missing_folders_are_made(tmp_path: Path) -> None:
    with written_atomically(tmp_path / "b" / "c" / "a.bin") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "b" / "c" / "a.bin").read_bytes() == b"new"


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"older")
    with written_atomically(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"new")
        assert (tmp_path / "a.bin").read_bytes() == b"older"
    assert content(tmp_path) == {"a.bin": b"new"}


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), MemoryError()], ids=repr)
def test_an_error_inside_leaves_everything_as_it_was(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a.bin").write_bytes(b"older")

    def fail_halfway() -> None:
        with written_atomically(tmp_path / "a.bin") as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        fail_halfway()
    assert caught.value is error
    assert content(tmp_path) == {"a.bin": b"older"}


def test_a_full_disk_inside_is_an_output_error_and_leaves_everything(tmp_path: Path, small_files_only: None) -> None:
    (tmp_path / "a.bin").write_bytes(b"older")
    with (
        pytest.raises(OutputError, match="can't be written: File too large"),
        written_atomically(tmp_path / "a.bin") as temporary,
    ):
        temporary.write_bytes(b"x" * 8192)
    assert content(tmp_path) == {"a.bin": b"older"}


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"), written_atomically(tmp_path / "a.bin"):
        pass
    assert content(tmp_path) == {}


@pytest.mark.parametrize("place", ["file/a.bin", "file/deeper/a.bin"])
def test_a_file_where_a_folder_is_expected_is_an_output_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"older")
    with pytest.raises(OutputError, match="can't be written") as caught, written_atomically(tmp_path / place):
        pytest.fail("there is nowhere to write")
    assert "another folder" in caught.value.hint
    assert content(tmp_path) == {"file": b"older"}


def test_a_folder_where_a_file_is_expected_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(OutputError, match="Is a directory"), written_atomically(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"new")
    assert content(tmp_path) == {"a.bin": b"folder"}


@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_a_read_only_folder_is_an_output_error(locked: Path) -> None:
    with pytest.raises(OutputError, match="Permission denied"), written_atomically(locked / "a.bin"):
        pytest.fail("there is nowhere to write")
    assert content(locked) == {}


@pytest.mark.skipif(not AS_ROOT, reason="only root can become somebody else")
def test_somebody_elses_folder_is_an_output_error(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from attn_export.exporter.errors import OutputError\n"
        "from attn_export.exporter.system.scratch import written_atomically\n"
        "os.chdir(sys.argv[1])\n"
        "os.seteuid(65534)\n"
        "try:\n"
        "    with written_atomically(pathlib.Path('a.bin')): sys.exit('it could be written')\n"
        "except OutputError as error: print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Permission denied" in done.stdout
    assert content(tmp_path) == {}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no folders")
def test_a_file_system_that_takes_no_folders_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="can't be written"), scratch_folder(Path("/proc/attn-export")):
        pytest.fail("there is nowhere to write")


def test_a_scratch_folder_is_hidden_and_removed_with_all_that_is_in_it(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith(".")
        (folder / "deeper").mkdir()
        (folder / "deeper" / "a.bin").write_bytes(b"scratch")
    assert content(tmp_path) == {}


def test_two_scratch_folders_are_two(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        assert first != second


def test_a_scratch_folder_that_is_already_gone_is_no_error(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        shutil.rmtree(folder)


def test_publishing_moves_the_file(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"new")
    publish(tmp_path / "made", tmp_path / "a.bin")
    assert content(tmp_path) == {"a.bin": b"new"}


def test_publishing_what_is_not_there_leaves_the_older_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"older")
    with pytest.raises(OutputError, match=r"a\.bin can't be written: No such file"):
        publish(tmp_path / "made", tmp_path / "a.bin")
    assert content(tmp_path) == {"a.bin": b"older"}


def test_the_sentence_names_the_file_and_the_systems_reason() -> None:
    error = unwritable(Path("out/a.onnx"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert error.message == "out/a.onnx can't be written: No space left on device"
    assert error.exit_code == 6


def test_an_error_without_a_system_reason_is_reported_in_its_own_words() -> None:
    assert unwritable(Path("a.onnx"), OSError("strange")).message == "a.onnx can't be written: strange"


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"attention" * 100_000)
    assert sha256_of(tmp_path / "a.bin") == hashlib.sha256(b"attention" * 100_000).hexdigest()


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """As root a rename would put a file in the place of /dev/null."""
    pipe, new = tmp_path / "pipe", tmp_path / "new"
    os.mkfifo(pipe)
    new.write_text("new")
    with pytest.raises(OutputError, match="is no file"):
        publish(new, pipe)
    assert pipe.is_fifo()
    assert new.exists()


def test_a_hidden_folder_is_not_spoken_of() -> None:
    error = unwritable(Path("out/.attn-export-x1/a.engine"), OSError(28, "No space left on device"))
    assert error.message == "out/a.engine can't be written: No space left on device"
