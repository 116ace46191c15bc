"""Sweeps without workers, which would import torch again."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from attn_export.exporter.sweep import work
from attn_export.exporter.sweep.job import Finished, Inputs, Job, Node, Run
from attn_export.exporter.sweep.local import NAME


def use(patch: pytest.MonkeyPatch) -> None:
    """Let sweeps of this machine run in this process."""
    patch.setattr("attn_export.exporter.workflows.sweep.LocalBackend", InThisProcess)


class InThisProcess:
    """The backend of this machine, without workers."""

    def __init__(self, run: Run, scratch: Path, targets: frozenset[str], slots: int = 1) -> None:
        self._run, self._scratch, self._node = run, scratch, Node(NAME, targets, slots)
        self._waiting: list[tuple[Job, Inputs]] = []

    def nodes(self) -> Sequence[Node]:
        return (self._node,)

    def submit(self, job: Job, node: Node, inputs: Inputs) -> None:
        self._waiting.append((job, inputs))

    def wait(self) -> Sequence[Finished]:
        finished = []
        for job, inputs in self._waiting:
            folder = self._scratch / f".attn-export-{job.key}"
            folder.mkdir()
            finished.append(Finished(job.key, work.outcome_of(job, inputs, folder, self._run, NAME), folder))
        self._waiting = []
        return finished

    def now(self) -> float:
        return work.now()

    def stop(self) -> None:
        pass
