"""Two reports of the same network: what got faster, what got slower, and what decides."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from attn_export.exporter.artifacts import Axis
from attn_export.exporter.errors import IncomparableReportsError
from attn_export.exporter.records.compare import ComparisonReport
from attn_export.exporter.records.latency import Conditions
from attn_export.exporter.records.report import InputRecord, Report
from attn_export.exporter.records.timing_warnings import latency_warnings
from attn_export.exporter.system.gpus import Gpu
from tests.budgets.conftest import Compared
from tests.budgets.sample import (
    CONFIDENCE,
    FILE,
    changed,
    sample_artifact,
    sample_report,
    sample_timing,
    sample_timings,
    scaled,
)

OLD = sample_report()
AGAIN = sample_report(sample_timings(seed=7), created="2026-11-26T01:11:00+00:00")


def verdicts(found: ComparisonReport) -> dict[str, tuple[str, str | None]]:
    return {pair.runtime: (pair.verdict, pair.decides) for pair in found.pairs}


# On one machine.


def test_two_runs_of_the_same_cant_be_told_apart(compared: Compared) -> None:
    found = compared(OLD, AGAIN)
    assert verdicts(found) == {"eager": ("baseline", None), "onnxruntime": ("can't tell", "both")}
    assert found.error is None
    assert found.notes == ()
    assert found.same_machine


def test_what_got_slower_is_found_and_named(compared: Compared) -> None:
    found = compared(OLD, scaled(AGAIN, 1.2, ["onnxruntime"]))
    assert verdicts(found)["onnxruntime"] == ("slower", "both")
    assert found.error is not None
    sentence = found.error.message
    assert [pair.broken for pair in found.pairs] == [False, True]
    assert sentence.startswith("onnxruntime of model.onnx at batch 1 got slower: +")
    assert "measured against eager" in sentence
    assert "5% is allowed" in sentence


def test_slower_by_less_than_is_allowed_is_said_and_breaks_nothing(compared: Compared) -> None:
    found = compared(OLD, scaled(AGAIN, 1.2, ["onnxruntime"]), slower=0.25)
    assert verdicts(found)["onnxruntime"] == ("slower", "both")
    assert found.error is None


def test_slower_by_less_than_noise_breaks_nothing(compared: Compared) -> None:
    """6 % where 5 % is allowed: two runs of the same differ by as much."""
    assert compared(OLD, scaled(AGAIN, 1.06, ["onnxruntime"])).error is None


def test_what_got_faster_is_found_and_breaks_nothing(compared: Compared) -> None:
    found = compared(OLD, scaled(AGAIN, 0.7, ["onnxruntime"]))
    assert verdicts(found)["onnxruntime"] == ("faster", "both")
    assert found.error is None


def test_a_slower_machine_makes_nothing_slower_and_is_said(compared: Compared) -> None:
    found = compared(OLD, scaled(AGAIN, 1.5, ["eager", "onnxruntime"]))
    assert verdicts(found)["onnxruntime"] == ("can't tell", "both")
    assert found.pairs[1].latency is not None
    assert found.pairs[1].latency.low > 1.3, "it is shown all the same"
    (note,) = found.notes
    assert "eager, which the others are measured against, takes 1.49 times as long as before" in note


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_a_baseline_that_moved_alone_makes_nothing_slower_or_faster(compared: Compared, factor: float) -> None:
    eager = sample_timing("eager", 10 * factor, seed=3)
    found = compared(OLD, sample_report([eager, sample_timing("onnxruntime", 3, eager, artifact=FILE, seed=4)]))
    pair = found.pairs[1]
    assert pair.ratio is not None
    assert pair.ratio.estimate == pytest.approx(1 / factor, rel=0.05)
    assert (pair.verdict, found.error) == ("can't tell", None)
    assert "eager, which the others are measured against" in found.notes[0]


def test_one_figure_alone_has_to_be_further_off(compared: Compared) -> None:
    """3.5 % slower: two figures are enough to say so, one isn't."""
    both = compared(OLD, scaled(AGAIN, 1.035, ["onnxruntime"]))
    only = [
        sample_report([timing]) for timing in (sample_timing("onnxruntime", ms, artifact=FILE) for ms in (3, 3.105))
    ]
    assert both.pairs[1].verdict == "slower"
    assert compared(*only).pairs[0].verdict == "can't tell"


