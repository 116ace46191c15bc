"""Runtimes in processes of their own, that take turns with all others.

Two libraries may not get on in one process; and one that crashes there takes nothing along.
"""

import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from typing_extensions import Self

from attn_export.exporter.engine.backend import MODULES
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.latency.carried import unpacked
from attn_export.exporter.latency.channel import Message, receive, send, skip_to
from attn_export.exporter.latency.rounds import OWN, RoundTimes
from attn_export.exporter.latency.worker import GREETING, SECONDS_TO_END
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.runtimes.base import Runtime

# Where the package lies, so that the worker is of this very code, installed or not.
PACKAGE = Path(__file__).resolve().parents[2]
# Isolated from the folder it is started in, and with the search path of this process: what is found is what this one
# would find. Run with -m, a `numpy.py` in the user's folder would be found first.
START = """\
import sys, types
place, sys.path[:] = sys.argv[1], sys.argv[2:]
package = sys.modules["attn_export"] = types.ModuleType("attn_export")
package.__path__ = [place]
from attn_export.exporter.latency.worker import main
main()
"""
# How long a worker may be silent before it is ended. Opening has compiled for minutes on a Jetson; an inference takes
# no longer than opening, which runs one, unless the machine swaps.
OPEN_SECONDS, ANSWER_SECONDS = 1800.0, 600.0
TIMES_AS_LONG = 20
LAST_WORDS = 4096


def requires_isolation(runtimes: Sequence[Runtime]) -> tuple[Runtime, ...]:
    """Those that need a process of their own: engines of the two TensorRTs, which can't be in one.

    Their libraries define the same C functions (createInferRuntime_INTERNAL, getPluginRegistry and others), so the one
    that is loaded first may answer for both; and their Python modules register the same C++ classes, which pybind11
    refuses. Where both are wanted each engine gets a process, so that neither kind has an advantage. A library that was
    imported here before, to build with, counts as well.

    Args:
        runtimes: all that are to be timed together.
    """
    imported = {name for name, module in MODULES.items() if module in sys.modules}
    if not set(MODULES) <= imported | {runtime.name for runtime in runtimes}:
        return ()
    return tuple(runtime for runtime in runtimes if runtime.name in MODULES)


