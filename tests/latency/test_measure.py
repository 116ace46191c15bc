"""Who has turns, how many, and when it is enough. How fast anything is, no test may depend on."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from attn_export.exporter.latency.bootstrap import fewest_rounds
from attn_export.exporter.latency.measure import FEWEST_SAMPLES, INFERENCES, measure
from attn_export.exporter.records.latency import Schedule
from tests.latency.fakes import IMAGES, Fake, Scripted

LONG_ENOUGH = 60.0  # seconds that no test reaches: rounds decide
Entries = list[tuple[str, str, int]]


def rounds_of(most: int, **changes: Any) -> Schedule:
    """So many rounds, whatever the intervals."""
    return Schedule(**{"seconds": LONG_ENOUGH, "fewest_rounds": most, "most_rounds": most, **changes})


def noisy(seconds: float, spread: float, seed: int) -> Callable[[int], float]:
    draw = random.Random(seed)
    return lambda _: seconds * (1 + draw.uniform(-spread, spread))


def order_of(diary: Entries) -> list[str]:
    return [title for title, what, _ in diary if what == "timed"]


# Turns.


def test_everyone_has_a_turn_in_every_round() -> None:
    diary: Entries = []
    measure([Scripted(title, diary=diary) for title in "abc"], IMAGES, rounds_of(10, inferences=2))
    order = order_of(diary)
    assert len(order) == 30
    assert all(sorted(order[i : i + 3]) == ["a", "b", "c"] for i in range(0, 30, 3))
    assert {count for _, what, count in diary if what == "timed"} == {2}


def test_the_order_of_turns_is_random_and_the_seed_decides_it() -> None:
    orders = []
    for seed in (0, 0, 1):
        diary: Entries = []
        measure([Scripted(title, diary=diary) for title in "abc"], IMAGES, rounds_of(12, inferences=1, seed=seed))
        orders.append(order_of(diary))
    assert orders[0] == orders[1] != orders[2]
    assert len({tuple(orders[0][i : i + 3]) for i in range(0, 36, 3)}) > 2, "the same order again and again is a bias"


def test_all_are_warm_before_the_first_round() -> None:
    diary: Entries = []
    measure([Scripted(title, diary=diary) for title in "ab"], IMAGES, rounds_of(4))
    kinds = [what for _, what, _ in diary]
    assert kinds == sorted(kinds, reverse=True), "warm, and then timed"
    assert {title for title, what, _ in diary if what == "warm"} == {"a", "b"}


def test_everyone_gets_the_batch_once_and_lets_go_of_it() -> None:
    everyone = [Scripted("a"), Scripted("b")]
    measure(everyone, IMAGES, rounds_of(3))
    assert [(timed.loaded, timed.closed) for timed in everyone] == [([IMAGES["input"].shape], 1)] * 2


def test_an_interruption_is_let_through_and_everyone_lets_go() -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    timed = Scripted("a")
    with pytest.raises(KeyboardInterrupt):
        measure([timed], IMAGES, rounds_of(5), interrupt)
    assert timed.closed == 1


def test_runtimes_of_this_process_are_taken_as_they_are() -> None:
    runtime = Fake("a")
    (timing,) = measure([runtime], IMAGES, rounds_of(2, inferences=3)).timings
    assert (timing.runtime, timing.samples, timing.process, timing.clock) == ("fake", 6, "shared", "host")
    assert runtime.diary[0] == ("a", "upload")
    assert ("a", "download") not in runtime.diary


@pytest.mark.parametrize(("seconds", "expected"), [(1e-6, INFERENCES[1]), (0.004, 5), (0.015, 3), (0.4, 1)])
def test_turns_are_short_and_long_enough(seconds: float, expected: int) -> None:
    measured = measure([Scripted("fast", 1e-6), Scripted("slow", seconds)], IMAGES, rounds_of(2))
    assert measured.run.inferences == expected, "the slowest decides for all"
    assert {len(turn) for timing in measured.timings for turn in timing.rounds_ms} == {expected}


# Enough.


def at_once(**changes: Any) -> Schedule:
    """Ends when the interval is known, however soon: what is scripted takes no time."""
    return Schedule(**{"seconds": LONG_ENOUGH, "fewest_seconds": 0.0, **changes})


def test_it_goes_on_for_longer_than_what_disturbs_a_machine() -> None:
    pair = [Scripted("a", pause=0.001), Scripted("b", pause=0.001)]
    longer = measure(pair, IMAGES, Schedule(seconds=LONG_ENOUGH, fewest_seconds=0.4, inferences=20)).run
    assert longer.seconds >= 0.4
    assert longer.rounds > fewest_rounds()


def test_the_time_that_was_given_is_kept_even_if_it_is_shorter() -> None:
    pair = [Scripted("a", pause=0.001), Scripted("b", pause=0.001)]
    run = measure(pair, IMAGES, Schedule(seconds=0.05, fewest_seconds=60.0, inferences=1)).run
    assert run.seconds < 30


def test_it_ends_when_the_interval_is_known_well_enough() -> None:
    quiet = measure([Scripted("a"), Scripted("b", 0.002)], IMAGES, at_once(inferences=20)).run
    assert quiet.reached
    assert quiet.interval == pytest.approx(0.0)
    assert quiet.rounds == fewest_rounds()


def test_noise_takes_more_rounds() -> None:
    def rounds(spread: float) -> int:
        pair = [Scripted("a", noisy(0.001, spread, 1)), Scripted("b", noisy(0.001, spread, 2))]
        run = measure(pair, IMAGES, at_once(inferences=20)).run
        assert run.reached
        assert run.interval <= 0.02
        return run.rounds

    assert fewest_rounds() <= rounds(0.01) < rounds(0.1) < rounds(0.3)


def test_a_finer_interval_takes_more_rounds() -> None:
    def rounds(interval: float) -> int:
        pair = [Scripted("a", noisy(0.001, 0.2, 1)), Scripted("b", noisy(0.001, 0.2, 2))]
        return measure(pair, IMAGES, at_once(interval=interval)).run.rounds

    assert rounds(0.1) < rounds(0.03) < rounds(0.01)


def test_an_interval_that_cannot_be_had_is_not_claimed() -> None:
    pair = [Scripted("a", noisy(0.001, 0.9, 1)), Scripted("b", noisy(0.001, 0.9, 2))]
    run = measure(pair, IMAGES, Schedule(interval=1e-6, seconds=LONG_ENOUGH, most_rounds=50)).run
    assert (run.rounds, run.reached) == (50, False)
    assert run.interval > 1e-6


def test_a_p99_needs_samples_whatever_the_interval() -> None:
    run = measure([Scripted("a"), Scripted("b")], IMAGES, at_once(inferences=1)).run
    assert run.rounds >= FEWEST_SAMPLES


def test_the_fewest_rounds_are_run_however_long_they_take() -> None:
    schedule = Schedule(seconds=1e-9, fewest_rounds=4, most_rounds=100, inferences=1)
    assert measure([Scripted("a", pause=0.01)], IMAGES, schedule).run.rounds == 4


def test_no_round_starts_after_the_time_is_over() -> None:
    schedule = Schedule(interval=0.0, seconds=0.1, fewest_rounds=1, most_rounds=1000, inferences=1)
    pair = [Scripted("a", noisy(0.02, 0.5, 1), pause=0.02), Scripted("b", noisy(0.02, 0.5, 2), pause=0.02)]
    run = measure(pair, IMAGES, schedule).run
    assert 1 <= run.rounds <= 3
    assert not run.reached


def test_with_too_few_rounds_nothing_is_reported() -> None:
    few = fewest_rounds() - 1
    measured = measure([Scripted("a"), Scripted("b", 0.002)], IMAGES, rounds_of(few, inferences=20))
    assert not measured.run.reached
    assert measured.timings[1].verdict == "can't tell"
    assert measure([Scripted("a"), Scripted("b", 0.002)], IMAGES, rounds_of(few + 1)).timings[1].verdict == "slower"


def test_one_alone_is_timed_until_its_median_is_known() -> None:
    run = measure([Scripted("a", noisy(0.001, 0.3, 1))], IMAGES, at_once(inferences=20)).run
    assert run.reached
    assert 0 < run.interval <= 0.02


@pytest.mark.parametrize(
    "schedule", [rounds_of(5), Schedule(seconds=1e-9, fewest_rounds=3), Schedule(seconds=0.05, fewest_rounds=1)]
)
def test_the_finished_share_grows_to_one_or_to_where_it_was_enough(schedule: Schedule) -> None:
    shares: list[float] = []
    pair = [Scripted("a", noisy(0.001, 0.5, 1), pause=0.001), Scripted("b", noisy(0.001, 0.5, 2), pause=0.001)]
    measured = measure(pair, IMAGES, schedule, shares.append)
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1] <= 1.0
    assert shares[-1] == 1.0 or measured.run.reached


def test_what_is_watched_is_watched_between_rounds() -> None:
    diary: Entries = []
    measure(
        [Scripted(title, diary=diary) for title in "ab"],
        IMAGES,
        rounds_of(3, inferences=1),
        between_rounds=lambda: diary.append(("", "between", 0)),
    )
    timed = [what for _, what, _ in diary if what != "warm"]
    assert timed == ["timed", "timed", "between"] * 3


# What comes of it.


def test_results_come_in_the_order_given_and_say_what_ran() -> None:
    slow = Scripted("slow", 0.02)
    slow.artifact, slow.device, slow.process = "m.onnx", "cuda", "own"
    fast, other = measure([Scripted("fast", 0.001), slow], IMAGES, rounds_of(10, inferences=4)).timings
    assert (fast.runtime, fast.verdict, fast.ratio, fast.ratio_interval) == ("fast", "baseline", 1.0, (1.0, 1.0))
    assert (other.runtime, other.provenance, other.artifact, other.process) == ("slow", "made up", "m.onnx", "own")
    assert (other.baseline, other.device, other.baseline_device) == ("fast", "cuda", "cpu")
    assert (other.batch, other.samples, other.open_seconds) == (2, 40, 0.25)
    assert other.median_ms == other.p90_ms == other.p99_ms == other.worst_ms == pytest.approx(20)
    assert other.median_interval_ms == pytest.approx((20, 20))
    assert other.variation == pytest.approx(0)
    assert other.images_per_second == pytest.approx(100)
    assert other.ratio == pytest.approx(20)
    assert other.verdict == "slower"
    assert other.rounds_ms == ((20.0,) * 4,) * 10
    assert other.device_median_ms is None


def test_half_the_time_is_half_the_ratio_from_either_side() -> None:
    for pair, ratio, verdict in (((0.01, 0.02), 2.0, "slower"), ((0.02, 0.01), 0.5, "faster")):
        made = measure([Scripted("a", pair[0]), Scripted("b", pair[1])], IMAGES, rounds_of(8)).timings
        assert made[1].ratio == pytest.approx(ratio)
        assert made[1].verdict == verdict


def test_a_drift_that_hits_all_does_not_count() -> None:
    def drifting(seconds: float) -> Callable[[int], float]:
        return lambda i: seconds * (1 + i / 10)

    made = measure([Scripted("a", drifting(0.01)), Scripted("b", drifting(0.011))], IMAGES, rounds_of(30)).timings
    assert made[1].ratio_interval == pytest.approx((1.1, 1.1))
    assert made[1].median_interval_ms[1] > 1.5 * made[1].median_interval_ms[0]