def test_every_batch_is_judged_for_itself(compared: Compared) -> None:
    both = [*sample_timings(), *sample_timings(80, 24, batch=8)]
    slow = [*sample_timings(), *sample_timings(80, 48, batch=8)]
    found = compared(sample_report(both), sample_report(slow))
    assert [(pair.batch, pair.verdict) for pair in found.pairs] == [
        (1, "baseline"),
        (1, "can't tell"),
        (8, "baseline"),
        (8, "slower"),
    ]
    assert [pair.broken for pair in found.pairs] == [False, False, False, True]


# What decides.


def test_with_another_version_of_the_baseline_the_latency_decides(compared: Compared) -> None:
    eager = sample_timing("eager", 20, provenance="eager 2.0", seed=3)
    new = sample_report([eager, sample_timing("onnxruntime", 3, eager, artifact=FILE, seed=4)])
    found = compared(OLD, new)
    assert verdicts(found) == {"eager": ("slower", "latency"), "onnxruntime": ("can't tell", "latency")}
    assert found.pairs[1].baseline is None
    assert any("eager ran as eager 1.0, now as eager 2.0" in note for note in found.notes)


@pytest.mark.parametrize(("runtime", "artifact"), [("eager", None), ("onnxruntime", FILE)])
def test_alone_the_baseline_is_judged_by_its_latency(compared: Compared, runtime: str, artifact: str | None) -> None:
    old, new = (sample_report([sample_timing(runtime, ms, artifact=artifact)]) for ms in (3, 6))
    found = compared(old, new)
    assert verdicts(found) == {runtime: ("slower", "latency")}
    assert found.error is not None
    assert "measured against" not in found.error.message


@pytest.mark.parametrize(("sha256", "decides"), [("a" * 64, (None, "both")), ("b" * 64, ("latency", "latency"))])
def test_a_baseline_that_is_a_file_has_to_be_the_same_file(
    compared: Compared, sha256: str, decides: tuple[str | None, ...]
) -> None:
    def record(seed: int, sha256: str) -> Report:
        plain = sample_timing("onnxruntime", 3, artifact=FILE, seed=seed)
        half = sample_timing("onnxruntime", 2, plain, artifact="model.fp16.onnx", precision="float16", seed=seed + 1)
        files = (sample_artifact(sha256=sha256), sample_artifact("model.fp16.onnx", precision="float16"))
        return sample_report([plain, half], artifacts=files)

    found = compared(record(1, "a" * 64), record(5, sha256))
    assert tuple(pair.decides for pair in found.pairs) == decides


def test_with_too_few_rounds_nothing_is_reported_and_that_is_said(compared: Compared) -> None:
    few = sample_report(sample_timings(10, 300, rounds=5))
    found = compared(OLD, few)
    assert verdicts(found)["onnxruntime"] == ("can't tell", "both")
    assert found.pairs[1].ratio is None
    assert found.error is None
    assert any("has 5 rounds, and 99% intervals need 8 at least" in note for note in found.notes)


def too_noisy(interval: float) -> Report:
    runs = (changed(OLD.latency.runs[0], {"reached": False, "interval": interval}),)
    return sample_report(sample_timings(seed=7), latency={"runs": runs})


def test_a_run_that_was_too_noisy_is_said(compared: Compared) -> None:
    (note,) = compared(OLD, too_noisy(0.08)).notes
    assert "new.report.json, batch 1: after " in note
    assert "the ratios are known to ±8.0%, and ±2.0% was asked for" in note


