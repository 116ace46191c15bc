"""Machines that exist in a simulation only, with a clock of their own, for the real scheduler."""

import heapq
import itertools
import random
from collections.abc import Sequence
from pathlib import Path

from attn_export.exporter.records.sweep import Figures, Outcome
from attn_export.exporter.sweep.job import Finished, Inputs, Job, Node
from attn_export.exporter.sweep.store import Store


class Farm:
    """A backend whose nodes take ``seconds`` for a job, and die at the times that are given.

    Args:
        nodes: all of them.
        deaths: seconds after which a node is gone, by its name.
        seconds: mean duration of a job; the durations are drawn from an exponential distribution.
        seed: of the durations.
    """

    def __init__(
        self, nodes: Sequence[Node], *, deaths: dict[str, float] | None = None, seconds: float = 1.0, seed: int = 0
    ) -> None:
        self._alive = {node.name: node for node in nodes}
        self._seconds, self._random = seconds, random.Random(seed)
        self._time, self._order = 0.0, itertools.count()
        self._running: dict[str, tuple[Job, str]] = {}
        self._events: list[tuple[float, int, str, str]] = []  # time, order, "dies" or a job's key, node
        self.log: list[tuple[str, str, float, float]] = []  # job, node, start, end
        self.stopped = False
        for name, when in (deaths or {}).items():
            heapq.heappush(self._events, (when, next(self._order), "dies", name))

    def nodes(self) -> Sequence[Node]:
        return list(self._alive.values())

    def submit(self, job: Job, node: Node, inputs: Inputs) -> None:
        assert node.name in self._alive
        duration = self._random.expovariate(1 / self._seconds)
        self._running[job.key] = (job, node.name)
        self.log.append((job.key, node.name, self._time, self._time + duration))
        heapq.heappush(self._events, (self._time + duration, next(self._order), job.key, node.name))

    def wait(self) -> Sequence[Finished]:
        if not self._events:
            self._time += 1.0
            return ()
        when, _, what, name = heapq.heappop(self._events)
        if what != "dies" and (name not in self._alive or what not in self._running):
            return ()  # it died with its node
        self._time = when
        if what == "dies":
            return self._death(name)
        job, _ = self._running.pop(what)
        return [Finished(job.key, Outcome(key=job.key, name=job.name, figures=Figures(latency_ms=1.0), node=name))]

    def _death(self, name: str) -> Sequence[Finished]:
        self._alive.pop(name, None)
        lost = [key for key, (_, node) in self._running.items() if node == name]
        for key in lost:
            del self._running[key]
        return [Finished(key, died="the node was lost", lost=True) for key in lost]

    def now(self) -> float:
        return self._time

    def stop(self) -> None:
        self.stopped = True


class Memory(Store):
    """Keeps outcomes nowhere."""

    def __init__(self) -> None:
        super().__init__(Path())

    def publish(self, outcome: Outcome, folder: object) -> Outcome:
        return outcome
