"""Networks to artifacts that are proven and timed.

The rooms, in the order in which data flows through them: `checkpoint`, `capture`, `cleanup`, `validation`, `latency`,
`report`; `runtimes` stands beside the last three, and `workflow` walks through all of them.
"""

from typing import TYPE_CHECKING, Any

from attn_export.exporter.errors import AttnExportError

if TYPE_CHECKING:
    from attn_export.exporter.records.results import ExportResult
    from attn_export.exporter.workflows.export import export
    from attn_export.exporter.workflows.settings import ExportSettings

__all__ = ["AttnExportError", "ExportResult", "ExportSettings", "export"]


def __getattr__(name: str) -> Any:
    """Import the workflow when it is first asked for: `attn-export --help` needs none of what it needs."""
    if name in __all__:
        from attn_export.exporter.workflows import export as workflow

        return getattr(workflow, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
