"""TensorRT's log, the only place for its errors: its functions return None, False or -1."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

ERROR = 1
# These follow every error on a machine without a driver and don't help.
NOISE = ("cudaError", "CUDA initialization failure", "CUDA driver version is insufficient")


@dataclass
class Log:
    """Messages with their severities, in order: 0 and 1 are errors, 4 is verbose."""

    messages: list[tuple[int, str]] = field(default_factory=list)

    def logger(self, trt: Any) -> Any:
        """A logger for this log; it must outlive everything created with it."""

        def start(logger: Any) -> None:
            trt.ILogger.__init__(logger)

        def log(_: Any, severity: Any, message: str) -> None:
            self.messages.append((int(severity), message))

        return type("Logger", (trt.ILogger,), {"__init__": start, "log": log})()

    @property
    def errors(self) -> list[str]:
        """The first lines of all errors, without repetition; noise only if there is nothing else."""
        lines = (text.strip().partition("\n")[0] for severity, text in self.messages if severity <= ERROR)
        errors = list(dict.fromkeys(line for line in lines if line))
        return [line for line in errors if not any(word in line for word in NOISE)] or errors


@contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collections, for creating a builder or a runtime.

    TensorRT logs meanwhile, under a lock that freeing such an object needs. A collection that frees one from within the
    logger would wait for itself forever.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
