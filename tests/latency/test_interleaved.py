"""Where the clock is read: what is inside of it, and what outside."""

import pytest

from attn_export.exporter.latency.rounds import EVENTS, HOST, InProcess
from tests.latency.fakes import IMAGES, Diary, Fake


class Watched(Fake):
    """A runtime whose device has a clock."""

    def device_stopwatch(self) -> "Watched":
        return self

    def start(self) -> None:
        self.diary.append((self.title, "start"))

    def stop(self) -> None:
        self.diary.append((self.title, "stop"))

    def seconds(self) -> float:
        self.diary.append((self.title, "seconds"))
        return 0.5


def test_every_inference_is_waited_for_and_copies_stay_outside() -> None:
    diary: Diary = []
    here = InProcess(Fake("a", diary))
    here.load(IMAGES)
    turn = here.turn(2)
    assert diary == [("a", "upload"), *[("a", "infer"), ("a", "synchronize")] * 3]
    assert len(turn.seconds) == 2, "the first isn't timed"
    assert all(seconds > 0 for seconds in turn.seconds)
    assert (turn.device_seconds, here.clock) == (None, HOST)


def test_a_turn_that_warms_up_times_all() -> None:
    diary: Diary = []
    here = InProcess(Fake("a", diary))
    here.load(IMAGES)
    assert len(here.turn(2, warmed=False).seconds) == 2
    assert diary.count(("a", "infer")) == 2


def test_a_device_with_a_clock_is_read_after_it_has_finished() -> None:
    diary: Diary = []
    here = InProcess(Watched("a", diary))
    here.load(IMAGES)
    diary.clear()
    turn = here.turn(1)
    words = [what for _, what in diary]
    assert words == ["infer", "synchronize", "start", "infer", "stop", "synchronize", "seconds"]
    assert (turn.device_seconds, here.clock) == ((0.5,), EVENTS)


def test_another_batch_takes_the_place_of_the_first() -> None:
    here = InProcess(Fake("a"))
    here.load(IMAGES)
    here.load({"input": IMAGES["input"][:1]})
    assert here._inputs["input"].shape == (1, 3, 4, 4)
    here.close()
    assert here._inputs is None


@pytest.mark.parametrize("inferences", [1, 7])
def test_a_turn_has_as_many_as_were_asked_for(inferences: int) -> None:
    here = InProcess(Fake("a"))
    here.load(IMAGES)
    assert len(here.turn(inferences).seconds) == inferences
