"""A few cases of each kind from the campaign and from fuzzing; and that both see what they are there for."""

import os
import pickle
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.attack.campaign import all_cases, good_files, run_case, sampled
from tests.attack.case import MARK, Case
from tests.attack.checkpoints import TOUCH, called
from tests.attack.documents import Good
from tests.attack.fuzz import Reader, fuzz, problem_of, readers

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and forks of Linux")
KINDS = ("graph", "record", "report", "bundle", "checkpoint", "images")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Good:
    pytest.importorskip("tensorrt_rtx")
    return good_files(tmp_path_factory.mktemp("good"))


def test_hostile_files_of_each_kind_are_met(good: Good, tmp_path: Path) -> None:
    cases = [case for case in all_cases(good) if case.kind != "graph" or "[inspect]" in case.name]
    outcomes = [run_case(case, good, tmp_path / "case") for case in sampled(cases, 2, seed=1)]
    assert {outcome.case.kind for outcome in outcomes} == set(KINDS)
    assert not [outcome for outcome in outcomes if outcome.problems]


@pytest.mark.full
def test_tensorrt_gets_little_memory_for_a_small_file(good: Good, tmp_path: Path) -> None:
    """It computes sizes as a tree, one path of the graph after the other."""
    case = next(case for case in all_cases(good) if case.name == "2^60 paths [build]")
    outcome = run_case(case, good, tmp_path / "case")
    assert (outcome.code, outcome.problems) == (5, ())


def misbehaving(way: str, folder: Path) -> None:
    """Lets the program misbehave in a way that the campaign has to see."""
    (folder / "sitecustomize.py").touch()
    if way == "code ran":
        (folder / "tmp" / MARK).touch()
    elif way == "left":
        (folder / "tmp" / "rubbish").touch()


@pytest.mark.parametrize("way", ["code ran", "left"])
def test_the_campaign_sees_what_must_not_happen(way: str, good: Good, tmp_path: Path) -> None:
    case = Case("graph", way, ("inspect", "good.onnx", "--quiet"), partial(misbehaving, way))
    outcome = run_case(case, good, tmp_path / "case")
    assert outcome.code == 0
    assert any(problem.startswith(way) for problem in outcome.problems)


def test_the_campaign_sees_a_wrong_exit_code(good: Good, tmp_path: Path) -> None:
    case = Case("graph", "a good one", ("inspect", "good.onnx", "--quiet"), lambda _: None, refused=True)
    assert run_case(case, good, tmp_path / "case").problems == ("exit code 0 for what has to be refused",)
    case = Case("graph", "no command", ("inspect", "--nonsense"), lambda _: None)
    assert "exit code 2" in run_case(case, good, tmp_path / "case").problems


def test_a_hostile_checkpoint_would_run_code_without_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corpus isn't hostile if nothing happens where nobody looks."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(called("os", "system", (TOUCH,), "reduce"))
    assert (tmp_path / MARK).exists()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    pytest.importorskip("tensorrt_rtx")
    return readers(tmp_path_factory.mktemp("seeds"))


def test_every_reader_refuses_damaged_files_in_words(found: dict[str, Reader], tmp_path: Path) -> None:
    tallies = {name: fuzz(reader, 40, seed=7, folder=tmp_path) for name, reader in found.items()}
    assert {name: tally.problems for name, tally in tallies.items() if tally.problems} == {}
    assert all(tally.read < tally.inputs for tally in tallies.values())


def test_readers_take_what_is_not_damaged(found: dict[str, Reader], tmp_path: Path) -> None:
    for reader in found.values():
        for content in reader.seeds:
            (tmp_path / reader.name).write_bytes(content)
            assert problem_of(reader, tmp_path / reader.name) is None


def crashing(path: Path) -> None:
    if path.read_bytes()[:1] == b"\0":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError


def test_fuzzing_sees_crashes_and_exceptions_and_goes_on(tmp_path: Path) -> None:
    tally = fuzz(Reader("m.bin", crashing, (bytes(8),)), 12, seed=0, folder=tmp_path)
    assert tally.inputs == 12
    assert any("SIGKILL" in problem for problem in tally.problems)
    assert any("ValueError" in problem for problem in tally.problems)
