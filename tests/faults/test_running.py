"""A runtime that gives back something else than it computed is caught by its outputs."""

from collections.abc import Callable
from functools import cache

import pytest

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.validation.diagnosis import diagnose
from attn_export.exporter.validation.validate import validate_outputs
from tests.faults.planting import ONE_THREAD, Subject
from tests.faults.running import RUNTIMES


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    return cache(lambda name: Subject(name, tmp_path_factory.mktemp(name)))


@pytest.mark.parametrize("name", ["se_digits", "cbam_digits"])
@pytest.mark.parametrize("fault", RUNTIMES)
def test_it_is_caught(fault: str, name: str, subject: Callable[[str], Subject]) -> None:
    made = subject(name)
    runtime = RUNTIMES[fault](made.file.path, made.file.signature, ONE_THREAD)
    assert not validate_outputs(runtime, Precision.FP32, made.reference).agrees


def test_one_that_gives_back_what_it_computed_passes(subject: Callable[[str], Subject]) -> None:
    made = subject("se_digits")
    runtime = OnnxRuntime(made.file.path, made.file.signature, ONE_THREAD)
    assert validate_outputs(runtime, Precision.FP32, made.reference).agrees
    assert diagnose(runtime, made.reference) == ""