def test_a_run_that_knows_nothing_of_its_ratios_is_said_without_digits(compared: Compared) -> None:
    (note,) = compared(OLD, too_noisy(167.03)).notes
    assert "the ratios are not even known to ±100%, and ±2.0% was asked for" in note


def test_a_busy_machine_is_said_in_the_words_of_standard_error(compared: Compared) -> None:
    runs = (changed(OLD.latency.runs[0], {"conditions": Conditions(others=0.3, steal=0.05)}),)
    report = sample_report(sample_timings(seed=7), latency={"runs": runs})
    notes = compared(OLD, report).notes
    assert [note.partition("new.report.json, ")[2] for note in notes] == latency_warnings(report.latency)
    assert len(notes) == 2


def uneasy(report: Report) -> Report:
    """The same with a baseline that is a hundred times as fast in every second round."""
    eager, *others = report.latency.timings
    rounds = tuple(tuple(ms * (10, 0.1)[i % 2] for ms in values) for i, values in enumerate(eager.rounds_ms))
    return changed(report, {"latency": {"timings": (changed(eager, {"rounds_ms": rounds}), *others)}})


def test_what_only_the_baselines_noise_hides_is_said(compared: Compared) -> None:
    found = compared(uneasy(OLD), uneasy(scaled(AGAIN, 3.0, ["onnxruntime"])))
    assert (found.pairs[1].verdict, found.error) == ("can't tell", None)
    (note,) = [note for note in found.notes if "onnxruntime" in note]
    assert "onnxruntime of model.onnx at batch 1 takes 3.0" in note
    assert "eager is too uncertain to confirm it" in note
    assert "--budget onnxruntime:latency=" in note


def test_what_noise_hides_is_not_said_of_what_is_as_fast_as_before(compared: Compared) -> None:
    assert not [note for note in compared(uneasy(OLD), uneasy(AGAIN)).notes if "uncertain" in note]


def test_the_more_confident_report_sets_the_confidence(compared: Compared) -> None:
    new = sample_report(latency={"schedule": {"confidence": 0.8}})
    assert compared(OLD, new).confidence == CONFIDENCE
    assert compared(new, OLD).confidence == CONFIDENCE
    assert compared(new, new).confidence == 0.8


# On another machine.

ELSEWHERE = [
    ({"environment": {"cpu": "Another"}}, "the CPU was A processor and is Another"),
    ({"latency": {"threads": 4}}, "2 threads were used and 4 are now"),
    ({"latency": {"cpus": (2, 3)}}, "CPUs 0,1 could be used and 2,3 can now"),
]


@pytest.mark.parametrize(("changes", "says"), ELSEWHERE)
def test_on_another_machine_only_ratios_are_compared(compared: Compared, changes: dict[str, Any], says: str) -> None:
    new = scaled(sample_report(sample_timings(20, 6, seed=7), **changes), 1.5, ["onnxruntime"])
    found = compared(OLD, new)
    assert verdicts(found) == {"eager": ("baseline", None), "onnxruntime": ("slower", "ratio")}
    assert [pair.latency for pair in found.pairs] == [None, None]
    assert 1.4 < found.pairs[1].ratio.estimate < 1.6, "twice the latency was the machine's"  # type: ignore[union-attr]
    assert any(says in note and "only ratios" in note for note in found.notes)


def test_another_gpu_is_another_machine(compared: Compared) -> None:
    old, new = (sample_report(environment={"gpus": (Gpu(name, "8.9"),)}) for name in ("Orin", "RTX 4090"))
    found = compared(old, new)
    assert found.notes[0].endswith("only ratios to the baseline are compared: the GPU was Orin and is RTX 4090")
    assert not found.same_machine
    assert compared(old, OLD).same_machine, "a run on the CPU doesn't ask for GPUs"


def test_on_another_machine_another_version_of_the_baseline_is_let_pass_and_said(compared: Compared) -> None:
    eager = sample_timing("eager", 20, provenance="eager 2.0", seed=3)
    timings = [eager, sample_timing("onnxruntime", 6, eager, artifact=FILE, seed=4)]
    found = compared(OLD, sample_report(timings, environment={"cpu": "Another"}))
    assert verdicts(found)["onnxruntime"] == ("can't tell", "ratio")
    assert any("eager 2.0" in note for note in found.notes)


