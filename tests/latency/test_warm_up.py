"""Until nothing gets faster any more."""

import pytest

from attn_export.exporter.latency.warm_up import CHUNKS, MOST_IN_A_CHUNK, warm_up
from tests.latency.fakes import Scripted


class Cooling(Scripted):
    """Gets faster for so many turns."""

    def __init__(self, turns: int, pause: float = 0.0) -> None:
        super().__init__("cooling", pause=pause)
        self.left = turns
        self.seconds = self.next_seconds

    def next_seconds(self, _: int) -> float:
        self.left = max(0, self.left - 1)
        return 0.01 * 1.2 ** min(self.left, 1000)


def test_what_is_steady_is_warm_after_twice_the_chunks() -> None:
    warmed, seconds = warm_up(Scripted("a", 0.01), most_seconds=60)
    assert warmed.stable
    assert warmed.inferences == 1 + 2 * CHUNKS * 2, "one to see how long it takes, then chunks of two"
    assert seconds == pytest.approx(0.01)


def test_what_gets_faster_is_waited_for() -> None:
    warmed, seconds = warm_up(Cooling(30), most_seconds=60)
    assert warmed.stable
    assert warmed.inferences > 30
    assert seconds == pytest.approx(0.01)


def test_not_for_ever() -> None:
    warmed, _ = warm_up(Cooling(1000, pause=0.001), most_seconds=0.02)
    assert not warmed.stable
    assert warmed.seconds >= 0.02


def test_what_gets_slower_is_not_waited_for() -> None:
    climbing = Scripted("a")
    climbing.seconds = lambda _: 0.01 * (1 + len(climbing.diary))
    assert warm_up(climbing, most_seconds=60)[0].stable


@pytest.mark.parametrize(("seconds", "size"), [(1e-9, MOST_IN_A_CHUNK), (0.0, MOST_IN_A_CHUNK), (0.005, 4), (5.0, 1)])
def test_a_chunk_of_what_is_slow_is_small(seconds: float, size: int) -> None:
    timed = Scripted("a", seconds)
    warm_up(timed, most_seconds=0.0)
    assert timed.diary == [("a", "warm", 1), ("a", "warm", size)]
