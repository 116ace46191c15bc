"""Who runs when and how often, and the numbers that come of it. How fast anything is, no test may depend on."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn_export.exporter.artifacts import Signature
from attn_export.exporter.latency import Schedule, Timing, measure
from attn_export.exporter.latency.statistics import paired_ratio, percentile_ms
from attn_export.exporter.runtimes import Runtime, Settings
from attn_export.exporter.runtimes.base import Array, Arrays

SIGNATURE = Signature("input", (2, 3, 4, 4), (), ("output",))
IMAGES = np.zeros((2, 3, 4, 4), np.float32)
LONG_ENOUGH = 60.0  # seconds that no test reaches: rounds decide
Diary = list[tuple[str, str]]


class Fake(Runtime):
    """Sleeps, and writes into a diary, shared with others, what it was asked to do."""

    name = "fake"
    provenance = "made up"

    def __init__(self, title: str, seconds: float = 0.0, diary: Diary | None = None) -> None:
        super().__init__(SIGNATURE, Settings(threads=1))
        self.title, self.seconds = title, seconds
        self.diary: Diary = [] if diary is None else diary
        self.open_seconds = 0.25

    def _open(self) -> None:
        pass

    def upload(self, arrays: Arrays) -> Mapping[str, Any]:
        self.diary.append((self.title, "upload"))
        assert list(arrays) == ["input"]
        return arrays

    def infer(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        self.diary.append((self.title, "infer"))
        if self.seconds:
            time.sleep(self.seconds)
        return inputs

    def synchronize(self) -> None:
        self.diary.append((self.title, "synchronize"))

    def download(self, outputs: Mapping[str, Any]) -> dict[str, Array]:
        self.diary.append((self.title, "download"))
        return dict(outputs)


def rounds_of(most: int, **changes: Any) -> Schedule:
    return Schedule(**{"seconds": LONG_ENOUGH, "fewest_rounds": 1, "most_rounds": most, **changes})


def turns(diary: Diary, inferences: int) -> list[str]:
    """Who had the turns, in order."""
    inferred = [title for title, what in diary if what == "infer"]
    return inferred[:: 1 + inferences]


def test_everyone_has_a_turn_in_every_round() -> None:
    diary: Diary = []
    measure([Fake(title, diary=diary) for title in "abc"], IMAGES, rounds_of(10, inferences=2))
    order = turns(diary, 2)
    assert len(order) == 30
    assert all(sorted(order[i : i + 3]) == ["a", "b", "c"] for i in range(0, 30, 3))


def test_turns_are_not_interrupted_and_begin_with_an_inference_that_is_not_timed() -> None:
    diary: Diary = []
    (timing, _) = measure([Fake(title, diary=diary) for title in "ab"], IMAGES, rounds_of(4, inferences=3))
    inferred = [title for title, what in diary if what == "infer"]
    assert all(len(set(inferred[i : i + 4])) == 1 for i in range(0, len(inferred), 4))
    assert len(inferred) == 2 * 4 * (1 + 3)
    assert timing.samples == 4 * 3


def test_the_order_of_turns_is_random_and_the_seed_decides_it() -> None:
    orders = []
    for seed in (0, 0, 1):
        diary: Diary = []
        measure([Fake(title, diary=diary) for title in "abc"], IMAGES, rounds_of(12, inferences=1, seed=seed))
        orders.append(turns(diary, 1))
    assert orders[0] == orders[1] != orders[2]
    assert len({tuple(orders[0][i : i + 3]) for i in range(0, 36, 3)}) > 2, "the same order again and again is a bias"


def test_every_inference_is_waited_for_and_copies_stay_outside() -> None:
    diary: Diary = []
    measure([Fake("a", diary=diary)], IMAGES, rounds_of(2, inferences=2))
    assert diary == [("a", "upload"), *[("a", "infer"), ("a", "synchronize")] * 6]


def test_the_fewest_rounds_are_run_however_long_they_take() -> None:
    diary: Diary = []
    measure([Fake("a", 0.01, diary)], IMAGES, Schedule(seconds=1e-9, fewest_rounds=4, most_rounds=100, inferences=1))
    assert len(turns(diary, 1)) == 4


def test_no_round_starts_after_the_time_is_over() -> None:
    diary: Diary = []
    measure([Fake("a", 0.02, diary)], IMAGES, Schedule(seconds=0.1, fewest_rounds=1, most_rounds=1000, inferences=1))
    assert 1 <= len(turns(diary, 1)) <= 4


def test_the_most_rounds_are_not_exceeded() -> None:
    diary: Diary = []
    measure([Fake("a", diary=diary)], IMAGES, rounds_of(7, inferences=1))
    assert len(turns(diary, 1)) == 7


def test_no_seconds_at_all_mean_the_fewest_rounds() -> None:
    diary: Diary = []
    measure([Fake("a", diary=diary)], IMAGES, Schedule(seconds=0, fewest_rounds=2, inferences=1))
    assert len(turns(diary, 1)) == 2


@pytest.mark.parametrize(
    "schedule", [rounds_of(5), Schedule(seconds=1e-9, fewest_rounds=3), Schedule(seconds=0.05, fewest_rounds=1)]
)
def test_the_finished_share_grows_to_one(schedule: Schedule) -> None:
    shares: list[float] = []
    measure([Fake("a", 0.001), Fake("b", 0.001)], IMAGES, schedule, shares.append)
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] == 1.0


def test_an_interruption_is_let_through() -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure([Fake("a")], IMAGES, rounds_of(5), interrupt)


def test_twice_the_time_is_about_twice_the_ratio() -> None:
    fast, slow = Fake("fast", 0.01), Fake("slow", 0.02)
    first, second = measure([fast, slow], IMAGES, rounds_of(6, inferences=2))
    assert first.ratio == 1.0
    assert 1.3 < second.ratio < 3, "logic, not speed: half and double would be far outside"
    (reversed_slow, reversed_fast) = measure([slow, fast], IMAGES, rounds_of(6, inferences=2))
    assert reversed_slow.ratio == 1.0
    assert 0.33 < reversed_fast.ratio < 0.77


def test_results_come_in_the_order_given_and_say_what_ran() -> None:
    fast, slow = measure([Fake("fast", 0.001), Fake("slow", 0.02)], IMAGES, rounds_of(3, inferences=4))
    assert fast.median_ms < slow.median_ms
    assert isinstance(slow, Timing)
    assert (slow.runtime, slow.provenance, slow.device, slow.baseline) == ("fake", "made up", "cpu", "fake")
    assert slow.baseline_device == "cpu"
    assert (slow.batch, slow.samples, slow.open_seconds) == (2, 12, 0.25)
    assert 20 <= slow.median_ms <= slow.p90_ms <= slow.p99_ms
    assert slow.images_per_second == pytest.approx(2 / (slow.median_ms / 1e3))


def test_a_ratio_knows_the_devices_of_both_sides() -> None:
    here, there = Fake("here"), Fake("there")
    there.device = "cuda"  # made up: nothing runs there
    first, second = measure([here, there], IMAGES, rounds_of(2))
    assert [(t.device, t.baseline_device) for t in (first, second)] == [("cpu", "cpu"), ("cuda", "cpu")]


SECONDS = st.floats(min_value=1e-6, max_value=1e3)
TURNS = st.lists(SECONDS, min_size=1, max_size=5)
ROUNDS = st.lists(st.tuples(TURNS, TURNS), min_size=1, max_size=12)


@given(st.lists(SECONDS, min_size=1, max_size=50))
def test_percentiles_are_milliseconds_between_smallest_and_largest(seconds: list[float]) -> None:
    p0, p50, p90, p99, p100 = (percentile_ms(seconds, share) for share in (0, 50, 90, 99, 100))
    assert p0 == pytest.approx(min(seconds) * 1e3)
    assert p100 == pytest.approx(max(seconds) * 1e3)
    slack = 1 + 1e-9
    assert p0 <= p50 * slack <= p90 * slack**2 <= p99 * slack**3 <= p100 * slack**4


def test_percentiles_of_known_numbers() -> None:
    seconds = [i / 1000 for i in range(101)]
    assert [percentile_ms(seconds, share) for share in (50, 90, 99)] == pytest.approx([50, 90, 99])


@given(ROUNDS)
def test_something_takes_as_long_as_itself(rounds: list[tuple[list[float], list[float]]]) -> None:
    own = [a for a, _ in rounds]
    assert paired_ratio(own, own) == 1.0


@given(ROUNDS, st.floats(min_value=0.01, max_value=100))
def test_the_ratio_scales_with_the_times(rounds: list[tuple[list[float], list[float]]], factor: float) -> None:
    a, b = [a for a, _ in rounds], [b for _, b in rounds]
    scaled = [[s * factor for s in turn] for turn in a]
    assert paired_ratio(scaled, b) == pytest.approx(factor * paired_ratio(a, b))


@given(ROUNDS, st.lists(st.floats(min_value=0.01, max_value=100), min_size=12, max_size=12))
def test_a_drift_that_hits_both_sides_of_a_round_does_not_count(
    rounds: list[tuple[list[float], list[float]]], drift: list[float]
) -> None:
    a, b = [a for a, _ in rounds], [b for _, b in rounds]
    drifted_a = [[s * d for s in turn] for turn, d in zip(a, drift, strict=False)]
    drifted_b = [[s * d for s in turn] for turn, d in zip(b, drift, strict=False)]
    assert paired_ratio(drifted_a, drifted_b) == pytest.approx(paired_ratio(a, b))


def test_one_bad_round_does_not_move_the_ratio() -> None:
    assert paired_ratio([[2.0], [2.0], [900.0]], [[1.0], [1.0], [1.0]]) == 2.0


def test_rounds_without_a_partner_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([[1.0], [1.0]], [[1.0]])
