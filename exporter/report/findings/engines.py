"""What is known of an engine as tables for a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from attn_export.exporter.records.engine import PORTABLE
from attn_export.exporter.report.tables import number, table

if TYPE_CHECKING:
    from attn_export.exporter.artifacts import Kept
    from attn_export.exporter.records.results import BuildResult, Retyped

TYPE_NAMES = {"FLOAT": "float32", "FLOAT8E4M3FN": "float8"}


def engine_tables(path: Path, record: dict[str, Any]) -> list[RenderableType]:
    """Everything that an engine's record says: what it is, its kernels' types, what attention costs in it."""
    parts: list[RenderableType] = [facts_table(path, record)]
    if record["cost"]["blocks"]:
        parts += ["", cost_table(record), cost_caption(record)]
    return parts


def facts_table(path: Path, record: dict[str, Any]) -> Table:
    """What an engine is, one fact in a row."""
    made = table(str(path), "", "")
    made.show_header = False
    made.columns[1].justify, made.columns[1].no_wrap, made.columns[1].overflow = "left", False, "fold"
    backend, build, kernels = record["backend"], record["build"], record["kernels"]
    peak = f", {build['peak_bytes'] / 2**20:.0f} MiB" if build["peak_bytes"] else ""
    rows = {
        "built by": f"{backend['name']} {backend['version']}, {build['seconds']:.1f} s{peak}",
        "for": f"{gpu_words(record['gpus'])} on {record['platform']}",
        "of": f"{record['onnx']['path']}, {record['onnx']['sha256'][:12]}",
        "precision": precision_words(record["precision"]),
        "TF32": "allowed" if record["options"]["tf32"] else "off",
        **{f"input {name}": _shapes(shapes) for name, shapes in record["profile"].items()},
        "kernels": "not known" if kernels["count"] is None else str(kernels["count"]),
        "size": f"{record['bytes'] / 1e6:.1f} MB",
    }
    for name, words in rows.items():
        made.add_row(name, Text(words))
    made.add_row("on the GPU", verdict_words(record))
    for gpu, reason in record["failed"].items():
        made.add_row(f"not for {gpu}", Text(reason, "yellow"))
    return made


def precision_words(types: dict[str, Any]) -> str:
    """What the kernels compute in, and whether that is what the graph says."""
    found = ", ".join(TYPE_NAMES.get(kind, kind.lower()) for kind in types["kernels"])
    if not found:
        return f"{types['asked'] or 'as the graph says'}; the kernels' types are not known"
    if types["mixed"]:
        count = len(types["mixed"])
        return f"MIXED: {count} kernel{'s' if count > 1 else ''} in another type than the graph says ({found})"
    return f"{found}, as the graph says"


def _shapes(shapes: dict[str, Any]) -> str:
    spelled = ["×".join(map(str, shapes[key])) for key in ("min", "opt", "max")]
    different = list(dict.fromkeys(spelled))
    return different[0] if len(different) == 1 else f"{spelled[0]} to {spelled[2]}, tuned for {spelled[1]}"


def cost_table(record: dict[str, Any]) -> Table:
    """One row for each attention block, and the total that attention adds."""
    made = table("Attention", "module", "kind", "kernels", "shared", "nodes", "weights", "writes per image")
    made.columns[1].justify = "left"
    for block in record["cost"]["blocks"]:
        made.add_row(
            Text(block["module_path"]),
            Text(block["kind"]),
            str(block["kernels"]),
            str(block["shared"] or ""),
            str(block["fused_nodes"]),
            size(block["weights_bytes"]),
            "" if block["activation_bytes"] is None else size(block["activation_bytes"]),
        )
    return made


def cost_caption(record: dict[str, Any]) -> Text:
    """What attention adds to the network without it."""
    cost = record["cost"]
    shared = "shared: kernels that also compute what isn't attention, such as the addition after it"
    if cost["kernels_without_attention"] is None:
        return Text(f"\n{cost['kernels']} kernels; {shared}", style="dim")
    added = cost["kernels"] - cost["kernels_without_attention"]
    return Text.assemble(
        "\n",
        (f"attention adds {added} kernels", "bold"),
        f": {cost['kernels']} instead of {cost['kernels_without_attention']}\n",
        (shared, "dim"),
    )


def gpu_words(gpus: Sequence[str]) -> str:
    """The architectures; what "portable" stands for."""
    return ", ".join("sm80 and later" if gpu == PORTABLE else gpu for gpu in gpus)


def size(count: int) -> str:
    """Bytes for people."""
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def engines_table(engines: Sequence[dict[str, Any]]) -> Table:
    """One row for each engine, as `record.engine_record` describes them."""
    made = table("Engines", "file", "for", "kernels", "attention adds", "precision", "size", "on the GPU")
    for column in (1, 4, 6):
        made.columns[column].justify = "left"
        made.columns[column].no_wrap = False
    for engine in engines:
        cost = engine["cost"]
        plain = cost["kernels_without_attention"]
        made.add_row(
            Text(engine["path"]),
            gpu_words(engine["gpus"]),
            str(cost["kernels"] or "not known"),
            "" if plain is None else str(cost["kernels"] - plain),
            precision_words(engine["types"]),
            f"{engine['bytes'] / 1e6:.1f} MB",
            verdict_words(engine),
        )
    return made


def failed_words(engines: Sequence[dict[str, Any]]) -> list[RenderableType]:
    """The GPUs that engines were asked for and couldn't be built for, with the reasons."""
    return [
        Text.assemble("\n", (f"{engine['path']} is not for {gpu}", "yellow"), f": {reason}")
        for engine in engines
        for gpu, reason in engine["failed"].items()
    ]


def verdict_words(engine: dict[str, Any]) -> Text:
    """Whether the engine was run and compared."""
    validation = engine["validation"]
    if validation is None:
        return Text(f"not run: {engine['not_run'] or 'nothing to compare it with'}", "yellow")
    return Text("agrees", "green") if validation["agrees"] else Text("DISAGREES", "bold red")


def build_report(result: "BuildResult") -> list[RenderableType]:
    """What `from_file.build_all` made."""
    parts: list[RenderableType] = []
    for change in result.retyped:
        parts += [rounding_words(change)]
        if change.kept:
            parts += ["", kept_table(change.kept)]
    for engine in result.engines:
        parts += ["", *engine_tables(engine.path, engine.record)]
    for bundle in result.bundles:
        parts += [Text.assemble("\n", (str(bundle), "bold"), f"  on the device: attn-export build {bundle.name}")]
    return [*parts, ""]


def rounding_words(change: "Retyped") -> Text:
    """How a file of another precision stands to the one it was made of."""
    rounding = change.rounding
    return Text.assemble(
        "\n",
        (str(change.path), "bold"),
        f"  differs from its parent by {number(rounding.error)}, which is {rounding.ratio:.1f} times what rounding its "
        f"weights does ({rounding.limit:.0f} times is allowed)",
    )


def kept_table(kept: "Sequence[Kept]") -> Table:
    """The nodes that stay in float32, and why."""
    made = table("Kept in float32", "node", "operator", "module", "because")
    for column in made.columns[1:]:
        column.justify = "left"
    made.columns[-1].no_wrap = False
    for entry in kept:
        made.add_row(Text(entry.node), entry.op_type, Text(entry.module_path), Text(entry.reason))
    return made
