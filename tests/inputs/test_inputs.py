"""Axes, values and arguments of several inputs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attn_export.exporter.artifacts import Input, Signature, only_input
from attn_export.exporter.checkpoint.inputs import declared
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.checkpoint.load import model_of
from attn_export.exporter.errors import CaptureError, InputError, UsageError
from attn_export.exporter.network.arithmetic import Perturbation, in_float64
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.network.call import arguments, call
from attn_export.exporter.network.capture import capture
from attn_export.exporter.network.images import KINDS, POOL, STRESS
from attn_export.exporter.network.values import drawn
from attn_export.exporter.workflows.export import export
from attn_export.exporter.workflows.settings import ExportSettings
from tests.inputs.networks import IMAGE, META, Siamese, WithMeta

SMALL = Input("mask", (1, 1, 8, 8))


def axes_of(inputs: tuple[Input, ...]) -> list[list[str]]:
    return [[axis.name for axis in taken.axes] for taken in inputs]


# Axes.


def test_the_batch_is_dynamic_in_all_inputs_or_in_none() -> None:
    assert axes_of(opened((IMAGE, META), ("image:batch",))) == [["batch"], ["batch"]]
    assert axes_of(opened((IMAGE, META), ("image:height",))) == [["height"], []]


def test_an_axis_without_an_input_is_that_of_all_which_have_it() -> None:
    assert axes_of(opened((IMAGE, META), ("batch", "width"))) == [["batch", "width"], ["batch"]]
    assert axes_of(opened((META,), ("axis_1",))) == [["axis_1"]]


def test_axes_of_different_sizes_have_different_names() -> None:
    assert axes_of(opened((IMAGE, replace(IMAGE, name="other")), ("height",))) == [["height"], ["height"]]
    assert axes_of(opened((IMAGE, SMALL), ("height",))) == [["image_height"], ["mask_height"]]


@pytest.mark.parametrize("name", ["meta:height", "axis_2", "meta:channels", "channels", "nothing:batch"])
def test_an_axis_that_no_input_has_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        opened((IMAGE, META), (name,))
    assert caught.value.hint


def test_sizes_of_several_images_keep_their_ratio() -> None:
    large, small = Input("image", (1, 3, 256, 256)), Input("mask", (1, 1, 64, 64))
    sizes = {batch.sizes for batch in batches(opened((large, small), ("batch", "height", "width")))}
    assert ((3, 320, 256), (1, 80, 64)) in sizes
    assert ((3, 256, 384), (1, 64, 96)) in sizes


# Values.

LIMITS = st.tuples(st.integers(-100, 100), st.integers(1, 300)).map(lambda pair: (pair[0], pair[0] + pair[1]))
SHAPES = st.sampled_from([(), (5,), (4, 3), (3, 6, 5)])


@given(
    kind=st.sampled_from([*KINDS, *STRESS]),
    limits=LIMITS,
    size=SHAPES,
    dtype=st.sampled_from(["float32", "int32", "int64"]),
)
def test_no_value_lies_outside_of_its_range(kind: str, limits: tuple[int, int], size: Any, dtype: str) -> None:
    taken = Input("x", (1, *size), dtype, range=limits)
    array = drawn(kind, taken, size, np.random.default_rng(0))
    assert (array.dtype, array.shape) == (dtype, size)
    assert limits[0] <= array.min() <= array.max() <= limits[1]


@pytest.mark.parametrize(("dtype", "ends"), [("uint8", (0, 255)), ("int8", (-128, 127)), ("bool", (0, 1))])
def test_the_pool_reaches_both_ends_of_a_type(dtype: str, ends: tuple[int, int]) -> None:
    arrays = [batch.arrays["x"] for batch in batches(opened((Input("x", (1, 24), dtype),)))]
    assert (min(a.min() for a in arrays), max(a.max() for a in arrays)) == ends


def test_integers_of_unknown_range_are_refused() -> None:
    with pytest.raises(InputError, match="which values it can take"):
        batches(opened((Input("tokens", (1, 5), "int64"),)))


def test_inputs_of_one_shape_are_drawn_apart_and_an_image_is_all_of_them() -> None:
    made = batches(opened((Input("left", (1, 3, 8, 8)), Input("right", (1, 3, 8, 8)))))
    for batch in made:
        assert all(len(array) == len(batch) for array in batch.arrays.values())
        for left, right, kind in zip(batch.arrays["left"], batch.arrays["right"], batch.kinds, strict=True):
            assert kind == "zeros" or not np.array_equal(left, right)
    assert {kind for batch in made for kind in batch.kinds} == set(POOL)


def test_only_floats_are_perturbed_and_computed_in_double() -> None:
    arrays = {"image": np.full((1, 3, 4, 4), 1.5, np.float32), "tokens": np.full((1, 4), 7)}
    moved = Perturbation(nn.Identity(), torch.float32, 1).inputs(arrays)
    assert not np.array_equal(moved["image"], arrays["image"])
    assert np.array_equal(moved["tokens"], arrays["tokens"])
    assert {name: str(array.dtype) for name, array in in_float64(arrays).items()} == {
        "image": "float64",
        "tokens": "int64",
    }


# Arguments.


class Takes(nn.Module):
    def forward(self, image: Any, scale: float = 2.0, mask: Any = None, *, last: Any = None) -> list[Any]:
        return [image, scale, mask, last]


def test_inputs_go_by_position_as_long_as_none_is_left_out() -> None:
    one, two, three = (torch.full((1,), float(i)) for i in (1, 2, 3))
    assert arguments(Takes(), {"image": one}) == ((one,), {})
    assert arguments(Takes(), {"input": one}) == ((one,), {})
    assert arguments(Takes(), {"image": one, "mask": two, "last": three}) == ((one,), {"mask": two, "last": three})
    assert call(Takes(), {"image": one.numpy(), "mask": two.numpy()})[1:] == [2.0, two, None]


def test_declared_inputs_come_in_the_networks_order_with_one_image() -> None:
    assert declared(WithMeta(), [META.with_batch(3), IMAGE.with_batch(3)]) == (IMAGE, META)
    assert declared(WithMeta(), only_input((3, 32, 32))) == only_input((3, 32, 32))
    assert from_module(Siamese(), [replace(IMAGE, name="right"), replace(IMAGE, name="left")]).inputs[0].name == "left"


def test_the_only_input_is_not_taken_for_another_parameter() -> None:
    class Misleading(nn.Module):
        def forward(self, x: torch.Tensor, input: torch.Tensor | None = None) -> torch.Tensor:
            return x if input is None else x + input

    assert declared(Misleading(), only_input((3, 8, 8)))[0].name == "x"


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([IMAGE, replace(META, name="mata")], "no input 'mata'"),
        ([META], "nothing says the shape of image"),
        ([IMAGE, IMAGE], "given twice"),
        ([IMAGE, META.with_batch(2)], "batches of 1 and 2"),
        ([replace(IMAGE, dtype="float64")], "is float64"),
        ([replace(IMAGE, shape=())], "has the shape"),
    ],
)
def test_what_the_network_does_not_take_is_refused(inputs: list[Input], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        model_of(WithMeta(), inputs)
    assert caught.value.hint


def test_an_input_that_is_called_like_an_output_is_refused() -> None:
    class Confusing(nn.Module):
        def forward(self, output: torch.Tensor, meta: torch.Tensor) -> torch.Tensor:
            return output.mean((2, 3)).sum(1, keepdim=True) + meta

    with pytest.raises(CaptureError, match="both called 'output'"):
        capture(from_module(Confusing(), [replace(IMAGE, name="output"), META]))


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (lambda x: {"score": x.mean((1, 2, 3)), "word": "text"}, "isn't a tensor"),
        (lambda x: x.mean(), "first axis must be the batch"),
    ],
)
def test_an_output_that_is_no_tensor_or_has_no_batch_is_refused(returned: Any, says: str, tmp_path: Path) -> None:
    class Returns(nn.Module):
        def forward(self, image: torch.Tensor, meta: torch.Tensor) -> Any:
            return returned(image + meta.sum())

    with pytest.raises(CaptureError, match=says) as caught:
        export(Returns(), inputs=[IMAGE, META], out=tmp_path, settings=ExportSettings(dynamic=(), runtimes=()))
    assert caught.value.hint


@pytest.mark.parametrize("dynamic", [("batch",), ()])
def test_a_squeeze_that_drops_the_batch_axis_of_one_image_only_is_exported(
    dynamic: tuple[str, ...], tmp_path: Path
) -> None:
    class Squeezes(nn.Module):
        def forward(self, image: torch.Tensor, meta: torch.Tensor) -> torch.Tensor:
            pooled = image.mean((2, 3), keepdim=True) + meta.sum(1)[:, None, None, None]
            return pooled.squeeze()  # (N, C), but (C,) for a batch of 1

    done = export(Squeezes(), inputs=[IMAGE, META], out=tmp_path, settings=ExportSettings(dynamic=dynamic, runtimes=()))
    assert [verdict.agrees for verdict in done.verdicts] == [True]


def test_feeds_have_the_names_of_the_artifact() -> None:
    signature = Signature((replace(IMAGE, name="a"), replace(META, name="b")), ())
    assert signature.feeds({"image": 1, "meta": 2}) == {"a": 1, "b": 2}
