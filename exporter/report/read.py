"""Reads the JSON report of an earlier run."""

import json
from pathlib import Path
from typing import Any

import msgspec

from attn_export.exporter.errors import UnreadableReportError
from attn_export.exporter.records.document import SCHEMA_VERSION, DocumentError, decode
from attn_export.exporter.records.report import Report
from attn_export.exporter.system.files import read_whole

MOST_BYTES = 2**26
EXPECTED = "Name a <stem>.report.json, which every export writes, or the output of --json."


class _Header(msgspec.Struct):
    """The fields that tell a report from other documents, of any version."""

    schema_version: Any = None
    latency: Any = msgspec.UNSET
    error: Any = None
    environment: Any = None


def read_report(path: Path) -> Report:
    """Read ``<stem>.report.json``, or the output of ``--json``, of an export, a bench or a validation.

    Raises:
        UnreadableReportError: the file is missing, damaged, another document, or of another schema version.
    """
    content = _read(path)
    try:
        msgspec.json.decode(content, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableReportError(
            f"{path} is no JSON document: {error}",
            hint="Expected is a <stem>.report.json, or the output of --json without anything else.",
        ) from error
    try:
        header = msgspec.json.decode(content, type=_Header)
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        raise UnreadableReportError(f"{path} is no report of attn-export: {error}", hint=EXPECTED) from error
    _refuse_other_documents(path, header)
    try:
        return decode(content, Report)
    except DocumentError as error:
        raise UnreadableReportError(f"{path} is no whole report: {error}", hint=EXPECTED) from error


def _read(path: Path) -> bytes:
    """The content in UTF-8. PowerShell writes UTF-16, other shells a byte order mark."""
    try:
        content = read_whole(path, MOST_BYTES)
    except FileNotFoundError as error:
        raise UnreadableReportError(f"{path} does not exist", hint=EXPECTED) from error
    except IsADirectoryError as error:
        raise UnreadableReportError(f"{path} is a folder", hint="Name the <stem>.report.json in it.") from error
    except OSError as error:
        raise UnreadableReportError(
            f"{path} can't be read: {error.strerror or error}", hint="Expected is a readable file."
        ) from error
    if not content.strip():
        raise UnreadableReportError(f"{path} is empty", hint=EXPECTED)
    try:
        return content.decode(json.detect_encoding(content)).encode()
    except UnicodeDecodeError:
        return content


def _refuse_other_documents(path: Path, header: _Header) -> None:
    version = header.schema_version
    if version is None:
        raise UnreadableReportError(f"{path} is no report of attn-export: it has no schema_version", hint=EXPECTED)
    if version is True or version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version is not True and version > SCHEMA_VERSION
        again = "Make the report again with this attn-export."
        raise UnreadableReportError(
            f"{path} has schema version {version!r:.40}{_maker(header)}, and this attn-export reads {SCHEMA_VERSION}",
            hint="Update attn-export, or make the report again with this one." if newer else again,
        )
    if header.latency is msgspec.UNSET:
        if isinstance(header.error, dict) and "message" in header.error:
            raise UnreadableReportError(
                f"{path} is the document of a run that failed: {header.error['message']!s:.200}",
                hint="Let that run succeed first.",
            )
        raise UnreadableReportError(f"{path} has no latencies: it is another command's document", hint=EXPECTED)


def _maker(header: _Header) -> str:
    """The attn-export that wrote a document, where it says so."""
    packages = header.environment.get("packages") if isinstance(header.environment, dict) else None
    version = packages.get("attn-export") if isinstance(packages, dict) else None
    return f", made by attn-export {version:.40}" if isinstance(version, str) else ""
