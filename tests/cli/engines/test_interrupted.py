"""What stays when an export with engines fails."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from attn_export.exporter.bundle.read import read_bundle
from attn_export.exporter.commands import export as export_command
from attn_export.exporter.system.files import sha256_of
from attn_export.exporter.system.progress import Advance
from tests.cli.engines.conftest import (
    SM86,
    Command,
    Contents,
    engine_of,
)

TWO_WITH_BUNDLE = ("--engine", "--gpu", "sm86,sm87", "--precision", "fp32,fp16", "--no-bench")
STAGES = (
    "Reading the checkpoint",
    "Computing the reference in float64",
    "Capturing with PyTorch's exporter",
    "Comparing ONNX Runtime with the reference",
    "Changing the graph to fp16",
    "Comparing ONNX Runtime with the reference in fp16",
    "Reading the graphs",
    *(
        "Building the engine for sm86",
        "Counting the kernels without attention",
        "Packing the deployment bundle for sm87",
    )
    * 2,
)


class Listener:
    """Hears which stages there are, and interrupts when one of them begins, goes on or ends.

    TensorRT tells of its steps in a thread of its own, where Ctrl-C is never raised: there it is a signal.
    """

    def __init__(self, stop_at: int = -1, moment: str = "") -> None:
        self.stop_at, self.moment = stop_at, moment
        self.titles: list[str] = []

    @contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        index = len(self.titles)
        self.titles.append(title)

        def reached(moment: str) -> bool:
            return (index, moment) == (self.stop_at, self.moment)

        def advance(_: float) -> None:
            if reached("goes on"):
                self.moment = "was reached"
                os.kill(os.getpid(), signal.SIGINT)

        if reached("begins"):
            raise KeyboardInterrupt
        yield advance
        if reached("ends"):
            raise KeyboardInterrupt

    def note(self, message: str) -> None:
        pass


def heard_by(make_progress: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def hear(_: bool) -> Iterator[Listener]:
        yield make_progress

    monkeypatch.setattr(export_command, "make_progress", hear)


OLDER = ("model.onnx", "model.fp16.onnx", "model.engine", "model.engine.json", "model.sm87.bundle.zip", "notes.txt")


@pytest.fixture
def older(folder: Path) -> dict[str, bytes]:
    """What an earlier export left."""
    for name in OLDER:
        (folder / name).write_bytes(f"older {name}".encode())
    return {name: (folder / name).read_bytes() for name in OLDER}


def test_these_are_the_stages_and_older_results_are_replaced(
    quick: None, attn_export: Command, folder: Path, older: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_progress = Listener()
    heard_by(make_progress, monkeypatch)
    done = attn_export("model.pt", *TWO_WITH_BUNDLE)
    assert done.returncode == 0, done.stderr
    assert tuple(make_progress.titles) == STAGES, "a new stage belongs into STAGES, so that interrupting it is tested"
    assert (folder / "notes.txt").read_bytes() == older.pop("notes.txt")
    assert all((folder / name).read_bytes() != content for name, content in older.items())
    assert engine_of(folder)["sha256"] == sha256_of(folder / "model.engine")


@pytest.mark.parametrize(
    ("index", "moment"),
    [(index, "begins") for index in (4, 5, 6, 7, 8, 9, 12)]
    + [(len(STAGES) - 1, "ends"), (5, "goes on"), (7, "goes on"), (8, "goes on")],
    ids=lambda value: STAGES[value].replace(" ", "_") if isinstance(value, int) else value,
)
def test_an_interruption_leaves_what_was_there(
    quick: None,
    attn_export: Command,
    contents: Contents,
    older: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    index: int,
    moment: str,
) -> None:
    before = contents()
    heard_by(Listener(index, moment), monkeypatch)
    done = attn_export("model.pt", *TWO_WITH_BUNDLE)
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert contents() == before


@pytest.mark.parametrize("taken", ["model.onnx", "model.engine.json", "model.sm87.bundle.zip", "model.report.json"])
def test_a_folder_in_a_results_place_leaves_what_was_there(
    quick: None, refused: Command, folder: Path, older: dict[str, bytes], taken: str
) -> None:
    (folder / taken).unlink(missing_ok=True)
    (folder / taken).mkdir()
    refused(
        6,
        "model.pt",
        "--engine",
        "--gpu",
        "sm86,sm87",
        "--no-bench",
        says=[f"{taken} can't be written"],
        hint="another folder",
    )


def test_an_output_folder_that_is_a_file_is_refused(idle: None, refused: Command, folder: Path) -> None:
    (folder / "out").write_bytes(b"a file")
    refused(6, "model.pt", *SM86, "--out", "out", says=["out can't be written"], hint="another folder")


@pytest.mark.parametrize("name", ["my.model.v2.pt", "trained on monday.pt", "Grüße-模型.pt", "-.pt", "model"])
def test_stems_may_be_anything(quick: None, attn_export: Command, folder: Path, name: str) -> None:
    (folder / "model.pt").rename(folder / name)
    place = folder / "out put"
    done = attn_export(f"./{name}", "--engine", "--gpu", "sm86,sm87", "--no-bench", "--out", str(place))
    assert done.returncode == 0, done.stderr
    stem = name.removesuffix(".pt")
    made = {f"{stem}{ending}" for ending in (".onnx", ".engine", ".engine.json", ".report.json", ".sm87.bundle.zip")}
    assert {path.name for path in place.iterdir()} == made
    assert read_bundle(place / f"{stem}.sm87.bundle.zip").manifest.architecture == "sm87"
    assert attn_export("inspect", str(place / f"{stem}.engine")).returncode == 0
