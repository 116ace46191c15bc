"""Reading reports again."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from attn_export.exporter.errors import UnreadableReportError
from attn_export.exporter.records.document import SCHEMA_VERSION, DocumentError, decode
from attn_export.exporter.records.latency import BASELINE, Timing
from attn_export.exporter.records.report import Report

MOST_BYTES = 2**28
RUN_AGAIN = "Name a <stem>.report.json of an export or a bench that timed something."


class _Header(msgspec.Struct):
    """What is read of any document, whatever its version, for the error message."""

    schema_version: Any = None
    latency: Any = None
    error: Any = None
    environment: Any = None


@dataclass(frozen=True)
class LoadedReport:
    """A report that was read again, with at least one timing.

    Attributes:
        path: the file.
        record: its content.
    """

    path: Path
    record: Report

    @property
    def timings(self) -> tuple[Timing, ...]:
        """At least one."""
        return self.record.latency.timings

    @property
    def confidence(self) -> float:
        """Of its intervals, 0..1."""
        return self.record.latency.schedule.confidence

    def baseline_of(self, timing: Timing) -> Timing:
        """The baseline of a timing's ratio: the one of the same batch."""
        return next(t for t in self.timings if t.batch == timing.batch and t.verdict == BASELINE)


def read_report(path: Path) -> LoadedReport:
    """Read what `export` or `bench` wrote: ``<stem>.report.json``, or the same as ``--json`` prints it.

    Raises:
        UnreadableReportError: it is missing, damaged, something else, of another schema version, or has no latencies.
    """
    content = read_document(path)
    report = decode_report(path, content)
    if not report.latency.timings:
        raise UnreadableReportError(
            f"{path} has no latencies: nothing was timed in that run", hint="Run it again without --no-bench."
        )
    if reason := _unlike_rounds(report.latency.timings):
        raise UnreadableReportError(f"{path} is no whole report: {reason}", hint=RUN_AGAIN)
    return LoadedReport(path, report)


def read_document(path: Path) -> bytes:
    """The content of a report's file.

    Raises:
        UnreadableReportError: it is missing, a folder, too large, or empty.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise UnreadableReportError(f"{path} does not exist", hint=RUN_AGAIN) from error
    except IsADirectoryError as error:
        raise UnreadableReportError(f"{path} is a folder", hint="Name the <stem>.report.json in it.") from error
    except OSError as error:
        raise UnreadableReportError(
            f"{path} can't be read: {error.strerror or error}", hint="Expected is a file that can be read."
        ) from error
    if len(content) > MOST_BYTES:
        raise UnreadableReportError(
            f"{path} is larger than {MOST_BYTES // 2**20} MiB; no report is", hint="Name a <stem>.report.json."
        )
    if not content.strip():
        raise UnreadableReportError(f"{path} is empty", hint=RUN_AGAIN)
    try:  # PowerShell writes UTF-16, and others a byte order mark
        return content.decode(json.detect_encoding(content)).encode()
    except UnicodeDecodeError:
        return content


def decode_report(path: Path, content: bytes) -> Report:
    """The report in a document.

    Raises:
        UnreadableReportError: it is damaged, another document, or of another schema version.
    """
    try:
        header = msgspec.json.decode(content, type=_Header)
    except msgspec.ValidationError as error:
        raise UnreadableReportError(f"{path} is no report of attn-export: {error}", hint=RUN_AGAIN) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableReportError(
            f"{path} is no JSON document: {error}",
            hint="Expected is a <stem>.report.json, or what --json printed, without anything else.",
        ) from error
    _refuse_other_documents(path, header)
    try:
        return decode(content, Report)
    except DocumentError as error:
        raise UnreadableReportError(f"{path} is no whole report: {error}", hint=RUN_AGAIN) from error


def _refuse_other_documents(path: Path, header: _Header) -> None:
    version = header.schema_version
    if version is None:
        raise UnreadableReportError(f"{path} is no report of attn-export: it has no schema_version", hint=RUN_AGAIN)
    if version is True or version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version is not True and version > SCHEMA_VERSION
        again = "Make the report again with this attn-export."
        raise UnreadableReportError(
            f"{path} has schema version {version!r:.40}{_maker(header)}, and this attn-export reads {SCHEMA_VERSION}",
            hint="Update attn-export, or make the report again with this one." if newer else again,
        )
    if header.latency is None:
        if isinstance(header.error, dict) and "message" in header.error:
            raise UnreadableReportError(
                f"{path} is what a run left that failed: {header.error['message']!s:.200}",
                hint="Let that run succeed first.",
            )
        raise UnreadableReportError(f"{path} has no latencies: it is another command's document", hint=RUN_AGAIN)


def _maker(header: _Header) -> str:
    """The attn-export that wrote a document, where it says so."""
    packages = header.environment.get("packages") if isinstance(header.environment, dict) else None
    version = packages.get("attn-export") if isinstance(packages, dict) else None
    return f", made by attn-export {version:.40}" if isinstance(version, str) else ""


def _unlike_rounds(timings: tuple[Timing, ...]) -> str:
    """Why timings can't be compared with each other: a batch needs one baseline, and the same rounds of everything."""
    for index, timing in enumerate(timings):
        for name in ("median_interval_ms", "p99_interval_ms", "ratio_interval"):
            low, high = getattr(timing, name)
            if low > high:
                return f"$.latency.timings[{index}].{name} is ({low}, {high}); expected is the smaller number first"
    for batch in dict.fromkeys(timing.batch for timing in timings):
        alike = [timing for timing in timings if timing.batch == batch]
        baselines = sum(timing.verdict == BASELINE for timing in alike)
        if baselines != 1:
            return f"$.latency.timings has {baselines} baselines of batch {batch}; expected is one"
        if len({len(timing.rounds_ms) for timing in alike}) > 1:
            return f"$.latency.timings has runtimes with more rounds than others of batch {batch}"
    return ""
