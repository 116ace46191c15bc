"""Whether two reports are of the same network, and what else changed between them, in words."""

from collections.abc import Iterator
from typing import Any

from attn_export.exporter.comparison.read import LoadedReport
from attn_export.exporter.errors import IncomparableReportsError
from attn_export.exporter.records.report import Report

ANOTHER = "Compare reports of the same network; two networks are timed against each other by attn-export bench."


def refuse_another_network(old: LoadedReport, new: LoadedReport) -> None:
    """What two different networks take says nothing about a change of one.

    Raises:
        IncomparableReportsError: the reports are of such.
    """
    before, now = old.record.model, new.record.model
    if before and now:
        for what in ("name", "input_shape", "architecture"):
            was, is_now = getattr(before, what), getattr(now, what)
            if was != is_now and None not in (was, is_now):
                raise IncomparableReportsError(
                    f"{old.path} is of another network than {new.path}: its {what.replace('_', ' ')} is "
                    f"{_told(was)}, not {_told(is_now)}",
                    hint=ANOTHER,
                )
    before_attention, now_attention = _attention(old), _attention(new)
    if not (before and now) and before_attention and now_attention and before_attention != now_attention:
        raise IncomparableReportsError(
            f"{old.path} is of another network than {new.path}: their attention blocks differ", hint=ANOTHER
        )
    before_shape, now_shape = _image_shape(old), _image_shape(new)
    if before_shape and now_shape and before_shape != now_shape:
        raise IncomparableReportsError(
            f"{old.path} is of another network than {new.path}: its images are {_told(before_shape)}, not "
            f"{_told(now_shape)}",
            hint=ANOTHER,
        )


def _told(value: Any) -> str:
    if isinstance(value, tuple):
        return "×".join(map(str, value))
    return ", ".join(f"{key} {entry}" for key, entry in value.items()) if isinstance(value, dict) else str(value)


def _attention(report: LoadedReport) -> list[tuple[str, int | None]]:
    """Kind and channels of the blocks of the first file that lists them; none if none does."""
    inventories = (file.attention for file in report.record.onnx_files if file.attention)
    return [(block.kind, block.channels) for block in next(inventories, ())]


def _image_shape(report: LoadedReport) -> tuple[int | str | None, ...]:
    """(C, H, W) that the first ONNX file was given, with dynamic axes too; empty where there is none."""
    return next((file.input.shape[1:] for file in report.record.onnx_files), ())


def other_machine(old: LoadedReport, new: LoadedReport) -> tuple[str, ...]:
    """How the machine, or what of it could be used, differs; nothing if it doesn't."""
    before, now = old.record, new.record
    found = []
    if before.environment.cpu != now.environment.cpu:
        found.append(f"the CPU was {before.environment.cpu} and is {now.environment.cpu}")
    gpus = [_gpu_names(report.record) for report in (old, new)]
    if all(gpus) and gpus[0] != gpus[1]:
        found.append(f"the GPU was {', '.join(gpus[0])} and is {', '.join(gpus[1])}")
    threads = [report.record.latency.threads for report in (old, new)]
    if threads[0] != threads[1]:
        found.append(f"{threads[0]} threads were used and {threads[1]} are now")
    cpus = [sorted(report.record.latency.cpus) for report in (old, new)]
    if cpus[0] != cpus[1]:
        found.append(f"CPUs {_listed(cpus[0])} could be used and {_listed(cpus[1])} can now")
    return tuple(found)


def _listed(numbers: list[int]) -> str:
    return ",".join(map(str, numbers)) if len(numbers) <= 8 else f"{numbers[0]} to {numbers[-1]} ({len(numbers)})"


def _gpu_names(report: Report) -> list[str]:
    return [gpu.name for gpu in report.environment.gpus]


def circumstances(old: LoadedReport, new: LoadedReport) -> Iterator[str]:
    """What whoever reads the comparison has to know of how the two runs differ, one sentence each."""
    before, now = old.record, new.record
    if before == now:
        yield "both reports are the same"
        return
    if before.created > now.created:
        yield f"{old.path} was made after {new.path}: are they the wrong way round?"
    if not (before.model and now.model):
        yield "a report doesn't say what network was timed; both are taken for the same"
    elif None not in (hashes := [before.model.sha256, now.model.sha256]) and hashes[0] != hashes[1]:
        yield "the weights are others than before"
    for what in ("python", "platform"):
        was, is_now = getattr(before.environment, what), getattr(now.environment, what)
        if was != is_now:
            yield f"another {what}: {was}, now {is_now}"
    changed = changed_packages(old, new)
    if changed:
        told = ", ".join(f"{name} {was}, now {now_is}" for name, (was, now_is) in changed.items())
        yield f"other versions: {told}"
    yield from _other_provenance(old, new, changed)
    if before.latency.timed != now.latency.timed:
        yield f"what is timed isn't the same: {before.latency.timed}; now {now.latency.timed}"


def changed_packages(old: LoadedReport, new: LoadedReport) -> dict[str, tuple[str, str]]:
    """Versions before and now, by package, where they differ."""
    before, now = (report.record.environment.packages for report in (old, new))
    return {
        name: (before.get(name, "unknown"), now.get(name, "unknown"))
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    }


def _other_provenance(old: LoadedReport, new: LoadedReport, changed: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Runtimes that ran as something else, which the packages' versions don't explain."""
    before = {t.runtime: t.provenance for t in old.timings}
    now = {t.runtime: t.provenance for t in new.timings}
    for runtime in [name for name in before if name in now and before[name] != now[name]]:
        explained = before[runtime]
        for was, is_now in changed.values():
            explained = explained.replace(was, is_now)
        if explained != now[runtime]:
            yield f"{runtime} ran as {before[runtime]}, now as {now[runtime]}"
