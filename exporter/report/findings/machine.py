"""What a machine has, as tables for a terminal."""

from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from attn_export.exporter.report.tables import table

GIB = 2**30


def doctor_tables(found: dict[str, Any]) -> list[RenderableType]:
    """The sections of the report, from the plain values of a survey."""
    parts: list[RenderableType] = [machine_table(found), "", libraries_table(found), "", gpus_table(found)]
    parts += ["", jobs_table(found)]
    if found["missing"]:
        parts += ["", missing_table(found)]
    return parts


def machine_table(found: dict[str, Any]) -> Table:
    """One row for each fact."""
    machine, jetson = found["machine"], found["jetson"]
    made = words("Machine", 2)
    made.add_row("attn-export", machine["attn_export"] or "not installed")
    made.add_row("Python", f"{machine['python']}, {machine['executable']}")
    made.add_row("system", machine["system"])
    if jetson:
        release = ", ".join(filter(None, (jetson["l4t"] and f"L4T {jetson['l4t']}", jetson["jetpack"])))
        made.add_row("Jetson", Text(f"{jetson['model']}{f', {release}' if release else ''}"))
    made.add_row("CPU", Text(f"{machine['cpu']}, {machine['cpus']} usable"))
    made.add_row("memory", memory_text(machine["memory"]))
    return made


def libraries_table(found: dict[str, Any]) -> Table:
    """One row for each library, with what is wrong with it."""
    made = words("Libraries", "library", "version", "")
    for library in found["libraries"]:
        if library["works"]:
            state = Text(library_note(library))
        else:
            state = Text(library["trouble"], "bold red" if library["installed"] else "yellow")
        made.add_row(library["name"], library["version"] or "", state)
    return made


def library_note(library: dict[str, Any]) -> str:
    """What matters of a library that works."""
    if "cuda" in library:
        if not library["cuda"]:
            return "without CUDA"
        return f"CUDA {library['cuda']}{'' if library['usable'] else ', no GPU that it can use'}"
    if "providers" in library:
        return ", ".join(name.removesuffix("ExecutionProvider") for name in library["providers"])
    return f"for {', '.join(library['architectures'])}" if library.get("architectures") else ""


def gpus_table(found: dict[str, Any]) -> Table:
    """One row for each GPU, or why there is none."""
    if not found["gpus"]:
        made = words("GPU", 1)
        made.add_row(Text(found["gpu_trouble"] or "none", "yellow"))
        return made
    made = words("GPU", "name", "compute capability", "memory", "driver")
    for gpu in found["gpus"]:
        memory = f"{gpu['memory_mib']} MiB" if gpu["memory_mib"] is not None else "—"
        made.add_row(Text(gpu["name"]), gpu["compute_capability"] or "—", memory, gpu["driver"] or "—")
    return made


def jobs_table(found: dict[str, Any]) -> Table:
    """What can be done here, and why."""
    made = words("Possible here", "job", "", "because")
    for job in found["jobs"]:
        made.add_row(
            job["name"], Text("yes", "green") if job["possible"] else Text("no", "yellow"), Text(job["reason"])
        )
    return made


def missing_table(found: dict[str, Any]) -> Table:
    """What isn't here, with the command below, on a line of its own to be copied."""
    made = words("Not here", "part", "would give")
    for part in found["missing"]:
        told = Text(part["gives"] + (f" ({part['how']})" if part["how"] else ""))
        if part["command"]:
            told.append("\n→ ", "bold cyan").append(part["command"], "bold")
        made.add_row(part["name"], told)
    return made


def words(title: str, *columns: str | int) -> Table:
    """A table of words: all columns to the left, the last one folded where the window is narrow.

    Args:
        title: above it.
        columns: their heads, or how many there are without heads.
    """
    (count,) = columns if len(columns) == 1 and isinstance(columns[0], int) else (0,)
    made = table(title, *([""] * int(count) if count else map(str, columns)))
    made.show_header = not count
    for column in made.columns:
        column.justify = "left"
    made.columns[-1].no_wrap, made.columns[-1].overflow = False, "fold"
    return made


def memory_text(memory: dict[str, Any]) -> str:
    """``23.4 GiB, 21.3 free``."""
    if memory["total"] is None:
        return "unknown"
    free = f", {memory['available'] / GIB:.1f} free" if memory["available"] is not None else ""
    return f"{memory['total'] / GIB:.1f} GiB{free}"
