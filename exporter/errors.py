"""The errors of this library; any other exception is a bug, and the command line exits with 70."""

import copyreg
import re
from collections.abc import Sequence
from typing import Any


class AttnExportError(Exception):
    """Its message says what happened and what was expected, ``hint`` what to do."""

    exit_code = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickle without ``__init__``, whose keywords differ between classes."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class UsageError(AttnExportError):
    """The command line or an argument is wrong."""

    exit_code = 2


class InputError(AttnExportError):
    """An input can't be read, doesn't fit or isn't trusted."""

    exit_code = 3


class UnreadableCheckpointError(InputError):
    """The file is missing, empty, damaged, or not a PyTorch checkpoint."""


class UnreadableGraphError(InputError):
    """The file is missing, empty, damaged, or not valid ONNX."""


class UnreadableEngineError(InputError):
    """The engine is missing, damaged, or was built for another TensorRT, GPU or system."""


class UntrustedEngineError(InputError):
    """The engine has no record of its origin or was changed; loading an engine runs its code."""


class UnreadableBundleError(InputError):
    """A deployment bundle is missing, incomplete or damaged."""


class UnreadablePackageError(InputError):
    """A device folder, a signature or a key is missing, damaged or of the wrong kind."""


class UnreadableReportError(InputError):
    """The report is missing, damaged, of another schema version, or has no latencies."""


class IncomparableReportsError(InputError):
    """The reports are of different networks, or have no latency in common."""


class UntrustedCheckpointError(InputError):
    """Reading the file would run code; ``names`` lists the functions."""

    def __init__(self, message: str, *, names: Sequence[str], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.names = tuple(names)


class UnknownArchitectureError(InputError):
    """The file names no architecture; ``nearest`` is the best guess."""

    def __init__(self, message: str, *, nearest: str | None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.nearest = nearest


class StateDictMismatchError(InputError):
    """The weights belong to another network."""

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
    """PyTorch's exporter fails; ``module_path`` is the submodule, if known."""

    exit_code = 4

    def __init__(self, message: str, *, module_path: str | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.module_path = module_path


class CleanupError(AttnExportError):
    """A cleanup step failed or left an invalid graph."""

    exit_code = 4


class RuntimeUnavailableError(AttnExportError):
    """A runtime isn't installed or can't run the artifact."""

    exit_code = 5


class EngineError(AttnExportError):
    """TensorRT can't build an engine from this graph."""

    exit_code = 5


class OutputError(AttnExportError):
    """A result can't be written: folder, disk or memory."""

    exit_code = 6


class ChangedPackageError(AttnExportError):
    """A file was changed since it was packaged, or its signature is another's."""

    exit_code = 1


class DisagreementError(AttnExportError):
    """An artifact disagrees with PyTorch."""

    exit_code = 1


class MixedPrecisionError(AttnExportError):
    """Kernels compute in other types than the graph."""

    exit_code = 1


class BudgetError(AttnExportError):
    """A budget is broken, or a latency grew by more than a comparison allows, beyond noise."""

    exit_code = 1


class SweepError(AttnExportError):
    """Cells of a sweep aren't good; the exit code is 1 if a verdict failed, else that of the first that failed."""

    def __init__(self, message: str, *, exit_code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def first_line(error: BaseException) -> str:
    """The first line of another library's error message, without colors; its class if the message is empty."""
    lines = re.sub(r"\x1b\[[\d;]*m", "", str(error)).splitlines()
    return next((line.strip()[:300] for line in lines if line.strip()), type(error).__name__)
