"""The isolated worker: serves one runtime over a connection. Started by `isolated`.

Between requests it waits for the connection without using the CPU. It ends with its parent and leaves Ctrl-C to it.
"""

import os
import signal
import threading
import time
import traceback
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from attn_export.exporter.errors import AttnExportError, RuntimeUnavailableError, first_line
from attn_export.exporter.latency.rounds import InProcess
from attn_export.exporter.runtimes.base import Runtime

# Time for a runtime to close, after which the worker is killed.
SECONDS_TO_END = 5.0
FACTS = ("name", "provenance", "device", "precision", "open_seconds", "clock")

Request = tuple[str, tuple[Any, ...], dict[str, Any]]  # a method's name and its arguments; "open" takes a `Runtime`


class Service:
    """Answers requests about one runtime, and closes it when ``stack`` does."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._timed: InProcess | None = None
        self._name = ""

    def answer(self, request: Request) -> tuple[Any, dict[str, Any] | str]:
        """The method's result and `FACTS`; or its error and traceback."""
        method, args, options = request
        try:
            result = getattr(self if method == "open" else self._timed, method)(*args, **options)
        except Exception as error:  # noqa: BLE001 (the parent raises it)
            return self._portable(error), "".join(traceback.format_exception(error))
        return result, {name: getattr(self._timed, name) for name in FACTS}

    def open(self, runtime: Runtime) -> None:
        """Open the runtime of all other requests."""
        self._name = runtime.name
        self._timed = InProcess(self._stack.enter_context(runtime))

    def _portable(self, error: Exception) -> Exception:
        """An error that the parent can unpickle without the runtime's library."""
        if isinstance(error, AttnExportError):
            return error
        if isinstance(error, MemoryError):
            return MemoryError(first_line(error))
        hint = "--debug shows the runtime's error."
        return RuntimeUnavailableError(f"{self._name} failed: {first_line(error)}", hint=hint)


def _listen(connection: Connection, requests: "SimpleQueue[Request | None]") -> None:
    """Pass requests on until the parent has ended; then make sure that this process ends."""
    try:
        with suppress(EOFError, OSError):
            while True:
                requests.put(connection.recv())
    finally:
        requests.put(None)
        time.sleep(SECONDS_TO_END)
        os.kill(os.getpid(), signal.SIGTERM)


def main(descriptor: int) -> None:
    """Serve until the parent closes its end of the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    requests: SimpleQueue[Request | None] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, requests), daemon=True).start()
    with ExitStack() as stack, suppress(BrokenPipeError):  # the parent waits for no answer
        service = Service(stack)
        for request in iter(requests.get, None):
            connection.send(service.answer(request))
