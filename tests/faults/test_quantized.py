"""Int8: a runtime that computes what the graph says passes, and one that doesn't is caught."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from attn_export.exporter.network.batches import Batch, nominal_batches, stacked
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.validation.matching import RUNS_OF_QUANTIZED
from attn_export.exporter.validation.onnx_graph import ExactGraph
from attn_export.exporter.validation.quantized import runtime_conformance
from tests.faults.catalogue import TRAINED
from tests.faults.editing import Edited
from tests.faults.planting import ONE_THREAD, Subject
from tests.faults.quantization import FAULTS, quantized
from tests.numbers import or_infinite

NETWORKS = (*TRAINED, pytest.param("se_mobilenet_v3_small", marks=pytest.mark.full))
# Batches of four images. With three of them the scales around a depthwise convolution of se_mobilenet_v3_small are as
# 366 to 5: every 366th sum lies on a rounding boundary, in most images, and hides faults of a few percent.
CALIBRATED = 4
LAYERS = {
    "se_digits": ("conv1.weight", "layer2.0.conv2.weight", "layer2.0.attention.fc.0.weight", "fc.weight"),
    "cbam_digits": ("conv1.weight", "layer2.0.conv2.weight", "layer3.0.conv2.weight", "fc.weight"),
    "se_mobilenet_v3_small": ("features.0.0.weight", "features.5.block.1.0.weight", "features.9.block.1.0.weight"),
}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    return cache(lambda name: Subject(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def whole(subject: Callable[[str], Subject]) -> Callable[[str, bool], Path]:
    """``whole(name, per_channel)`` is the network in int8."""

    def make(name: str, per_channel: bool) -> Path:
        made = subject(name)
        images = [b.arrays["input"] for b in images_of(made)[:CALIBRATED]]
        return quantized(made.file.path, made.folder / f"int8{per_channel}.onnx", images, per_channel=per_channel)

    return cache(make)


def images_of(made: Subject) -> list[Batch]:
    return nominal_batches(made.model.inputs, 4, RUNS_OF_QUANTIZED)


def judged(made: Subject, ran: Path, graph: Path) -> Verdict:
    return runtime_conformance(OnnxRuntime(ran, made.file.signature, ONE_THREAD), graph, images_of(made))[0]


def changed(graph: Path, path: Path, fault: str, weight: str) -> Path:
    edited = Edited(graph)
    FAULTS[fault](edited, weight)
    onnx.save(edited.model, path)
    return path


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_is_faithful(
    name: str, per_channel: bool, subject: Callable[[str], Subject], whole: Callable[[str, bool], Path]
) -> None:
    path = whole(name, per_channel)
    verdict = judged(subject(name), path, path)
    assert verdict.agrees
    assert or_infinite(verdict.worst.ratio) < 1.5, "there is room to the limit of 4"
    assert verdict.images >= 24


Share = Callable[[str, str, str], float]


@pytest.fixture(scope="module")
def share_affected(subject: Callable[[str], Subject], whole: Callable[[str, bool], Path]) -> Share:
    """``share_affected(fault, name, weight)``: of the images, those whose output the fault affects.

    A step in a map may be lost in the next layer's rounding.
    """

    def affected(fault: str, name: str, weight: str) -> float:
        made, graph = subject(name), whole(name, False)
        ran = changed(graph, made.folder / "faulty.onnx", fault, weight)
        (one,), (other,) = exact(graph, made), exact(ran, made)
        return float((np.abs(one - other).max(1) > 1e-6).mean())

    return cache(affected)


def exact(graph: Path, made: Subject) -> tuple[Array, ...]:
    """The output in float64, (N, classes)."""
    return ExactGraph(graph, np.float64)(stacked([batch.arrays for batch in images_of(made)]), ["output"])


def each(*names: str) -> list[tuple[str, str]]:
    return [(name, weight) for name in names for weight in LAYERS[name]]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("name", "weight"),
    [*each(*TRAINED), *(pytest.param(*pair, marks=pytest.mark.full) for pair in each("se_mobilenet_v3_small"))],
)
def test_an_unfaithful_runtime_is_caught(
    fault: str,
    name: str,
    weight: str,
    subject: Callable[[str], Subject],
    whole: Callable[[str, bool], Path],
    share_affected: Share,
) -> None:
    made, graph = subject(name), whole(name, False)
    affected = share_affected(fault, name, weight)
    verdict = judged(made, changed(graph, made.folder / "faulty.onnx", fault, weight), graph)
    if affected > 0.9:
        assert not verdict.agrees, f"{or_infinite(verdict.worst.ratio):.2f} times the baseline"
    if affected == 0:
        assert verdict.agrees


def test_most_faults_affect_nearly_all_images(share_affected: Share) -> None:
    found = [share_affected(fault, *pair) for fault in FAULTS for pair in each(*TRAINED)]
    assert len([share for share in found if share > 0.9]) >= 0.8 * len(found)
