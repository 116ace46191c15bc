"""What a verdict tells besides whether it agrees: the ratios by shape, and how many images get another class."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs
from torch import nn

from attn_export.exporter.artifacts import LoadedModel, OnnxFile, Precision, only_input
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import Batch, batches
from attn_export.exporter.network.images import NOMINAL
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.document import plain
from attn_export.exporter.records.policies import FLOAT32
from attn_export.exporter.records.verdict import Classes, Comparison, Quality, Verdict
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.validation.compute_reference import compute_reference
from attn_export.exporter.validation.quantized import classes_of
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.validate import validate, validate_outputs
from attn_export.exporter.validation.verdict import compare, ratios_by_shape, shape_name
from attn_export.exporter.workflows.validate import validate_artifacts
from tests.faults.quantization import quantized
from tests.numbers import or_infinite
from tests.validation.exporting import exported

Change = Callable[[Array], Array]
SHAPES = ["1x3x16x16", "2x3x16x16", "5x3x16x16"]


class Changed(OnnxRuntime):
    """A runtime whose output is changed for batches of one size, or for all if 0."""

    def __init__(self, file: OnnxFile, size: int, change: Change) -> None:
        super().__init__(file.path, file.signature, Settings(threads=1))
        self.size, self.change = size, change

    def run(self, arrays: Arrays) -> dict[str, Array]:
        found = super().run(arrays)
        (images,) = arrays.values()
        return {n: self.change(a) if self.size in (0, len(images)) else a for n, a in found.items()}


@pytest.fixture(scope="session")
def verdict(artifact: Callable[[str], OnnxFile], reference: Callable[[str], Reference]) -> Verdict:
    """Of a good file."""
    return validate(artifact("toy"), reference("toy"), Settings(threads=1))


# By shape.


def test_every_shape_has_a_ratio_in_every_comparison(verdict: Verdict) -> None:
    assert list(map(shape_name, verdict.batches)) == SHAPES
    for comparison in verdict.comparisons:
        assert list(comparison.shapes) == SHAPES
        assert all(0 <= or_infinite(ratio) < FLOAT32.limit for ratio in comparison.shapes.values())
        ordinary = max(or_infinite(ratio) for kind, ratio in comparison.ratios.items() if kind in NOMINAL)
        assert max(map(or_infinite, comparison.shapes.values())) >= ordinary * (1 - 1e-9), (
            "what is pooled is between its parts"
        )


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_fault_at_one_batch_size_stands_out_in_its_shape(
    size: int, artifact: Callable[[str], OnnxFile], reference: Callable[[str], Reference]
) -> None:
    found = validate_outputs(Changed(artifact("toy"), size, lambda a: a * 1.001), Precision.FP32, reference("toy"))
    (output,) = found.comparisons
    assert {shape: or_infinite(ratio) > FLOAT32.limit for shape, ratio in output.shapes.items()} == {
        shape: shape.startswith(f"{size}x") for shape in SHAPES
    }


def test_open_heights_and_widths_are_shapes_of_their_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    found = exported(from_module(module, (3, 16, 16)), tmp_path, dynamic=("batch", "height", "width"))
    (output,) = found.comparisons
    assert list(output.shapes) == list(map(shape_name, found.batches))
    assert len({shape.partition("x")[2] for shape in output.shapes}) == 3


def test_the_ordinary_kind_that_stands_worst_tells_a_shape() -> None:
    floored = {"noise": 1e-6, "natural": 2e-6, "impulse": 1e-6}
    errors = {"noise": 3e-6, "natural": 2e-6, "impulse": 9e-6}
    assert ratios_by_shape({"1x3": errors}, floored) == {"1x3": pytest.approx(3.0)}


def test_a_shape_without_an_ordinary_image_is_reported_by_the_others() -> None:
    floored = {"noise": 1e-6, "impulse": 1e-6, "zeros": 1e-6}
    assert ratios_by_shape({"3x3": {"impulse": 5e-6, "zeros": 1e-6}}, floored) == {"3x3": pytest.approx(5.0)}


def test_a_shape_without_an_image_that_can_be_judged_is_left_out() -> None:
    assert ratios_by_shape({"3x3": {"large": 5e-6}, "1x3": {"noise": 0.0}}, {"noise": 1e-6}) == {"1x3": 0.0}


def test_shapes_are_reported_and_not_judged() -> None:
    found = compare("y", "output", {"noise": 1e-6}, {"noise": 1e-6}, by_shape={"1x3": {"noise": 1e-3}})
    assert found.shapes == {"1x3": pytest.approx(1000.0)}
    assert found.agrees
    assert found == structs.replace(compare("y", "output", {"noise": 1e-6}, {"noise": 1e-6}), shapes=found.shapes)


# Classes.


def ordinary(made: Reference) -> int:
    return sum(kind in NOMINAL for batch in made.batches for kind in batch.kinds)


def test_a_good_file_takes_every_image_for_the_same(verdict: Verdict, reference: Callable[[str], Reference]) -> None:
    assert verdict.classes == Classes(ordinary(reference("toy")), 0)
    assert 0 < ordinary(reference("toy")) < verdict.images


def test_another_class_is_counted_and_alone_is_no_fault(
    artifact: Callable[[str], OnnxFile], reference: Callable[[str], Reference]
) -> None:
    runtime = Changed(artifact("toy"), 0, lambda a: -a)
    found = validate_outputs(runtime, Precision.FP32, reference("toy"))
    assert found.classes == Classes(ordinary(reference("toy")), ordinary(reference("toy")))
    good = Verdict(
        "onnxruntime", (Comparison("y", "output", "noise", 1e-6, 1e-6, FLOAT32.limit),), (), classes=Classes(10, 3)
    )
    assert good.agrees


def test_only_images_of_the_batches_that_differ_are_counted(
    artifact: Callable[[str], OnnxFile], reference: Callable[[str], Reference]
) -> None:
    found = validate_outputs(Changed(artifact("toy"), 1, lambda a: -a), Precision.FP32, reference("toy"))
    assert found.classes == Classes(ordinary(reference("toy")), 1)


def test_extreme_images_are_not_counted_and_real_ones_are(
    loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    model = loaded("toy")
    real = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
    made = compute_reference(model, [Batch({"input": real}, ("real", "impulse", "large", "noise"))])
    found = validate_outputs(Changed(artifact("toy"), 0, lambda a: -a), Precision.FP32, made)
    assert found.classes == Classes(2, 2)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3)),
        nn.Sequential(nn.Conv2d(3, 1, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Unflatten(1, (2, 2))),
    ],
    ids=["a map", "one score", "two axes"],
)
def test_what_is_no_list_of_scores_has_no_classes(module: nn.Module, tmp_path: Path) -> None:
    assert exported(from_module(module.eval(), (3, 16, 16)), tmp_path).classes is None


def test_only_the_first_output_has_classes(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self, swapped: bool) -> None:
            super().__init__()
            self.conv, self.swapped = nn.Conv2d(3, 4, 3), swapped

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = self.conv(x)
            results = (x.mean((2, 3)), x)
            return results[::-1] if self.swapped else results

    assert exported(from_module(Two(False).eval(), (3, 16, 16)), tmp_path).classes is not None
    assert exported(from_module(Two(True).eval(), (3, 16, 16)), tmp_path).classes is None


@pytest.mark.parametrize(
    ("agreement", "images", "expected"),
    [(1.0, 24, Classes(24, 0)), (0.0, 24, Classes(24, 24)), (23 / 24, 24, Classes(24, 1)), (None, 24, None)],
)
def test_the_agreement_of_int8_is_reported_the_same_way(
    agreement: float | None, images: int, expected: Classes | None
) -> None:
    assert classes_of(Quality({"output": 30.0}, agreement, images)) == expected


def test_an_int8_file_is_reported_in_the_same_way(
    loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile], tmp_path: Path
) -> None:
    images = [batch.arrays["input"] for batch in batches(opened(only_input((3, 16, 16))))]
    path = quantized(artifact("toy").path, tmp_path / "model.int8.onnx", images, per_channel=False)
    (result,) = validate_artifacts(loaded("toy"), [path], threads=1)
    assert result.verdict is not None
    assert result.quality is not None
    assert result.quality.agreement is not None
    *_, output = result.verdict.comparisons
    assert list(output.shapes) == ["4x3x16x16"]
    assert output.shapes["4x3x16x16"] == pytest.approx(output.ratio)
    classes = result.verdict.classes
    assert classes is not None
    assert classes.images == result.quality.images == result.verdict.images
    assert 1 - classes.differ / classes.images == pytest.approx(result.quality.agreement)


# The record.


def test_the_record_has_shapes_and_classes(verdict: Verdict) -> None:
    record = plain(verdict)
    assert record["classes"] == {"images": verdict.classes.images, "differ": 0}  # type: ignore[union-attr]
    for entry, comparison in zip(record["comparisons"], verdict.comparisons, strict=True):
        assert entry["shapes"] == pytest.approx(dict(comparison.shapes))


def test_a_ratio_that_is_no_number_is_null() -> None:
    worst = Comparison(
        "y", "output", "noise", float("inf"), 1e-6, FLOAT32.limit, shapes={"1x3": float("inf"), "2x3": 1.0}
    )
    record = plain(Verdict("onnxruntime", (worst,), ()))
    assert record["classes"] is None
    assert record["comparisons"][0]["shapes"] == {"1x3": None, "2x3": 1.0}


def test_nan_at_one_shape_is_that_shapes(
    artifact: Callable[[str], OnnxFile], reference: Callable[[str], Reference]
) -> None:
    found = validate_outputs(Changed(artifact("toy"), 2, lambda a: a * np.nan), Precision.FP32, reference("toy"))
    assert not found.agrees
    assert [shape for shape, ratio in found.comparisons[0].shapes.items() if ratio is None] == SHAPES[1:2]


def test_every_shape_that_is_judged_has_an_ordinary_image() -> None:
    for dynamic in (("batch",), ("batch", "height", "width")):
        made = batches(opened(only_input((3, 16, 16)), dynamic, 1))
        for shape in {batch.shapes[0] for batch in made}:
            assert any(kind in NOMINAL for b in made if b.shapes[0] == shape for kind in b.kinds)
