"""A job, and the protocol of those who run jobs."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from attn_export.exporter.artifacts import CPU, LoadOptions, Normalization
from attn_export.exporter.records.sweep import Figures, Outcome

SourceKind = Literal["zoo", "checkpoint", "onnx"]


class Network(Struct, frozen=True):
    """Where a network comes from; its files are among those of the job, as "model", "code" and "weights"."""

    kind: SourceKind
    zoo: str = ""
    options: LoadOptions = LoadOptions()


class Make(Struct, frozen=True, tag="make"):
    """Make an ONNX file of a network for a runtime, proven; the normalization is that of calibration pictures."""

    network: Network
    precision: str
    form: str
    normalization: Normalization | None = None


class Measure(Struct, frozen=True, tag="measure"):
    """Time a runtime on "cpu" or an architecture until the interval is so narrow, and build its engine."""

    network: Network
    precision: str
    target: str
    batch: int
    runtime: str
    seconds: float
    interval: float


Task = Make | Measure


class Job(Struct, frozen=True):
    """A task with everything that decides its result.

    Attributes:
        key: digest of the rest, without the name.
        files: digest of each input file or folder, by its role.
        needs: keys of the jobs whose file it takes, by role.
        target: that a node must offer.
        timed: whether nothing else may run on the node at the same time.
    """

    key: str
    name: str
    task: Task
    files: dict[str, str] = {}
    needs: dict[str, str] = {}
    target: str = CPU
    timed: bool = False


def job(
    name: str,
    task: Task,
    *,
    files: dict[str, str],
    needs: dict[str, str],
    versions: Mapping[str, str],
    target: str,
    timed: bool,
) -> Job:
    """A job with its key. Files are digests by role, needs are keys by role; a timed job must be alone on its node."""
    content = msgspec.json.encode((task, files, needs, versions), order="sorted")
    return Job(hashlib.sha256(content).hexdigest(), name, task, files, needs, target, timed)


# Input files by role: the file, and those that it refers to; or a folder.
Inputs = Mapping[str, tuple[Path, ...]]
# Does a job: inputs, and a folder for its files. Raises AttnExportError where it fails.
Run = Callable[[Job, Inputs, Path], Figures]


@dataclass(frozen=True)
class Node:
    """A machine. ``slots``: how many jobs that aren't timed it runs at once."""

    name: str
    targets: frozenset[str]
    slots: int = 1


@dataclass(frozen=True)
class Finished:
    """The end of a job.

    Attributes:
        outcome: None if its worker or its node died.
        folder: with the outcome's files, which are moved from there.
        died: how the worker ended, and why that may be; empty with an outcome.
        lost: whether the node is gone, so that the job may run elsewhere.
    """

    key: str
    outcome: Outcome | None = None
    folder: Path | None = None
    died: str = ""
    lost: bool = False


class Backend(Protocol):
    """Machines that run jobs."""

    def nodes(self) -> Sequence[Node]:
        """Those that are alive."""

    def submit(self, job: Job, node: Node, inputs: Inputs) -> None:
        """Start a job on a node."""

    def wait(self) -> Sequence[Finished]:
        """What has finished since; waits a moment for the first, so that it may be nothing."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    def stop(self) -> None:
        """End everything that still runs."""
