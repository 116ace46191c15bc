"""The findings of `attn-export doctor` about a machine."""

from attn_export.exporter.report.findings.table import BAD, GOOD, PLAIN, UNSURE, Cell, Table, table
from attn_export.exporter.system.cache_folder import MAX_BYTES
from attn_export.exporter.system.libraries import Library
from attn_export.exporter.system.machine import Memory
from attn_export.exporter.system.survey import Survey

GIB = 2**30


def doctor_tables(survey: Survey) -> list[Table]:
    """Machine, libraries, GPUs, possible jobs and missing parts."""
    jobs: list[list[str | Cell]] = [
        [job.name, Cell("yes", GOOD) if job.possible else Cell("no", UNSURE), job.reason] for job in survey.jobs
    ]
    missing = [[part.name, part.gives + (f" ({part.how})" if part.how else "")] for part in survey.missing]
    tables = [
        machine_table(survey),
        table("Libraries", ["library", "<version", "<state"], [_library_row(library) for library in survey.libraries]),
        gpus_table(survey),
        table("Possible here", ["job", "<possible", "<because"], jobs),
    ]
    return [*tables, table("Not here", ["part", "<would give"], missing)] if missing else tables


def machine_table(survey: Survey) -> Table:
    """One row for each fact."""
    machine, jetson = survey.machine, survey.jetson
    rows = [
        ["attn-export", machine.attn_export or "not installed"],
        ["Python", f"{machine.python}, {machine.executable}"],
        ["system", machine.system],
        ["CPU", f"{machine.cpu}, {machine.cpus} usable"],
        ["memory", memory_text(machine.memory)],
        ["cache", f"{machine.cache}, {machine.cache_bytes / 2**20:.1f} of at most {MAX_BYTES / 2**20:.0f} MiB"],
    ]
    if jetson:
        release = (jetson.model, jetson.l4t and f"L4T {jetson.l4t}", jetson.jetpack)
        rows.insert(3, ["Jetson", ", ".join(filter(None, release))])
    return table("Machine", ["", "<"], rows)


def _library_row(library: Library) -> list[str | Cell]:
    trouble = Cell(library.trouble, BAD if library.installed else UNSURE)
    return [library.wanted.name, library.version or "", Cell(_note(library), PLAIN) if library.works else trouble]


def _note(library: Library) -> str:
    facts = library.facts
    if "cuda" in facts:
        usable = "" if facts.get("usable") else ", no usable GPU"
        return f"CUDA {facts.get('cuda')}{usable}" if facts.get("cuda") else "without CUDA"
    if "providers" in facts:
        return ", ".join(name.removesuffix("ExecutionProvider") for name in facts.get("providers", ()))
    return f"for {', '.join(facts.get('architectures', ()))}" if facts.get("architectures") else ""


def gpus_table(survey: Survey) -> Table:
    """One row for each GPU, or the reason why there is none."""
    if not survey.gpus.gpus:
        return table("GPU", [""], [[Cell(survey.gpus.trouble or "none", UNSURE)]])
    rows = [
        [
            gpu.name,
            gpu.compute_capability,
            "—" if gpu.memory_mib is None else f"{gpu.memory_mib} MiB",
            gpu.driver or "—",
        ]
        for gpu in survey.gpus.gpus
    ]
    return table("GPU", ["name", "<compute capability", "<memory", "<driver"], rows)


def memory_text(memory: Memory) -> str:
    """``23.4 GiB, 21.3 free``."""
    if memory.total is None:
        return "unknown"
    free = f", {memory.available / GIB:.1f} free" if memory.available is not None else ""
    return f"{memory.total / GIB:.1f} GiB{free}"
