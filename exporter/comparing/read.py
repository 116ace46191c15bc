"""A file -> a report whose latencies can be relied on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attn_export.exporter.comparing.shape import (
    WrongShape,
    anything,
    count,
    each,
    every_value,
    fields,
    interval,
    not_negative,
    one_of,
    or_null,
    positive,
    share,
    text,
    truth,
    whole,
)
from attn_export.exporter.errors import UnreadableReportError, first_line
from attn_export.exporter.latency.verdict import BASELINE, CANT_TELL, FASTER, SLOWER

SCHEMA_VERSION = 1
MOST_BYTES = 2**28
RUN_AGAIN = "Make it again: attn-export bench, or an export without --no-bench."

TIMING = fields(
    runtime=text,
    artifact=or_null(text),
    provenance=text,
    device=text,
    precision=text,
    batch=count,
    median_ms=positive,
    median_interval_ms=interval,
    p99_ms=positive,
    p99_interval_ms=interval,
    ratio=positive,
    ratio_interval=interval,
    verdict=one_of(BASELINE, FASTER, SLOWER, CANT_TELL),
    baseline=text,
    baseline_device=text,
    rounds_ms=each(each(positive, least=1), least=1),
)
# A kit has neither a precision nor a validation.
ARTIFACT = fields(path=text, format=text)
VALIDATION = fields(runtime=text, agrees=truth)
CLASSES = fields(images=whole, differ=whole)
REPORT = fields(
    created=text,
    model=or_null(
        fields(name=text, sha256=or_null(text), architecture=or_null(every_value(anything)), input_shape=each(count))
    ),
    artifacts=each(ARTIFACT),
    latency=fields(
        threads=count,
        cpus=each(whole),
        timed=text,
        asked=fields(confidence=share, interval=positive),
        runs=each(fields(batch=count, interval=not_negative, reached=truth)),
        timings=each(TIMING),
    ),
    environment=fields(cpu=text, platform=text, python=text, packages=every_value(text)),
)


@dataclass(frozen=True)
class Report:
    """A record that was read again.

    Attributes:
        path: the file.
        record: plain values, see docs/report.md; all that is compared was looked at.
    """

    path: Path
    record: dict[str, Any]

    @property
    def timings(self) -> list[dict[str, Any]]:
        """At least one."""
        found: list[dict[str, Any]] = self.record["latency"]["timings"]
        return found

    @property
    def confidence(self) -> float:
        """Of its intervals, 0..1."""
        return float(self.record["latency"]["asked"]["confidence"])

    def baseline_of(self, timing: dict[str, Any]) -> dict[str, Any]:
        """The timing of the same batch that a timing's ratio is to."""
        return next(t for t in self.timings if t["batch"] == timing["batch"] and t["verdict"] == BASELINE)


def read_report(path: Path) -> Report:
    """Read what `export` or `bench` wrote: ``<stem>.report.json``, or the same as ``--json`` prints it.

    Raises:
        UnreadableReportError: it is missing, damaged, something else, of another schema version, or has no latencies.
    """
    document = _parsed(path, _bytes_of(path))
    _refuse_other_documents(path, document)
    try:
        REPORT(document, "")
        for i, artifact in enumerate(document["artifacts"]):
            _check_artifact(artifact, f"artifacts[{i}]")
        _check_rounds(document["latency"]["timings"])
    except WrongShape as error:
        raise UnreadableReportError(f"{path} is no whole report: {error}", hint=RUN_AGAIN) from error
    return Report(path, document)


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise UnreadableReportError(
            f"{path} does not exist", hint="Expected is a <stem>.report.json of an export or a bench."
        ) from error
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
    return content


def _parsed(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableReportError(
            f"{path} is no JSON document: {first_line(error)}",
            hint="Expected is a <stem>.report.json, or what --json printed, without anything else.",
        ) from error


def _refuse_other_documents(path: Path, document: Any) -> None:
    """Whatever else is JSON, and reports of other versions.

    Raises:
        UnreadableReportError: it is such a one.
    """
    if not isinstance(document, dict) or "schema_version" not in document:
        raise UnreadableReportError(
            f"{path} is no report of attn-export: it has no schema_version", hint="Name a <stem>.report.json."
        )
    version = document["schema_version"]
    if version is True or version != SCHEMA_VERSION:
        maker = _maker(document)
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        raise UnreadableReportError(
            f"{path} has schema version {version!r:.40}{maker}, and this attn-export reads {SCHEMA_VERSION}",
            hint="Update attn-export, or make the report again with this one."
            if newer
            else "Make the report again with this attn-export.",
        )
    if "latency" not in document:
        said = document.get("error")
        if isinstance(said, dict) and "message" in said:
            raise UnreadableReportError(
                f"{path} is what a run left that failed: {said['message']!s:.200}", hint="Let that run succeed first."
            )
        raise UnreadableReportError(f"{path} has no latencies: it is another command's document", hint=RUN_AGAIN)
    latency = document["latency"]
    if isinstance(latency, dict) and latency.get("timings") == []:
        raise UnreadableReportError(f"{path} has no latencies: nothing was timed in that run", hint=RUN_AGAIN)


def _maker(document: dict[str, Any]) -> str:
    """Which attn-export wrote it, where it says so."""
    packages = document.get("environment")
    for name in ("packages", "attn-export"):
        packages = packages.get(name) if isinstance(packages, dict) else None
    return f", made by attn-export {packages:.40}" if isinstance(packages, str) else ""


def _check_artifact(artifact: dict[str, Any], way: str) -> None:
    validation = artifact.get("validation")
    or_null(VALIDATION)(validation, f"{way}.validation")
    if validation:
        or_null(CLASSES)(validation.get("classes"), f"{way}.validation.classes")


def _check_rounds(timings: list[dict[str, Any]]) -> None:
    """Every batch has one baseline, and as many rounds of everything.

    Raises:
        WrongShape: it hasn't.
    """
    for batch in dict.fromkeys(timing["batch"] for timing in timings):
        together = [timing for timing in timings if timing["batch"] == batch]
        baselines = [timing for timing in together if timing["verdict"] == BASELINE]
        if len(baselines) != 1:
            raise WrongShape(f"latency.timings has {len(baselines)} baselines of batch {batch}; expected is one")
        if len({len(timing["rounds_ms"]) for timing in together}) > 1:
            raise WrongShape(f"latency.timings has runtimes with more rounds than others of batch {batch}")
