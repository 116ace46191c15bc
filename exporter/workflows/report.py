"""Reads the report of an earlier run."""

from pathlib import Path

from attn_export.exporter.errors import UnreadableReportError
from attn_export.exporter.records.document import DocumentError, decode
from attn_export.exporter.records.report import Report

MOST_BYTES = 2**28
RUN_AGAIN = "Create it again: attn-export writes one beside the ONNX file, or with --report report.json."


def read_report(path: Path) -> Report:
    """The report in a JSON file.

    Raises:
        UnreadableReportError: the file can't be read, is no report, or has another schema version.
    """
    try:
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise UnreadableReportError(f"{path} is larger than any report", hint=RUN_AGAIN)
        return decode(path.read_bytes(), Report)
    except OSError as error:
        reason = error.strerror or "unknown error"
        raise UnreadableReportError(f"{path} can't be read: {reason}", hint="Name the JSON file of a run.") from error
    except DocumentError as error:
        raise UnreadableReportError(f"{path} can't be read as a report: {error}", hint=RUN_AGAIN) from error