class Isolated:
    """A runtime that is opened, loaded and timed in another process, by the code that times those of this one.

    Use as a context manager, or call `open` and `end`. The other process inherits this one's environment and the CPUs
    that it may use, and its runtime the number of threads. It sleeps while others have their turns.

    Args:
        runtime: not open; it stays so, and another is made after it.

    Raises:
        UsageError: it runs something that only this process has.
    """

    process = OWN

    def __init__(self, runtime: Runtime) -> None:
        blueprint = runtime.blueprint()
        if blueprint is None:
            raise UsageError(
                f"{runtime.name} can't be timed in a process of its own: it doesn't run a file as it is",
                hint="Runtimes that can are onnxruntime, onnxruntime-cuda and engines.",
            )
        self._blueprint = blueprint
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._too_late = False
        self._usual = 0.0
        self.name = runtime.name
        self.artifact = runtime.artifact
        self.provenance = runtime.name
        self.device = runtime.device
        self.precision = runtime.precision
        self.open_seconds = 0.0
        self.clock = ""

    @property
    def pid(self) -> int | None:
        """The other process's number, None where there is none."""
        return None if self._process is None else self._process.pid

    def open(self) -> Self:
        """Start the process, and open the runtime there.

        Raises:
            RuntimeUnavailableError: it can't be started, or ended.
            AttnExportError: what opening it here would raise.
        """
        try:
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (`end` closes it)
            self._process = subprocess.Popen(  # noqa: S603 (our own words)
                [sys.executable, "-I", "-c", START, str(PACKAGE), *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
            )
        except OSError as error:
            self.end()
            raise RuntimeUnavailableError(
                f"{self.name} can't be given a process of its own: {error.strerror or error}", runtime=self.name
            ) from error
        try:
            self._ask({"do": "open", "blueprint": self._blueprint.to_dict()}, "it was opened", OPEN_SECONDS, greet=True)
        except BaseException:
            self.end()
            raise
        self._usual = self.open_seconds
        return self

    def load(self, images: Array) -> None:
        """Bring a batch, (N, C, H, W) float32, to the device.

        Raises:
            RuntimeUnavailableError: the process ended.
            AttnExportError: what loading it here would raise.
        """
        images = np.ascontiguousarray(images, np.float32)
        self._usual = self.open_seconds * max(1.0, len(images) / self._blueprint.signature.input_shape[0])
        request = {"do": "load", "shape": images.shape}
        self._ask(request, "a batch was loaded", ANSWER_SECONDS, images.reshape(-1).view(np.uint8).data)

    def turn(self, inferences: int, *, warmed: bool = True) -> RoundTimes:
        """Time so many inferences there, see `Timed.turn`.

        Raises:
            RuntimeUnavailableError: the process ended.
            AttnExportError: what timing it here would raise.
        """
        limit = ANSWER_SECONDS + TIMES_AS_LONG * (inferences + 1) * self._usual
        told = self._ask({"do": "turn", "inferences": inferences, "warmed": warmed}, "it was timed", limit)
        on_device = told["device_seconds"]
        return RoundTimes(tuple(told["seconds"]), None if on_device is None else tuple(on_device))

    def close(self) -> None:
        """Let go of the batch; the process stays."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):  # it has ended, which the next request tells
                send(self._process.stdin, Message({"do": "unload"}))

    def _ask(
        self, request: dict[str, Any], doing: str, seconds: float, body: Any = b"", *, greet: bool = False
    ) -> dict[str, Any]:
        """One request and its answer. A process that isn't through with it when this is left in any other way is ended.

        Args:
            request: what is asked.
            doing: what the error says if there is no answer.
            seconds: that it may take.
            body: bytes that belong to the request.
            greet: whether the greeting comes first.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeUnavailableError(f"{self.name} has no process of its own any more", runtime=self.name)
        alarm = threading.Timer(seconds, self._give_up, [process])
        alarm.daemon = True
        alarm.start()
        try:
            with suppress(OSError):  # it has ended; the answer that is missing tells
                send(process.stdin, Message(request, body))
            heard = not greet or skip_to(process.stdout, GREETING)
            answer = receive(process.stdout) if heard else None
        except BaseException:
            process.kill()
            raise
        finally:
            alarm.cancel()
        if answer is None:
            raise self._gone(process, doing, seconds)
        if "error" in answer.head:
            raise unpacked(answer.head["error"], self.name)
        for name, value in answer.head["about"].items():
            setattr(self, name, value)
        return answer.head

    def _give_up(self, process: "subprocess.Popen[bytes]") -> None:
        self._too_late = True
        process.kill()

    def _gone(self, process: "subprocess.Popen[bytes]", doing: str, seconds: float) -> RuntimeUnavailableError:
        """The error for a process that is no more."""
        code, last = _ended(process), self._last_words()
        hint = f"The last it said: {last}" if last else ""
        if self._too_late:
            why = f"had not answered after {seconds:.0f} s, and was ended"
        elif code < 0:
            why = f"was ended by {_signal_name(-code)}"
            if -code == getattr(signal, "SIGKILL", 0):
                hint = "Linux does so where memory runs out: dmesg tells. A smaller batch needs less."
        else:
            why = f"ended with exit code {code}"
        self.end()
        return RuntimeUnavailableError(f"{self.name}'s own process {why} while {doing}", runtime=self.name, hint=hint)

    def _last_words(self) -> str:
        if self._stderr is None:
            return ""
        self._stderr.seek(0, 2)
        self._stderr.seek(max(0, self._stderr.tell() - LAST_WORDS))
        lines = self._stderr.read().decode(errors="replace").splitlines()
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")

    def end(self) -> None:
        """Close the runtime and end the process, by force if it takes too long; a second call does nothing."""
        process, self._process = self._process, None
        stderr, self._stderr = self._stderr, None
        if process is not None:
            try:
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        with suppress(OSError):  # what was still to be written has no reader
                            pipe.close()
                _ended(process)
            finally:
                process.kill()  # does nothing where it has ended
                process.wait()
        if stderr is not None:
            stderr.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def _ended(process: "subprocess.Popen[bytes]") -> int:
    """The code with which it ends by itself soon, or by force."""
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
