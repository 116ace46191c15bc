import pytest

from attn_export.models.attention.width import make_divisible, squeeze_width


@pytest.mark.parametrize(
    ("channels", "reduction", "width"),
    [(64, 16, 4), (64, 1, 64), (63, 16, 3), (17, 16, 1), (16, 16, 1), (15, 16, 1), (1, 99, 1)],
)
def test_the_hidden_layer_is_the_quotient_and_at_least_one(channels, reduction, width):
    assert squeeze_width(channels, reduction) == width


@pytest.mark.parametrize(
    ("width", "rounded"), [(4, 8), (8, 8), (18, 24), (22, 24), (24, 24), (28, 32), (30, 32), (120, 120), (168, 168)]
)
def test_rounding_is_to_the_nearest_multiple_of_eight(width, rounded):
    assert make_divisible(width, 8) == rounded


def test_rounding_never_loses_more_than_a_tenth():
    for width in range(1, 1000):
        rounded = make_divisible(width, 8)
        assert rounded % 8 == 0
        assert rounded >= 0.9 * width
