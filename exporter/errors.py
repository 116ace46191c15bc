"""Every error a user can meet.

    AttnExportError                   exit code
    ├── UsageError                    2   the command line, or an argument, is wrong
    ├── InputError                    3   an input can't be read, doesn't fit or isn't trusted
    │   ├── UnreadableCheckpointError     missing, empty, damaged, or no checkpoint at all
    │   ├── UnreadableGraphError          the same of an ONNX file
    │   ├── UnreadableEngineError         an engine is missing, damaged, or was built for another version or GPU
    │   ├── UntrustedEngineError          nothing says where an engine came from, or it was changed since
    │   ├── UnreadableBundleError            a deployment bundle is missing, incomplete or damaged
    │   ├── UnreadableReportError         a report is missing, damaged, without latencies, or of another version
    │   ├── IncomparableReportsError      two reports are of different networks, or have nothing in common
    │   ├── UntrustedCheckpointError      reading it would mean running code from it
    │   ├── UnknownArchitectureError      the file doesn't say what network it belongs to
    │   ├── StateDictMismatchError        it belongs to another network
    │   └── NonFiniteWeightsError         it holds NaN or infinity
    ├── CaptureError                  4   PyTorch's exporter can't turn the module into a graph
    ├── CleanupError                  4   a rewrite of the graph went wrong
    ├── RuntimeUnavailableError       5   a runtime that was asked for isn't there or can't run the artifact
    ├── EngineError                   5   TensorRT can't build an engine of this graph
    ├── OutputError                   6   a result can't be written
    ├── DisagreementError             1   an artifact doesn't compute what PyTorch computes
    ├── MixedPrecisionError           1   kernels of an engine run in another type than the graph says
    └── BudgetError                   1   a budget is broken, or something got slower than is allowed

Anything else that leaves the library is a defect of ours, and the command line exits with 70.
"""

import copyreg
from collections.abc import Sequence
from typing import Any


class AttnExportError(Exception):
    """What happened and what was expected, with what to do about it in ``hint``."""

    exit_code = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without a call of ``__init__``, whose keywords differ from class to class."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class UsageError(AttnExportError):
    """The command line, or an argument of the Python call, is wrong."""

    exit_code = 2


class InputError(AttnExportError):
    """An input can't be read, doesn't fit or isn't trusted."""

    exit_code = 3


class UnreadableCheckpointError(InputError):
    """The file is missing, empty, damaged, or not a PyTorch checkpoint."""


class UnreadableGraphError(InputError):
    """The file is missing, empty, damaged, no ONNX file, or no valid one."""


class UnreadableEngineError(InputError):
    """The engine is missing, damaged, or was built for another TensorRT, GPU or system."""


class UntrustedEngineError(InputError):
    """Loading an engine runs code from it, and nothing says where this one came from."""


class UnreadableBundleError(InputError):
    """A deployment bundle is missing, incomplete or damaged."""


class UnreadableReportError(InputError):
    """The report is missing, damaged, of another schema version, or has no latencies."""


class IncomparableReportsError(InputError):
    """Two reports are of different networks, or have no latency in common that can be compared."""


class UntrustedCheckpointError(InputError):
    """Reading the file would mean running code from it; ``names`` are those it wants."""

    def __init__(self, message: str, *, names: Sequence[str], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.names = tuple(names)


class UnknownArchitectureError(InputError):
    """The file holds weights and doesn't say of which network; ``nearest`` is our guess."""

    def __init__(self, message: str, *, nearest: str | None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.nearest = nearest


class StateDictMismatchError(InputError):
    """The weights belong to another network; the differences are in the fields."""

    def __init__(
        self,
        message: str,
        *,
        missing: Sequence[str],
        unexpected: Sequence[str],
        misshapen: Sequence[str],
        nearest: str | None,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.misshapen = tuple(misshapen)
        self.nearest = nearest


class NonFiniteWeightsError(InputError):
    """Weights are NaN or infinite; ``tensors`` names them."""

    def __init__(self, message: str, *, tensors: Sequence[str], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.tensors = tuple(tensors)


class CaptureError(AttnExportError):
    """PyTorch's exporter can't turn the module into a graph; ``module_path`` is the submodule, where it is known."""

    exit_code = 4

    def __init__(self, message: str, *, module_path: str | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.module_path = module_path


class CleanupError(AttnExportError):
    """A cleanup step failed or left an invalid graph; ``step`` names it."""

    exit_code = 4

    def __init__(self, message: str, *, step: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.step = step


class RuntimeUnavailableError(AttnExportError):
    """A runtime that was asked for isn't installed or can't run the artifact; ``runtime`` names it."""

    exit_code = 5

    def __init__(self, message: str, *, runtime: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.runtime = runtime


class EngineError(AttnExportError):
    """TensorRT can't build an engine of this graph; ``problems`` lists everything it objects to."""

    exit_code = 5

    def __init__(self, message: str, *, problems: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class OutputError(AttnExportError):
    """A result can't be written: folder, disk or memory."""

    exit_code = 6


class DisagreementError(AttnExportError):
    """An artifact doesn't compute what PyTorch computes; ``first_seen`` is where the difference starts."""

    exit_code = 1

    def __init__(self, message: str, *, first_seen: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.first_seen = first_seen


class MixedPrecisionError(AttnExportError):
    """Kernels of an engine run in another type than the graph says; ``kernels`` names them."""

    exit_code = 1

    def __init__(self, message: str, *, kernels: Sequence[str], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kernels = tuple(kernels)


class BudgetError(AttnExportError):
    """A budget is broken, or a latency grew by more than a comparison allows, beyond noise."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line; its class where it says nothing."""
    return next((line.strip()[:300] for line in str(error).splitlines() if line.strip()), type(error).__name__)
