"""What is said of figures that nobody should rely on."""

from pathlib import Path

import pytest
from msgspec import structs

from attn_export.exporter.artifacts import Axis, Input, Signature, only_input
from attn_export.exporter.errors import UsageError
from attn_export.exporter.latency.interleaved import TimingSettings, time_interleaved
from attn_export.exporter.latency.measure import measure
from attn_export.exporter.records.latency import Conditions, Latency, Run, Schedule, WarmUp
from attn_export.exporter.records.timing_warnings import timing_warnings
from attn_export.exporter.report.findings.conditions import warning_sentences
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.system.progress import NullProgress
from attn_export.exporter.workflows.export import export
from attn_export.exporter.workflows.settings import ExportSettings
from attn_export.models.registry import create
from tests.latency.fakes import IMAGES, Scripted

GOOD = Run(4, 100, 3, 12.3, 0.013, reached=True)
ASKED = Schedule(interval=0.02)
SHAPE = (1, 3, 16, 16)
INPUTS = only_input(SHAPE[1:])


class Notes(NullProgress):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("file")
    return export(create("se_resnet8"), SHAPE, folder, settings=ExportSettings(runtimes=())).onnx


def session(file: Path) -> OnnxRuntime:
    return OnnxRuntime(file, Signature((Input("input", SHAPE, axes=(Axis("batch", 0),)),), ("output",)), Settings(1))


def test_where_all_is_well_nothing_is_said() -> None:
    timings = measure([Scripted("a"), Scripted("b")], IMAGES, Schedule(fewest_rounds=8, most_rounds=8)).timings
    assert timing_warnings(timings, GOOD, ASKED) == []
    assert (
        timing_warnings(timings, structs.replace(GOOD, conditions=Conditions(load=0.1, others=0.01, steal=0.0)), ASKED)
        == []
    )


def test_an_interval_that_was_not_reached_is_said_with_what_was_asked_for() -> None:
    (said,) = timing_warnings((), structs.replace(GOOD, interval=0.071, reached=False), ASKED)
    assert "batch 4" in said
    assert "±7.1%" in said
    assert "±2.0%" in said
    assert "12 s" in said


def test_an_interval_as_wide_as_the_ratio_itself_is_reported_without_digits_that_mean_nothing() -> None:
    (said,) = timing_warnings((), structs.replace(GOOD, interval=167.03, reached=False), ASKED)
    assert "not even known to ±100%" in said
    assert "16703" not in said


def test_of_a_runtime_alone_no_ratio_is_spoken_of() -> None:
    alone = measure([Scripted("a")], IMAGES, Schedule(fewest_rounds=8, most_rounds=8)).timings
    (said,) = timing_warnings(alone, structs.replace(GOOD, interval=0.071, reached=False), ASKED)
    assert "the median is known to ±7.1%" in said
    assert "ratio" not in said


def test_a_small_share_that_was_asked_for_is_no_zero() -> None:
    (said,) = timing_warnings((), structs.replace(GOOD, reached=False), Schedule(interval=0.0002))
    assert "±0.02% was asked for" in said


def test_less_than_a_second_is_no_zero() -> None:
    (said,) = timing_warnings((), structs.replace(GOOD, seconds=0.31, reached=False), ASKED)
    assert "after 0.3 s" in said


def test_a_runtime_that_was_not_warm_is_named() -> None:
    (timing,) = measure([Scripted("slowly")], IMAGES, Schedule(fewest_rounds=8, most_rounds=8)).timings
    (said,) = timing_warnings([structs.replace(timing, warm_up=WarmUp(7, 2.0, stable=False))], GOOD, ASKED)
    assert said.startswith("slowly")


def test_what_else_ran_is_said() -> None:
    (said,) = timing_warnings((), structs.replace(GOOD, conditions=Conditions(others=0.3)), ASKED)
    assert "30%" in said


def test_a_machine_that_is_too_noisy_for_the_time_is_reported(file: Path) -> None:
    make_progress = Notes()
    together = TimingSettings(Schedule(interval=1e-9, seconds=0.05, fewest_rounds=8), threads=1)
    latency = time_interleaved([("one", session(file)), ("other", session(file))], INPUTS, together, make_progress)
    assert not latency.runs[0].reached
    assert any("was asked for" in note for note in make_progress.notes)
    assert latency.timings[1].verdict in ("faster", "slower", "can't tell"), "what is known is still told"


def test_nothing_to_time_is_no_latency() -> None:
    latency = time_interleaved([], INPUTS, TimingSettings(ASKED, threads=3), NullProgress())
    assert (latency.timings, latency.runs, latency.threads) == ((), (), 3)


def test_a_process_of_its_own_is_for_what_runs_a_file(file: Path) -> None:
    together = TimingSettings(Schedule(interval=9.0, fewest_rounds=8, most_rounds=8), threads=1, isolate=True)
    latency = time_interleaved([("one", session(file)), ("other", session(file))], INPUTS, together, NullProgress())
    assert [timing.process for timing in latency.timings] == ["own", "own"]
    assert [timing.artifact for timing in latency.timings] == ["model.onnx"] * 2


def test_a_cpu_that_is_not_there_is_refused_before_anything_is_opened(file: Path) -> None:
    runtime = session(file)
    with pytest.raises(UsageError, match="4095"):
        time_interleaved([("one", runtime)], INPUTS, TimingSettings(ASKED, threads=1, cpus=(4095,)), NullProgress())
    assert runtime.open_seconds == 0.0


def test_what_standard_error_warns_of_the_report_warns_of_too() -> None:
    conditions = Conditions(others=0.07, steal=0.05, quota=1.5, throttled=0.08)
    run = structs.replace(GOOD, conditions=conditions)
    warnings = timing_warnings((), run, ASKED)
    assert len(warnings) == 3
    said = " ".join(warning_sentences(Latency(1, (0,), ASKED, (run,))))
    for warning in warnings:
        assert warning in said
