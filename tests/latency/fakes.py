"""What is timed in tests: a runtime that writes into a diary what it was asked to do, and turns that were made up."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from attn_export.exporter.artifacts import Input, Signature
from attn_export.exporter.latency.rounds import RoundTimes
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.runtimes.base import Runtime, Settings

SIGNATURE = Signature((Input("input", (2, 3, 4, 4)),), ("output",))
IMAGES = {"input": np.zeros((2, 3, 4, 4), np.float32)}
Diary = list[tuple[str, str]]


class Fake(Runtime):
    """Writes into a diary, shared with others, what it was asked to do."""

    name = "fake"
    provenance = "made up"

    def __init__(self, title: str, diary: Diary | None = None) -> None:
        super().__init__(SIGNATURE, Settings(threads=1))
        self.title = title
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
        return inputs

    def synchronize(self) -> None:
        self.diary.append((self.title, "synchronize"))

    def download(self, outputs: Mapping[str, Any]) -> dict[str, Array]:
        self.diary.append((self.title, "download"))
        return dict(outputs)


class Scripted:
    """Turns whose seconds are made up, so that what is made of them is known.

    Args:
        title: what the diary calls it.
        seconds: of each inference, or of the i-th round's, i from 0.
        diary: shared with others: who had a turn of how many inferences, "warm" or "timed".
        pause: what a turn really takes.
    """

    provenance, device, precision, clock, process = "made up", "cpu", "float32", "host", "shared"
    artifact: str | None = None
    open_seconds = 0.25

    def __init__(
        self,
        title: str,
        seconds: float | Callable[[int], float] = 0.001,
        diary: list[tuple[str, str, int]] | None = None,
        pause: float = 0.0,
    ) -> None:
        self.name = title
        self.seconds: Callable[[int], float] = seconds if callable(seconds) else lambda _: seconds
        self.diary: list[tuple[str, str, int]] = [] if diary is None else diary
        self.pause, self.round = pause, 0
        self.loaded: list[tuple[int, ...]] = []
        self.closed = 0

    def load(self, arrays: Arrays) -> None:
        self.loaded.append(arrays["input"].shape)

    def turn(self, inferences: int, *, warmed: bool = True) -> RoundTimes:
        self.diary.append((self.name, "timed" if warmed else "warm", inferences))
        if self.pause:
            time.sleep(self.pause)
        seconds = self.seconds(self.round)
        self.round += warmed
        return RoundTimes((seconds,) * inferences)

    def close(self) -> None:
        self.closed += 1
