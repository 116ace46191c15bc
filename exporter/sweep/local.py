"""Runs jobs in processes of this machine."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO

from attn_export.exporter.artifacts import CPU
from attn_export.exporter.engine.backend import load as load_backend
from attn_export.exporter.engine.targets import JETSON
from attn_export.exporter.sweep import work
from attn_export.exporter.sweep.inputs import CODE
from attn_export.exporter.sweep.job import Finished, Inputs, Job, Node, Run
from attn_export.exporter.system import gpus
from attn_export.exporter.system.files import unwritable
from attn_export.exporter.system.machine import usable_cpu_numbers
from attn_export.exporter.system.worker_process import start

WORKER = "attn_export.exporter.sweep.local_worker"
NAME = "this machine"
POLL_SECONDS = 0.5
SECONDS_TO_END = 10.0
OUTPUT_TAIL = 4096


def unoffered_here(runtime: str, target: str) -> str:
    """The reason why a runtime can't serve a target here; empty where it can, if only to build.

    Raises:
        RuntimeUnavailableError: TensorRT-RTX isn't installed, and is needed.
    """
    own = sorted({gpu.architecture for gpu in gpus.found()})
    if target == CPU or target in own or target in _built_here(runtime):
        return ""
    return f"{runtime} needs a GPU for {target}, and this machine has {', '.join(own) or 'none'}"


def _built_here(runtime: str) -> tuple[str, ...]:
    """Architectures without a GPU here: TensorRT-RTX builds engines for them, and a Jetson gets a bundle."""
    if runtime == "tensorrt-rtx":
        return load_backend(runtime).named_gpus
    return tuple(JETSON) if runtime == "tensorrt" else ()


@dataclass
class _Worker:
    """A process, its connection, what it prints, and its job with the job's folder.

    ``share`` of the CPUs is its own while others work beside it; ``code`` is the digest of the user's sources that it
    has imported.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    output: IO[bytes]
    share: int
    code: str = ""
    job: Job | None = None
    folder: Path | None = None

    def end(self) -> str:
        """End the process; returns how it ended, with its last line."""
        self.process.kill()
        code = self.process.wait(SECONDS_TO_END)
        self.connection.close()
        self.output.seek(max(0, self.output.seek(0, 2) - OUTPUT_TAIL))
        lines = self.output.read().decode(errors="replace").split("\n")
        self.output.close()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the worker was ended by {how}" + (f": {last}" if last else "")


class LocalBackend:
    """Processes of this machine. One that dies costs its own job.

    ``scratch`` is on the file system of the output folder; ``slots`` is how many jobs that aren't timed run at once.
    """

    def __init__(self, run: Run, scratch: Path, targets: frozenset[str], slots: int = 1) -> None:
        self._run, self._scratch = run, scratch
        self._node = Node(NAME, targets, slots)
        self._workers: list[_Worker] = []

    def nodes(self) -> Sequence[Node]:
        """Only one."""
        return (self._node,)

    def submit(self, job: Job, node: Node, inputs: Inputs) -> None:
        """Start a job in a worker that has nothing to do, or in a new one."""
        worker = self._idle(job.files.get(CODE, "")) or self._started()
        worker.job, worker.code = job, worker.code or job.files.get(CODE, "")
        try:
            worker.folder = Path(tempfile.mkdtemp(dir=self._scratch))
        except OSError as error:
            raise unwritable(self._scratch, error) from error
        with suppress(BrokenPipeError, ConnectionResetError):  # it died while it was idle: `wait` sees that
            worker.connection.send((self._cpus(job, worker), (job, inputs, worker.folder, self._run, node.name)))

    def _idle(self, code: str) -> _Worker | None:
        """A worker with nothing to do. One with other sources is ended: modules of both may have the same names."""
        for worker in [worker for worker in self._workers if worker.job is None]:
            if not code or worker.code in ("", code):
                return worker
            self._workers.remove(worker)
            worker.end()
        return None

    def _started(self) -> _Worker:
        output = tempfile.TemporaryFile()  # noqa: SIM115 (`end` closes it)
        process, connection = start(WORKER, output)
        taken = {worker.share for worker in self._workers}
        share = next(i for i in range(self._node.slots) if i not in taken)
        self._workers.append(_Worker(process, connection, output, share))
        return self._workers[-1]

    def _cpus(self, job: Job, worker: _Worker) -> tuple[int, ...]:
        """The CPUs of a job beside which others run; empty for all."""
        slots, cpus = self._node.slots, usable_cpu_numbers()
        alone = job.timed or slots == 1 or not hasattr(os, "sched_setaffinity")
        return () if alone else cpus[worker.share % len(cpus) :: slots]

    def wait(self) -> Sequence[Finished]:
        """Answers and deaths of workers, as soon as there is one."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        ready = wait(list(busy), POLL_SECONDS)
        return [self._finished(worker) for connection, worker in busy.items() if connection in ready]

    def _finished(self, worker: _Worker) -> Finished:
        job, folder = worker.job, worker.folder
        assert job is not None
        assert folder is not None
        worker.job = worker.folder = None
        try:
            return Finished(job.key, worker.connection.recv(), folder)
        except (EOFError, OSError):
            self._workers.remove(worker)
            shutil.rmtree(folder, ignore_errors=True)
            return Finished(job.key, died=worker.end())

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return work.now()

    def stop(self) -> None:
        """End all workers; what they were doing is lost."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()
