"""The images that artifacts are judged on."""

from typing import Any

import numpy as np
import pytest

from attn_export.exporter.artifacts import only_input
from attn_export.exporter.errors import InputError
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import MOST_REAL, Batch, batches
from attn_export.exporter.network.images import KINDS, POOL, REAL, STRESS
from attn_export.exporter.validation.matching import _real
from tests.validation.exporting import ALL_AXES


def shapes_of(made: list[Batch]) -> list[tuple[int, ...]]:
    return [batch.shapes[0] for batch in made]


def test_an_open_batch_is_judged_at_one_two_and_more() -> None:
    made = batches(opened(only_input((3, 32, 32))))
    assert [shape[0] for shape in shapes_of(made)] == [1, 2, 5, 5]
    assert len({shape[1:] for shape in shapes_of(made)}) == 1
    assert len({name for batch in made[2:] for name in batch.names}) == len(POOL), "the largest covers the pool"
    assert {kind for batch in made[:2] for kind in batch.kinds} == set(KINDS), "the smaller hold ordinary images"


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 16])
def test_a_fixed_batch_is_judged_as_it_is(batch: int) -> None:
    made = batches(opened(only_input((3, 32, 32)), (), batch))
    assert {shape[0] for shape in shapes_of(made)} == {batch}
    assert {kind for b in made for kind in b.kinds} == set(POOL)


def test_an_engine_is_judged_at_every_shape_that_it_is_tuned_for() -> None:
    judged = [(1, 3, 32, 32), (4, 3, 64, 48), (8, 3, 32, 32)]
    made = batches(opened(only_input((3, 32, 32)), (), 2), [(shape,) for shape in judged])
    assert {*judged, (2, 3, 32, 32)} == set(shapes_of(made))
    assert {name for b in made if b.sizes[0] == (3, 32, 32) for name in b.names} == {
        f"3x32x32/{i}" for i in range(len(POOL))
    }


@pytest.mark.parametrize("largest", [1, 2, 3])
def test_an_engine_for_small_batches_is_judged_on_the_whole_pool(largest: int) -> None:
    made = batches(opened(only_input((3, 32, 32))), [((n, 3, 32, 32),) for n in range(1, largest + 1)])
    taken = [batch for batch in made if len(batch) <= largest]
    assert {kind for batch in taken for kind in batch.kinds} == set(POOL)
    assert {len(batch) for batch in made} >= {1, 2, 5}


def test_the_same_name_is_the_same_image_whatever_else_is_judged() -> None:
    seen: dict[str, np.ndarray[Any, Any]] = {}
    for made in (
        batches(opened(only_input((3, 32, 32)), ALL_AXES, 1)),
        batches(opened(only_input((3, 32, 32)), (), 3)),
        batches(opened(only_input((3, 32, 32))), [((2, 3, 40, 32),), ((16, 3, 32, 32),)]),
        batches(opened(only_input((3, 32, 32))), [((1, 3, 32, 32),)]),
    ):
        for batch in made:
            for name, image in zip(batch.names, batch.arrays["input"], strict=True):
                assert np.array_equal(seen.setdefault(name, image), image)
    assert len(seen) > len(POOL)


def test_batches_are_permuted() -> None:
    first, second = (batch.names for batch in batches(opened(only_input((3, 32, 32))))[2:4])
    assert list(first) != sorted(first)
    assert list(second) != sorted(second)


def test_real_images_are_in_the_pool_but_not_too_many_of_them() -> None:
    real = np.random.default_rng(0).standard_normal((100, 3, 32, 32), dtype=np.float32)
    made = batches(opened(only_input((3, 32, 32))), real={"input": real})
    used = {n: i for b in made for n, k, i in zip(b.names, b.kinds, b.arrays["input"], strict=True) if k == REAL}
    assert len(used) == MOST_REAL
    assert any(np.array_equal(image, real[0]) for image in used.values())
    assert any(np.array_equal(image, real[-1]) for image in used.values())
    few = batches(opened(only_input((3, 32, 32))), real={"input": real[:2]})
    assert len({n for b in few for n, k in zip(b.names, b.kinds, strict=True) if k == REAL}) == 2


def test_quantized_files_are_run_on_all_real_images_that_fill_their_batch() -> None:
    images = {"input": np.zeros((5, 3, 8, 8), np.float32)}
    assert [len(batch) for batch in _real(images, 4, least=1)] == [4, 1]
    assert [len(batch) for batch in _real(images, 4, least=4)] == [4]
    with pytest.raises(InputError, match="5 images were given, and the file takes 8 at once"):
        _real(images, 8, least=8)


def test_what_is_no_image_gets_no_spectrum_of_photographs() -> None:
    made = batches(opened(only_input((5,))))
    assert {shape[1:] for shape in shapes_of(made)} == {(5,)}
    assert "natural" not in {kind for batch in made for kind in batch.kinds}


def test_open_sizes_are_judged_away_from_the_networks_own() -> None:
    others = {shape[2:] for shape in shapes_of(batches(opened(only_input((3, 224, 224)), ALL_AXES, 1)))} - {(224, 224)}
    assert len(others) >= 2
    assert all(height != width for height, width in others), "a square hides swapped axes"
    assert {shape[2] for shape in shapes_of(batches(opened(only_input((3, 32, 32)), ("batch", "width"), 1)))} == {32}


def test_images_are_the_same_in_every_run_and_differ_from_each_other() -> None:
    first, second = batches(opened(only_input((3, 32, 32)))), batches(opened(only_input((3, 32, 32))))
    assert all(
        np.array_equal(a.arrays["input"], b.arrays["input"]) and a.kinds == b.kinds
        for a, b in zip(first, second, strict=True)
    )
    images = list({name: i for b in first for name, i in zip(b.names, b.arrays["input"], strict=True)}.values())
    assert len(images) == len(POOL)
    assert all(not np.array_equal(a, b) for i, a in enumerate(images) for b in images[:i])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 7, 20), (3, 224, 160), (2, 1, 1)])
def test_images_look_normalized_whatever_their_size(kind: str, shape: tuple[int, int, int]) -> None:
    image = KINDS[kind](shape, np.random.default_rng(0))
    assert image.shape == shape
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    if np.prod(shape) > 100:
        assert abs(image.mean()) < 0.3
        assert 0.7 < image.std() < 1.3


def test_natural_images_are_smoother_than_noise() -> None:
    natural, noise = (KINDS[kind]((3, 64, 64), np.random.default_rng(0)) for kind in ("natural", "noise"))
    assert np.abs(np.diff(natural)).mean() < 0.6 * np.abs(np.diff(noise)).mean()


@pytest.mark.parametrize("kind", STRESS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 7, 20), (2, 1, 1), (5,)])
def test_extreme_images_are_numbers_of_the_asked_shape(kind: str, shape: tuple[int, int, int]) -> None:
    image = STRESS[kind](shape, np.random.default_rng(0))
    assert image.shape == shape
    assert image.dtype == np.float32
    assert np.isfinite(image).all()


def test_extreme_images_are_extreme() -> None:
    made = {kind: draw((3, 64, 64), np.random.default_rng(0)) for kind, draw in STRESS.items()}
    assert made["large"].std() > 5
    assert 0 < made["tiny"].std() < 0.01
    assert not made["zeros"].any()
    assert (made["impulse"] != 0).sum() == 3, "one pixel of three channels"
    assert len(np.unique(made["saturated"])) == 2
