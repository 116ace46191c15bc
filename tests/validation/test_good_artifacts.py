"""Good artifacts agree."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.network.batches import BATCHES
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.validate import validate
from tests.validation.exporting import ALL_AXES, FAMILIES, assert_good, exported


@pytest.mark.parametrize(
    ("name", "gates"),
    [("toy", 1), ("resnet8", 0), ("se_resnet8", 3), ("cbam_resnet8", 6), ("se_mobilenet_v3_small", 9)],
)
def test_a_clean_file_agrees(
    name: str,
    gates: int,
    artifact: Callable[[str], OnnxFile],
    reference: Callable[[str], Reference],
    one_thread: Settings,
) -> None:
    verdict = validate(artifact(name), reference(name), one_thread)
    assert_good(verdict, gates)
    assert verdict.first_disagreement is None
    assert verdict.runtime == "onnxruntime"
    assert [shape[0] for (shape,) in verdict.batches] == list(BATCHES)
    assert verdict.images == 1 + 2 + 2 * 5, "all of the pool, the last batch filled up"


@pytest.mark.full
@pytest.mark.parametrize(
    ("family", "attention"),
    [
        (family, kind)
        for family in FAMILIES
        for kind in ("se", "cbam")
        if (family, kind) != ("mobilenet_v3_small", "se")  # is among the clean files above
    ],
)
def test_every_family_agrees(family: str, attention: str, fresh: Callable[[str], LoadedModel], tmp_path: Path) -> None:
    verdict = exported(fresh(f"{attention}_{family}"), tmp_path)
    gates = {"resnet18": 8, "resnext50_32x4d": 16, "mobilenet_v2": 17, "mobilenet_v3_small": 9}[family]
    assert_good(verdict, gates * (2 if attention == "cbam" else 1))


@pytest.mark.parametrize("opset", [pytest.param(18, marks=pytest.mark.full), 23])
def test_every_opset_agrees(opset: int, loaded: Callable[[str], LoadedModel], tmp_path: Path) -> None:
    assert_good(exported(loaded("cbam_resnet8"), tmp_path, opset=opset), gates=6)


def test_open_height_and_width_are_judged_at_other_sizes(loaded: Callable[[str], LoadedModel], tmp_path: Path) -> None:
    verdict = exported(loaded("cbam_resnet8"), tmp_path, dynamic=ALL_AXES)
    assert_good(verdict, gates=6)
    sizes = {shape[2:] for (shape,) in verdict.batches}
    assert (32, 32) in sizes
    assert any(height > 32 for height, _ in sizes)
    assert any(width > 32 for _, width in sizes)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_agrees(batch: int, loaded: Callable[[str], LoadedModel], tmp_path: Path) -> None:
    verdict = exported(loaded("toy"), tmp_path, dynamic=(), batch=batch)
    assert_good(verdict, gates=1)
    assert {shape[0] for (shape,) in verdict.batches} == {batch}


def test_weights_outside_the_file_are_found_by_the_tapped_copy(
    captured: Callable[[str], Any], reference: Callable[[str], Reference], one_thread: Settings, tmp_path: Path
) -> None:
    file = onnx_file.write(clean_graph(captured("toy"))[0], tmp_path / "a.onnx", largest_inside=0)
    assert_good(validate(file, reference("toy"), one_thread), gates=1)


def test_nothing_stays_beside_the_file_and_every_batch_is_reported(
    captured: Callable[[str], Any], reference: Callable[[str], Reference], one_thread: Settings, tmp_path: Path
) -> None:
    file = onnx_file.write(clean_graph(captured("toy"))[0], tmp_path / "a.onnx")
    before = file.path.read_bytes()
    heard: list[None] = []
    validate(file, reference("toy"), one_thread, lambda: heard.append(None))
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
    assert file.path.read_bytes() == before
    assert len(heard) == 2 * len(reference("toy").batches)
