"""What TensorRT says while it works. It reports failures nowhere else: its functions return None, False or -1."""

from dataclasses import dataclass, field
from typing import Any

ERROR = 1
# Said after every error on a machine without a driver, and of no help there.
NOISE = ("cudaError", "CUDA initialization failure", "CUDA driver version is insufficient")


@dataclass
class Log:
    """Messages in the order in which they came, with their severities: 0 and 1 are errors, 4 is verbose."""

    messages: list[tuple[int, str]] = field(default_factory=list)

    def logger(self, trt: Any) -> Any:
        """A logger for this log. It has to live as long as everything that is made with it."""

        def start(logger: Any) -> None:
            trt.ILogger.__init__(logger)

        def log(_: Any, severity: Any, message: str) -> None:
            self.messages.append((int(severity), message))

        return type("Logger", (trt.ILogger,), {"__init__": start, "log": log})()

    @property
    def errors(self) -> list[str]:
        """The first lines of all errors, without repetition; noise only where there is nothing else."""
        told = [text.strip().partition("\n")[0] for severity, text in self.messages if severity <= ERROR]
        told = list(dict.fromkeys(line for line in told if line))
        return [line for line in told if not any(word in line for word in NOISE)] or told
