"""Runtimes in isolated workers, which contain crashes and clashes between libraries.

See `attn_export.exporter.system.worker_process` for how they are started.
"""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import IO, Any

import numpy as np
from typing_extensions import Self

from attn_export.exporter.engine.backend import MODULES
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.latency.rounds import OWN, RoundTimes
from attn_export.exporter.latency.worker import SECONDS_TO_END
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.runtimes.base import Runtime
from attn_export.exporter.system.worker_process import start

WORKER = "attn_export.exporter.latency.worker"
# Timeouts, after which a worker is killed. Opening may compile for minutes on a Jetson; an inference takes no longer
# than opening, which runs one, unless the machine swaps.
OPEN_SECONDS, ANSWER_SECONDS = 1800.0, 600.0
TIMES_AS_LONG = 20
LONGEST_POLL = 2e6  # poll(2) counts milliseconds in 31 bits
STDERR_TAIL = 4096


class WorkerError(Exception):
    """The worker's traceback, as the cause of an error, for --debug."""


def requires_isolation(runtimes: Sequence[Runtime]) -> tuple[Runtime, ...]:
    """The runtimes that must be isolated: engines of the two TensorRTs, which can't share a process.

    Their libraries define the same C functions (createInferRuntime_INTERNAL, getPluginRegistry and others), so calls
    may reach the wrong one, and their Python modules register the same C++ classes, which pybind11 refuses. If both are
    used, or already imported for building, all engines are isolated, so that neither kind has an advantage.
    """
    imported = {name for name, module in MODULES.items() if module in sys.modules}
    if not set(MODULES) <= imported | {runtime.name for runtime in runtimes}:
        return ()
    return tuple(runtime for runtime in runtimes if runtime.name in MODULES)


class Isolated:
    """A runtime in a worker, timed by the same code as runtimes of this process.

    Use as a context manager, or call `open` and `end`. The worker inherits environment, current folder and CPU
    affinity, and sleeps while others are timed.

    Raises:
        UsageError: the runtime can't be copied to another process.
    """

    process = OWN

    def __init__(self, runtime: Runtime) -> None:
        if not runtime.can_be_isolated:
            raise UsageError(
                f"{runtime.name} can't be timed in an isolated worker: it doesn't run an unmodified file",
                hint="Isolation supports onnxruntime, onnxruntime-cuda and engines.",
            )
        self._runtime = runtime
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._stderr: IO[bytes] | None = None
        self._inference_seconds = 0.0
        self.name = runtime.name
        self.artifact = runtime.artifact
        self.provenance = runtime.name
        self.device = runtime.device
        self.precision = runtime.precision
        self.open_seconds = 0.0
        self.clock = ""

    @property
    def pid(self) -> int | None:
        """The worker's process id, None without a worker."""
        return None if self._process is None else self._process.pid

    def open(self) -> Self:
        """Start the worker and open the runtime there.

        Raises:
            RuntimeUnavailableError: the worker can't be started, crashed, or timed out.
            AttnExportError: the runtime can't be opened.
        """
        try:
            self._start()
            self._call("it was opened", OPEN_SECONDS, "open", self._runtime)
        except OSError as error:
            self.end()
            raise RuntimeUnavailableError(f"{self.name} can't be isolated: {error.strerror or error}") from error
        except BaseException:
            self.end()
            raise
        self._inference_seconds = self.open_seconds
        return self

    def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (`end` closes it)
        self._process, self._connection = start(WORKER, self._stderr)

    def load(self, arrays: Arrays) -> None:
        """Copy a batch, (N, ...) of each input, to the device.

        Raises:
            RuntimeUnavailableError: the worker crashed or timed out.
            AttnExportError: loading failed.
        """
        times = len(next(iter(arrays.values()))) / self._runtime.signature.batch
        self._inference_seconds = self.open_seconds * max(1.0, times)
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self._call("a batch was loaded", ANSWER_SECONDS, "load", arrays)

    def turn(self, inferences: int, *, warmed: bool = True) -> RoundTimes:
        """Time inferences, see `Timed.turn`.

        Raises:
            RuntimeUnavailableError: the worker crashed or timed out.
            AttnExportError: an inference failed.
        """
        seconds = ANSWER_SECONDS + TIMES_AS_LONG * (inferences + 1) * self._inference_seconds
        times: RoundTimes = self._call("it was timed", seconds, "turn", inferences, warmed=warmed)
        return times

    def close(self) -> None:
        """Free the batch; the worker stays."""
        if self._process is not None:
            with suppress(RuntimeUnavailableError):  # the next request reports it
                self._call("a batch was freed", ANSWER_SECONDS, "close")

    def _call(self, doing: str, seconds: float, method: str, *args: Any, **options: Any) -> Any:
        """Call a method in the worker; any failure of the call itself kills the worker.

        ``doing`` says in the error what was going on; ``method`` is one of `InProcess`, or "open".
        """
        process, connection = self._process, self._connection
        if process is None or connection is None:
            raise RuntimeUnavailableError(f"{self.name} has no isolated worker any more")
        late = ""
        try:
            connection.send((method, args, options))
            if not connection.poll(min(seconds, LONGEST_POLL)):
                late = f"had not answered after {seconds:.0f} s, and was killed"
                process.kill()
            answer, facts = connection.recv()
        except (EOFError, ConnectionError):
            raise self._gone(doing, late) from None
        except BaseException:
            process.kill()
            raise
        if isinstance(answer, Exception):
            raise answer from WorkerError(facts)
        vars(self).update(facts)
        return answer

    def _gone(self, doing: str, why: str = "") -> RuntimeUnavailableError:
        """The error for a dead worker: how it ended, and its last line."""
        assert self._process is not None
        code, last = _exit_code(self._process), self._last_line()
        hint = f"Its last line was: {last}" if last else ""
        if not why and code < 0:
            why = f"was ended by {_signal_name(-code)}"
            if -code == getattr(signal, "SIGKILL", 0):
                hint = "Linux kills processes if memory runs out, see dmesg. A smaller batch needs less."
        self.end()
        why = why or f"ended with exit code {code}"
        return RuntimeUnavailableError(f"{self.name}'s isolated worker {why} while {doing}", hint=hint)

    def _last_line(self) -> str:
        assert self._stderr is not None
        self._stderr.seek(max(0, self._stderr.seek(0, 2) - STDERR_TAIL))
        lines = self._stderr.read().decode(errors="replace").splitlines()
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")

    def end(self) -> None:
        """Close the runtime and end the worker, by force after a timeout; idempotent."""
        process, connection, stderr = self._process, self._connection, self._stderr
        self._process = self._connection = self._stderr = None
        if connection is not None:
            connection.close()
        try:
            if process is not None:
                _exit_code(process)
        finally:
            if process is not None:
                process.kill()  # no-op if it has ended
                process.wait()
            if stderr is not None:
                stderr.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def _exit_code(process: "subprocess.Popen[bytes]") -> int:
    """The exit code of an ending process, killed after a timeout."""
    try:
        return process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