@pytest.mark.parametrize("kind", ["alone", "another baseline"])
def test_on_another_machine_without_a_common_baseline_it_is_refused(compared: Compared, kind: str) -> None:
    timings = [sample_timing("onnxruntime", 3, artifact=FILE)]
    if kind == "another baseline":
        compiled = sample_timing("compile", 5)
        timings = [compiled, sample_timing("onnxruntime", 3, compiled, artifact=FILE)]
    new = sample_report(timings, environment={"cpu": "Another"})
    with pytest.raises(IncomparableReportsError, match="share no baseline on the same device") as caught:
        compared(OLD, new)
    assert "the CPU was A processor and is Another" in caught.value.message


def test_on_another_machine_a_ratio_of_two_devices_says_nothing(compared: Compared) -> None:
    eager = sample_timing("eager", 10)
    on_gpu = sample_timing("onnxruntime-cuda", 1, eager, artifact=FILE, device="cuda")
    old = sample_report([eager, on_gpu])
    with pytest.raises(IncomparableReportsError):
        compared(old, sample_report([eager, on_gpu], environment={"cpu": "Another"}))
    on_cpu = sample_timing("onnxruntime", 3, eager, artifact=FILE)
    three = [sample_report([eager, on_gpu, on_cpu], environment={"cpu": cpu}) for cpu in ("One", "Another")]
    assert verdicts(compared(*three)) == {
        "eager": ("baseline", None),
        "onnxruntime-cuda": ("not compared", None),
        "onnxruntime": ("can't tell", "ratio"),
    }


# Another network.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"name": "se_resnet8"}}, "its name is cbam_resnet8, not se_resnet8"),
        (
            {"model": {"inputs": (InputRecord("input", "float32", (1, 3, 32, 32)),)}},
            "its inputs are input 3×16×16, not input 3×32×32",
        ),
        ({"model": {"architecture": {"num_classes": 5}}}, "its architecture is"),
    ],
)
def test_another_network_is_refused(compared: Compared, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(IncomparableReportsError) as caught:
        compared(OLD, sample_report(**changes))
    assert says in caught.value.message
    assert "old.report.json" in caught.value.message
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_other_weights_of_the_same_network_are_a_note(compared: Compared) -> None:
    assert "the weights changed" in compared(OLD, sample_report(model={"sha256": "d" * 64})).notes


def test_a_network_of_somebody_else_s_has_no_architecture_to_differ(compared: Compared) -> None:
    assert compared(OLD, sample_report(model={"architecture": None})).pairs


def test_without_a_checkpoint_it_is_said_that_the_network_isnt_known(compared: Compared) -> None:
    files = (sample_artifact(validation=None),)
    found = compared(sample_report(model=None, artifacts=files), sample_report(model=None, artifacts=files, command=()))
    assert any("doesn't say what network was timed" in note for note in found.notes)


@pytest.mark.parametrize("which", ["attention", "image", "open image"])
def test_without_a_checkpoint_files_that_differ_are_refused(compared: Compared, which: str) -> None:
    file = sample_artifact()
    axes = (*file.inputs[0].dynamic_axes, Axis("height", 2, 8))
    changes: dict[str, Any] = {
        "attention": {"attention": (replace(file.attention[0], kind="SE"),)},
        "image": {"inputs": (structs.replace(file.inputs[0], shape=(1, 3, 32, 32)),)},
        "open image": {"inputs": (structs.replace(file.inputs[0], shape=(1, 3, 32, 32), dynamic_axes=axes),)},
    }
    old, new = sample_report(model=None), sample_report(model=None, artifacts=(changed(file, changes[which]),))
    with pytest.raises(IncomparableReportsError, match="another network"):
        compared(old, new)
