"""Whether an artifact takes and returns what a network does."""

from pathlib import Path

import pytest

from attn_export.exporter.artifacts import Dim, Input, Precision, only_input
from attn_export.exporter.errors import InputError
from attn_export.exporter.records.artifact import Artifact, Tensor
from attn_export.exporter.records.engine import Range
from attn_export.exporter.validation.artifact import ENGINE, ONNX
from attn_export.exporter.validation.matching import Returned, batches_for, match

OWN = only_input((3, 32, 32))
LOGITS, MAP = Returned("output_logits", (10,)), Returned("output_map", (4, 8, 8))
OPEN: tuple[Dim, ...] = ("N", 3, 32, 32)


def artifact(
    *outputs: Tensor, inputs: tuple[Tensor, ...] = (Tensor("input", OPEN, "float"),), taken: Range | None = None
) -> Artifact:
    form = ENGINE if taken else ONNX
    return Artifact(Path("a.onnx"), form, inputs, outputs, Precision.FP32, profile={"input": taken} if taken else None)


def out(name: str, *dims: Dim) -> Tensor:
    return Tensor(name, ("N", *dims), "float")


def test_equal_names_match_in_any_order() -> None:
    found = match(artifact(out("output_map", 4, 8, 8), out("output_logits", 10)), OWN, [LOGITS, MAP])
    assert found.signature.output_names == ("output_logits", "output_map")
    assert found.notes == ()


@pytest.mark.parametrize(
    "outputs",
    [(out("a", 10), out("b", 4, 8, 8)), (out("b", 4, 8, 8), out("a", 10))],
    ids=["by order", "by shape"],
)
def test_other_names_are_matched_where_it_is_clear(outputs: tuple[Tensor, ...]) -> None:
    found = match(artifact(*outputs), OWN, [LOGITS, MAP])
    assert found.signature.output_names == ("a", "b")
    (note,) = found.notes
    assert "a for output_logits, b for output_map" in note


def test_outputs_of_one_shape_are_matched_by_order_only() -> None:
    two = [Returned("output_0", (10,)), Returned("output_1", (10,))]
    assert match(artifact(out("x", 10), out("y", 10)), OWN, two).signature.output_names == ("x", "y")


def test_what_is_not_clear_is_refused_with_both_lists() -> None:
    three = [Returned("output_0", (10,)), Returned("output_1", (4,)), Returned("output_2", (10,))]
    with pytest.raises(InputError, match="it isn't clear which is which") as caught:
        match(artifact(out("x", 10), out("y", 10), out("z", 4)), OWN, three)
    assert "x (N, 10)" in caught.value.message
    assert "output_1 (N, 4)" in caught.value.message


def test_further_outputs_are_noted_and_missing_ones_refused() -> None:
    found = match(artifact(out("output_logits", 10), out("features", 7)), OWN, [LOGITS])
    assert found.notes == ("a.onnx also returns features: it isn't compared",)
    with pytest.raises(InputError, match="their numbers differ"):
        match(artifact(out("output_logits", 10)), OWN, [LOGITS, MAP])


def test_the_only_output_that_fits_is_taken_and_the_others_are_noted() -> None:
    found = match(artifact(out("y", 10), out("features", 7), Tensor("best", ("N", 1), "int64")), OWN, [LOGITS])
    assert found.signature.output_names == ("y",)
    assert "y for output_logits" in found.notes[0]
    assert found.notes[1] == "a.onnx also returns features, best: it isn't compared"
    with pytest.raises(InputError, match="it isn't clear which is which"):
        match(artifact(out("y", 10), out("z", 10)), OWN, [LOGITS])


@pytest.mark.parametrize("dtype", ["int64", "bool", "string", "a sequence"])
def test_what_is_no_float_is_not_taken_for_a_result(dtype: str) -> None:
    for name in ("output_logits", "y"):
        with pytest.raises(InputError, match="none of them fits") as caught:
            match(artifact(Tensor(name, ("N", 10), dtype)), OWN, [LOGITS])
        assert f"{name} (N, 10) as {dtype}" in caught.value.message
    for float_type in ("", "float", "float16", "double", "bfloat16"):
        assert match(artifact(Tensor("y", ("N", 10), float_type)), OWN, [LOGITS]).signature.output_names == ("y",)


def test_a_shape_that_is_not_known_may_be_any() -> None:
    unknown = Tensor("output_logits", None, "float")
    assert match(artifact(unknown), OWN, [LOGITS]).signature.output_names == ("output_logits",)
    assert match(artifact(out("output_map", "C", 8, 8)), OWN, [MAP]).signature.output_names == ("output_map",)


