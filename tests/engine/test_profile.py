"""Every axis of every input gets a range, or the error says which one doesn't and what to do."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.engine.log import Log, uncollected
from attn_export.exporter.engine.profile import DEFAULT_MAX_BATCH, Sizes, add_profile, make_profile
from attn_export.exporter.errors import UsageError
from attn_export.exporter.records.engine import Range, covers, shapes_of

DIMS = st.lists(st.one_of(st.integers(1, 64), st.sampled_from(["N", "height", "width", "seq"]), st.none()), max_size=5)
TRIPLES = st.tuples(*[st.integers(1, 64)] * 3).map(lambda three: tuple(sorted(three)))
SQUARES = TRIPLES.map(lambda three: tuple((size, size) for size in three))


@given(dims=DIMS.map(tuple), batch=st.none() | TRIPLES, images=st.none() | SQUARES, usual=st.integers(1, 32))
def test_every_axis_is_covered_or_named(dims: tuple[Any, ...], batch: Any, images: Any, usual: int) -> None:
    refused = None
    try:
        made = make_profile({"the input": dims}, Sizes(batch, images), usual)["the input"]
    except UsageError as error:
        refused = error
    if refused is not None and images and len(dims) != 4 and "has no such input" in refused.message:
        return  # there is no image among the inputs
    if refused is not None:
        assert "'the input'" in refused.message
        assert any(f"axis {axis} " in refused.message for axis in range(len(dims)))
        assert refused.hint.startswith(("Give", "Leave", "Export"))
        return
    assert len(made.min) == len(made.opt) == len(made.max) == len(dims)
    for axis, dim in enumerate(dims):
        low, middle, high = made.min[axis], made.opt[axis], made.max[axis]
        assert 1 <= low <= middle <= high
        if isinstance(dim, int):
            assert low == middle == high == dim
    assert all(made.covers(shape) for shape in (made.min, made.opt, made.max))


@given(dims=st.tuples(st.just("N"), *[st.integers(1, 64)] * 3), usual=st.integers(1, 64))
def test_an_open_batch_needs_no_option(dims: tuple[Any, ...], usual: int) -> None:
    made = make_profile({"x": dims}, Sizes(), usual)["x"]
    assert (made.min[0], made.opt[0]) == (1, usual)
    assert made.max[0] == max(usual, DEFAULT_MAX_BATCH)


def test_fixed_axes_need_nothing() -> None:
    assert shapes_of(make_profile({"x": (2, 3, 8, 8)}, Sizes()), ["x"]) == (((2, 3, 8, 8),),)


def test_an_input_without_axes_needs_nothing() -> None:
    assert shapes_of(make_profile({"x": ()}, Sizes()), ["x"]) == (((),),)


@pytest.mark.parametrize(
    ("dims", "sizes", "says"),
    [
        (("N", 3, "height", 8), Sizes(), ["axis 2", "'x'", "height"]),
        (("N", 3, 8, "width"), Sizes(), ["axis 3", "'x'", "width"]),
        (("N", 3, None, 8), Sizes(), ["axis 2", "'x'", "unnamed"]),
    ],
)
def test_open_height_and_width_ask_for_sizes(dims: tuple[Any, ...], sizes: Sizes, says: list[str]) -> None:
    with pytest.raises(UsageError, match="no size is given") as caught:
        make_profile({"x": dims}, sizes)
    assert all(word in caught.value.message for word in says)
    assert "--size" in caught.value.hint


def test_sizes_of_images_want_an_image() -> None:
    with pytest.raises(UsageError, match="has no such input"):
        make_profile({"x": ("N", 12)}, Sizes(images=((8, 8),) * 3))
    assert make_profile({"x": ("N", 12), "y": ("N", 3, 8, 8)}, Sizes(images=((8, 8),) * 3))["y"].opt == (1, 3, 8, 8)


@pytest.mark.parametrize("dims", [("N", "channels", 8, 8), ("N", "seq"), ("N", 3, "seq"), (1, 2, 3, 4, "depth")])
def test_any_other_axis_gets_its_size_by_name(dims: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError, match="no size is given") as caught:
        make_profile({"x": dims}, Sizes(images=((8, 8),) * 3))
    (name,) = (dim for dim in dims[1:] if isinstance(dim, str))
    assert f"--size {name}=8,16,32" in caught.value.hint
    made = make_profile({"x": dims}, Sizes(named=((name, (4, 5, 6)),)))["x"]
    place = dims.index(name)
    assert (made.min[place], made.opt[place], made.max[place]) == (4, 5, 6)


def test_an_axis_without_a_name_has_to_be_fixed() -> None:
    with pytest.raises(UsageError, match="no size is given") as caught:
        make_profile({"x": ("N", None)}, Sizes())
    assert caught.value.hint == "Export the network with this axis static."


def test_a_size_of_an_axis_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="no dynamic axis is called so") as caught:
        make_profile({"x": ("N", "seq")}, Sizes(named=(("length", (4, 5, 6)),)))
    assert "seq" in caught.value.hint


def test_sizes_of_images_are_for_the_inputs_whose_size_is_dynamic() -> None:
    inputs: dict[str, tuple[Dim, ...]] = {"left": ("N", 3, "height", "width"), "right": ("N", 3, 8, 8)}
    made = make_profile(inputs, Sizes(images=((8, 8), (8, 8), (16, 16))))
    assert (made["left"].max, made["right"].max) == ((8, 3, 16, 16), (8, 3, 8, 8))


def test_a_fixed_batch_keeps_its_number() -> None:
    assert make_profile({"x": (4, 3, 8, 8)}, Sizes((4, 4, 4)))["x"] == Range(*[(4, 3, 8, 8)] * 3)


@pytest.mark.parametrize(
    ("sizes", "option"), [(Sizes((1, 2, 4)), "--profile-batch"), (Sizes(images=((8, 8), (8, 8), (16, 16))), "--size")]
)
def test_a_fixed_axis_has_no_other_size(sizes: Sizes, option: str) -> None:
    with pytest.raises(UsageError, match=f"{option} asks for .* is static") as caught:
        make_profile({"x": (1, 3, 8, 8)}, sizes)
    assert option in caught.value.hint
    assert caught.value.exit_code == 2


def test_sizes_are_for_all_inputs_that_are_images() -> None:
    sizes = Sizes((1, 2, 4), ((8, 8), (16, 12), (32, 24)))
    made = make_profile({"x": ("N", 3, "h", "w"), "mask": ("N", 1, "h", "w"), "age": ("N", 1)}, sizes)
    assert made["x"].opt == (2, 3, 16, 12)
    assert made["mask"] == Range((1, 1, 8, 8), (2, 1, 16, 12), (4, 1, 32, 24))
    assert made["age"] == Range((1, 1), (2, 1), (4, 1))


@pytest.mark.parametrize(
    ("sizes", "axis"),
    [
        (Sizes((4, 1, 8)), 0),
        (Sizes((1, 9, 8)), 0),
        (Sizes((0, 1, 1)), 0),
        (Sizes((-1, 1, 2)), 0),
        (Sizes(images=((16, 8), (8, 8), (8, 8))), 2),
        (Sizes(images=((8, 8), (8, 16), (16, 8))), 3),
        (Sizes(images=((0, 8), (8, 8), (8, 8))), 2),
    ],
)
def test_sizes_have_to_grow(sizes: Sizes, axis: int) -> None:
    with pytest.raises(UsageError, match=f"axis {axis} of the input 'x'") as caught:
        make_profile({"x": ("N", 3, "h", "w")}, Sizes(sizes.batch, sizes.images or ((8, 8),) * 3))
    assert "min" in caught.value.hint


def test_a_usual_batch_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="axis 0 of the input 'x'"):
        make_profile({"x": ("N", 3)}, Sizes(), 0)


def test_ranges_know_what_they_cover() -> None:
    made = Range((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 16, 16))
    assert made.covers((3, 3, 10, 16))
    assert not made.covers((5, 3, 10, 16))
    assert not made.covers((1, 3, 8))
    several = {"x": made, "y": Range((1, 4), (2, 4), (4, 4))}
    assert shapes_of(several, ["y", "x"])[2] == ((4, 4), (4, 3, 16, 16))
    assert covers(several, ["y", "x"], [(2, 4), (2, 3, 8, 8)])
    assert not covers(several, ["y", "x"], [(2, 4), (5, 3, 8, 8)])


# What TensorRT makes of them.


def builder_of(rtx: Backend) -> tuple[Any, ...]:
    log = Log()
    logger = log.logger(rtx.trt)
    with uncollected():
        builder = rtx.trt.Builder(logger)
    return log, logger, builder, builder.create_builder_config()


@pytest.mark.parametrize(
    "wrong",
    [
        Range((4, 3), (1, 3), (8, 3)),
        Range((1, 3), (8, 3), (4, 3)),
        Range((1, 3), (2,), (4, 3)),
        Range((-1, 3), (2, 3), (4, 3)),
    ],
)
def test_a_profile_that_tensorrt_refuses_is_refused_in_words_of_ours(rtx: Backend, wrong: Range) -> None:
    _log, _logger, builder, config = builder_of(rtx)
    with pytest.raises(UsageError, match="profile") as caught:
        add_profile(builder, config, {"x": wrong})
    assert "x" in caught.value.message
    assert "min" in caught.value.hint


@settings(max_examples=20, deadline=None)
@given(batch=TRIPLES, images=SQUARES)
def test_tensorrt_takes_every_profile_that_is_made(batch: Any, images: Any) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    log, _logger, builder, config = builder_of(Backend("tensorrt-rtx", trt))
    add_profile(builder, config, make_profile({"x": ("N", 3, "h", "w"), "v": ("N", 7)}, Sizes(batch, images)))
    assert config.num_optimization_profiles == 1
    assert log.errors == []
