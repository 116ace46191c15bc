"""A few cases of each kind from the campaign, see campaign.py; and that it sees what it is there for."""

import pickle
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.attack.campaign import all_cases, good_files, run_case, sampled
from tests.attack.case import MARK, Case
from tests.attack.checkpoints import TOUCH, called
from tests.attack.documents import Good

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
