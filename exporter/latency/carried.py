"""Errors in plain values, so that one of a worker is raised where its runtime was asked for."""

import traceback
from collections.abc import Mapping
from typing import Any

from attn_export.exporter import errors
from attn_export.exporter.errors import AttnExportError, RuntimeUnavailableError, first_line

OUT_OF_MEMORY = "MemoryError"


class WorkerError(Exception):
    """The report of an error as it was in the other process; stands behind the one that is raised, for --debug."""


def packed(error: Exception) -> dict[str, Any]:
    """An error of a worker.

    Returns:
        The class's name, where it is one of ours or of memory that ran out, what it says, and its report.
    """
    told: dict[str, Any] = {
        "class": None,
        "message": first_line(error),
        "report": "".join(traceback.format_exception(error)),
    }
    if isinstance(error, MemoryError):
        return told | {"class": OUT_OF_MEMORY}
    if isinstance(error, AttnExportError):
        fields = {name: value for name, value in vars(error).items() if name != "message" and name[0] != "_"}
        return told | {"class": type(error).__name__, "message": error.message, "fields": fields}
    return told


def unpacked(told: Mapping[str, Any], runtime: str) -> Exception:
    """The same error, of the same class, with the same words.

    Args:
        told: what `packed` gave, after it went through JSON.
        runtime: that failed; an error of no class of ours becomes one of it.
    """
    error: Exception
    kind = getattr(errors, str(told["class"]), None)
    if told["class"] == OUT_OF_MEMORY:
        error = MemoryError(told["message"])
    elif isinstance(kind, type) and issubclass(kind, AttnExportError):
        error = kind(told["message"], **told["fields"])
    else:
        hint = "--debug shows the runtime's own report."
        error = RuntimeUnavailableError(f"{runtime} failed: {told['message']}", runtime=runtime, hint=hint)
    error.__cause__ = WorkerError(told["report"])
    return error
