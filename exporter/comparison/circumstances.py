"""Whether two reports are of the same network, and how the two runs differ, in words."""

from collections.abc import Iterator, Sequence
from typing import Any

from attn_export.exporter.comparison.read import TimedReport
from attn_export.exporter.errors import IncomparableReportsError
from attn_export.exporter.records.report import Report


def refuse_another_network(old: TimedReport, new: TimedReport) -> None:
    """Compare networks by name, input shape and architecture, or by their ONNX files where no checkpoint was given.

    Raises:
        IncomparableReportsError: the networks differ.
    """
    before, now = old.record.model, new.record.model
    difference = ""
    if before and now:
        for field in ("name", "inputs", "architecture"):
            values = getattr(before, field), getattr(now, field)
            if not difference and values[0] != values[1] and None not in values:
                verb = "are" if field == "inputs" else "is"
                difference = f"its {field} {verb} {_words(values[0])}, not {_words(values[1])}"
    elif _differ((_attention(old), _attention(new))):
        difference = "their attention blocks differ"
    if not difference and _differ(shapes := (_inputs(old), _inputs(new))):
        difference = f"its inputs are {_words(shapes[0])}, not {_words(shapes[1])}"
    if difference:
        raise IncomparableReportsError(
            f"{old.path} is of another network than {new.path}: {difference}",
            hint="Compare reports of the same network; attn-export bench times two networks against each other.",
        )


def _differ(values: tuple[Sequence[Any], Sequence[Any]]) -> bool:
    """Whether both reports have a value, and not the same."""
    return bool(values[0] and values[1] and values[0] != values[1])


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return ", ".join(f"{key} {entry}" for key, entry in value.items()) if isinstance(value, dict) else str(value)


def _attention(report: TimedReport) -> list[tuple[str, int | None]]:
    """Kind and channels of the blocks of the first file with an inventory; empty without one."""
    inventories = (file.attention for file in report.record.onnx_files if file.attention)
    return [(block.kind, block.channels) for block in next(inventories, ())]


def _inputs(report: TimedReport) -> tuple[str, ...]:
    """The sizes of the first ONNX file's inputs without N, with dynamic axes too; empty without a file."""
    return next((tuple(map(str, file.inputs)) for file in report.record.onnx_files), ())


def other_machine(old: TimedReport, new: TimedReport) -> tuple[str, ...]:
    """The differences between the machines: CPU, GPU, threads, usable CPUs."""
    before, now = old.record, new.record
    found = []
    if before.environment.cpu != now.environment.cpu:
        found.append(f"the CPU was {before.environment.cpu} and is {now.environment.cpu}")
    gpus = _gpu_names(before), _gpu_names(now)
    if _differ(gpus):
        found.append(f"the GPU was {', '.join(gpus[0])} and is {', '.join(gpus[1])}")
    if before.latency.threads != now.latency.threads:
        found.append(f"{before.latency.threads} threads were used and {now.latency.threads} are now")
    cpus = sorted(before.latency.cpus), sorted(now.latency.cpus)
    if cpus[0] != cpus[1]:
        found.append(f"CPUs {_listed(cpus[0])} could be used and {_listed(cpus[1])} can now")
    return tuple(found)


def _listed(numbers: list[int]) -> str:
    return ",".join(map(str, numbers)) if len(numbers) <= 8 else f"{numbers[0]} to {numbers[-1]} ({len(numbers)})"


def _gpu_names(report: Report) -> list[str]:
    return [gpu.name for gpu in report.environment.gpus]


def circumstances(old: TimedReport, new: TimedReport) -> Iterator[str]:
    """Other differences between the two runs that matter for the comparison, one sentence each."""
    before, now = old.record, new.record
    if before == now:
        yield "both reports are the same"
        return
    if before.created > now.created:
        yield f"{old.path} is more recent than {new.path}: are they the wrong way round?"
    if not (before.model and now.model):
        yield "a report doesn't say what network was timed; both are taken for the same"
    elif None not in (hashes := [before.model.sha256, now.model.sha256]) and hashes[0] != hashes[1]:
        yield "the weights changed"
    for field in ("python", "platform"):
        values = getattr(before.environment, field), getattr(now.environment, field)
        if values[0] != values[1]:
            yield f"another {field}: {values[0]}, now {values[1]}"
    changed = _changed_packages(before, now)
    if changed:
        versions = (f"{name} {version}, now {new_version}" for name, (version, new_version) in changed.items())
        yield f"other versions: {', '.join(versions)}"
    yield from _other_provenance(old, new, changed)
    if before.latency.timed != now.latency.timed:
        yield f"the latencies cover different work: {before.latency.timed}; now {now.latency.timed}"


def _changed_packages(before: Report, now: Report) -> dict[str, tuple[str, str]]:
    """Versions before and now, by package, where they differ."""
    old, new = before.environment.packages, now.environment.packages
    return {
        name: (old.get(name, "unknown"), new.get(name, "unknown"))
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    }


def _other_provenance(old: TimedReport, new: TimedReport, changed: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Changed provenance of runtimes that the packages' versions don't explain."""
    before = {timing.runtime: timing.provenance for timing in old.timings}
    now = {timing.runtime: timing.provenance for timing in new.timings}
    for runtime in [name for name in before if name in now and before[name] != now[name]]:
        explained = before[runtime]
        for old_version, new_version in changed.values():
            explained = explained.replace(old_version, new_version)
        if explained != now[runtime]:
            yield f"{runtime} ran as {before[runtime]}, now as {now[runtime]}"