@pytest.mark.parametrize(
    ("dims", "axes", "shape"),
    [
        (("N", 3, 32, 32), ["batch"], (1, 3, 32, 32)),
        ((None, 3, None, "W"), ["batch", "height", "width"], (1, 3, 32, 32)),
        ((4, 3, 32, 32), [], (4, 3, 32, 32)),
        ((1, 3, 48, 64), [], (1, 3, 48, 64)),
        (("N", "C", 32, 32), ["batch"], (1, 3, 32, 32)),
    ],
)
def test_what_is_open_stays_open(dims: tuple[Dim, ...], axes: list[str], shape: tuple[int, ...]) -> None:
    found = match(artifact(out("output_logits", 10), inputs=(Tensor("input", dims, "float"),)), OWN, [LOGITS])
    assert [axis.name for axis in found.signature.inputs[0].axes] == axes
    assert found.signature.inputs[0].shape == shape


@pytest.mark.parametrize("dims", [("N", 1, 32, 32), ("N", 32, 32, 3), ("N", 3072), (1, 4, 3, 32, 32)])
def test_another_input_is_refused(dims: tuple[Dim, ...]) -> None:
    with pytest.raises(InputError, match=r"the network takes one float32 tensor of \(N, 3, 32, 32\)"):
        match(artifact(out("output_logits", 10), inputs=(Tensor("input", dims, "float"),)), OWN, [LOGITS])


def test_another_size_is_noted() -> None:
    inputs = (Tensor("input", (1, 3, 48, 64), "float"),)
    (note,) = match(artifact(out("output_logits", 10), inputs=inputs), OWN, [LOGITS]).notes
    assert "isn't the network's usual size" in note


def test_an_engine_is_judged_at_its_smallest_usual_and_largest_shape() -> None:
    taken = Range((1, 3, 32, 32), (4, 3, 32, 32), (16, 3, 64, 64))
    engine = artifact(out("output_logits", 10), taken=taken)
    found = match(engine, OWN, [LOGITS])
    shapes = {batch.shapes[0] for batch in batches_for(engine, found)}
    assert shapes == {(1, 3, 32, 32), (4, 3, 32, 32), (16, 3, 64, 64)}
    assert all(taken.covers(shape) for shape in shapes)


TWO = (Input("image", (1, 3, 32, 32)), Input("meta", (1, 4)))
IMAGE, META = Tensor("a", ("N", 3, 32, 32), "float"), Tensor("b", ("N", 4), "float")


@pytest.mark.parametrize("inputs", [(IMAGE, META), (META, IMAGE)])
def test_inputs_of_other_names_are_matched_where_it_is_clear(inputs: tuple[Tensor, ...]) -> None:
    found = match(artifact(out("output_logits", 10), inputs=inputs), TWO, [LOGITS])
    assert found.signature.input_names == ("a", "b")
    assert [own.name for own in found.inputs] == ["image", "meta"]
    assert found.notes == ("a.onnx calls image 'a', meta 'b'",)


def test_equal_names_of_inputs_match_in_any_order() -> None:
    inputs = (Tensor("meta", ("N", 4), "float"), Tensor("image", (2, 3, 32, 32), "float"))
    found = match(artifact(out("output_logits", 10), inputs=inputs), TWO, [LOGITS])
    assert found.signature.shapes == ((2, 3, 32, 32), (2, 4)), "N is the same of all"
    assert not any(own.axes for own in found.inputs)
    assert found.notes == ()


def test_inputs_that_are_missing_of_another_type_or_not_clear_are_refused() -> None:
    for inputs, says in (
        ((IMAGE,), "takes 1 tensors"),
        ((IMAGE, Tensor("b", ("N", 4), "int64")), "as int64"),
        ((IMAGE, Tensor("b", ("N", 5), "float")), r"takes b \(N, 5\)"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            match(artifact(out("output_logits", 10), inputs=inputs), TWO, [LOGITS])
        assert "meta, a float32 tensor of (N, 4)" in caught.value.message
    three = (*TWO, Input("other", (1, 4)))
    with pytest.raises(InputError, match="isn't clear"):
        match(artifact(out("output_logits", 10), inputs=(META, Tensor("c", ("N", 4), "float"), IMAGE)), three, [LOGITS])


def test_other_integers_are_converted_with_a_note() -> None:
    tokens = Input("tokens", (1, 7), "int64", range=(0, 9))
    found = match(artifact(out("output_logits", 10), inputs=(Tensor("tokens", ("N", 7), "int32"),)), [tokens], [LOGITS])
    assert found.notes == ("a.onnx takes tokens as int32: the images are converted",)
    assert found.signature.inputs[0].dtype == "int64"
