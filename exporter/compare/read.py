"""A file -> a report whose latencies can be relied on."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attn_export.exporter.errors import UnreadableReportError, first_line
from attn_export.exporter.records.latency import BASELINE, CANT_TELL, FASTER, SLOWER

SCHEMA_VERSION = 1
MOST_BYTES = 2**28
RUN_AGAIN = "Make it again: attn-export bench, or an export without --no-bench."


def interval(value: object, way: str) -> None:
    """Two numbers above 0, the smaller one first."""
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong(way, "two numbers", value)
    for i, end in enumerate(value):
        positive(end, f"{way}[{i}]")
    if value[0] > value[1]:
        raise _wrong(way, "the smaller number first", value)


def positive(value: object, way: str) -> None:
    """A number above 0, not infinite."""
    if not _is_finite(value) or not value > 0:  # type: ignore[operator]
        raise _wrong(way, "a number above 0", value)


Check = Callable[[object, str], None]


def fields(**checks: Check) -> Check:
    """An object with at least these fields."""

    def check(value: object, way: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(way, "an object", value)
        for name, of_field in checks.items():
            place = f"{way}.{name}" if way else name
            if name not in value:
                raise WrongShape(f"{place} is missing")
            of_field(value[name], place)

    return check


def one_of(*words: str) -> Check:
    """One of these strings."""

    def check(value: object, way: str) -> None:
        if not isinstance(value, str) or value not in words:
            raise _wrong(way, f"one of {', '.join(words)}", value)

    return check


def each(of_item: Check, least: int = 0) -> Check:
    """A list of at least so many."""

    def check(value: object, way: str) -> None:
        if not isinstance(value, list):
            raise _wrong(way, "a list", value)
        if len(value) < least:
            raise WrongShape(f"{way} has {len(value)} entries; expected are at least {least}")
        for i, item in enumerate(value):
            of_item(item, f"{way}[{i}]")

    return check


def or_null(otherwise: Check) -> Check:
    """Null, or what a check takes."""
    return lambda value, way: None if value is None else otherwise(value, way)


def text(value: object, way: str) -> None:
    """A string."""
    if not isinstance(value, str):
        raise _wrong(way, "a string", value)


def count(value: object, way: str) -> None:
    """A whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _wrong(way, "a whole number from 1 on", value)


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
# A bundle has neither a precision nor a validation.
ARTIFACT = fields(path=text, format=text)


def truth(value: object, way: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise _wrong(way, "true or false", value)


VALIDATION = fields(runtime=text, agrees=truth)


def whole(value: object, way: str) -> None:
    """A whole number from 0 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _wrong(way, "a whole number from 0 on", value)


CLASSES = fields(images=whole, differ=whole)


def anything(value: object, way: str) -> None:
    """Whatever it is."""


def not_negative(value: object, way: str) -> None:
    """A number from 0 on, not infinite."""
    if not _is_finite(value) or not value >= 0:  # type: ignore[operator]
        raise _wrong(way, "a number from 0 on", value)


def share(value: object, way: str) -> None:
    """A number between 0 and 1, neither of them."""
    if not _is_finite(value) or not 0 < value < 1:  # type: ignore[operator]
        raise _wrong(way, "a number between 0 and 1", value)


def every_value(of_value: Check) -> Check:
    """An object with any names."""

    def check(value: object, way: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(way, "an object", value)
        for name, item in value.items():
            of_value(item, f"{way}.{name}")

    return check


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


"""Takes a value and the way to it, such as ``latency.timings[2].batch``; raises `WrongShape`."""


class WrongShape(ValueError):  # noqa: N818 (it is caught beside its makers, and no error of the project's)
    """A value isn't what is expected at its place; the message says which, and what it is."""


def _is_finite(value: object) -> bool:
    """Whether it is a number that has a size; whole numbers that no float can hold have none for us."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _wrong(way: str, expected: str, value: object) -> WrongShape:
    told = {dict: "an object", list: "a list", type(None): "null"}.get(type(value), repr(value)[:40])
    if isinstance(value, list) and len(value) <= 3:
        told = repr(value)[:40]
    return WrongShape(f"{way or 'the document'} is {told}; expected is {expected}")
