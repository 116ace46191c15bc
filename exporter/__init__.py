"""Networks to artifacts that are proven and timed.

What stands in ``__all__`` is the library's interface, described in docs/api.md; everything else is internal. Names are
imported when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attn_export.exporter.artifacts import Input as Input
    from attn_export.exporter.artifacts import LoadedModel as LoadedModel
    from attn_export.exporter.artifacts import Normalization as Normalization
    from attn_export.exporter.artifacts import Postprocessing as Postprocessing
    from attn_export.exporter.artifacts import Precision as Precision
    from attn_export.exporter.artifacts import Target as Target
    from attn_export.exporter.checkpoint.load import load as load
    from attn_export.exporter.cleanup.inspect import inspect_file as inspect
    from attn_export.exporter.comparison.compare import compare_files as compare
    from attn_export.exporter.engine.settings import EngineSettings as EngineSettings
    from attn_export.exporter.errors import AttnExportError as AttnExportError
    from attn_export.exporter.records.compare import ComparisonReport as ComparisonReport
    from attn_export.exporter.records.latency import Schedule as Schedule
    from attn_export.exporter.records.report import Report as Report
    from attn_export.exporter.records.results import Benched as BenchResult
    from attn_export.exporter.records.results import BuildResult as BuildResult
    from attn_export.exporter.records.results import CleanResult as CleanResult
    from attn_export.exporter.records.results import ExportResult as ExportResult
    from attn_export.exporter.records.results import Validated as ValidationResult
    from attn_export.exporter.records.verdict import Verdict as Verdict
    from attn_export.exporter.report.write import write_report as write_report
    from attn_export.exporter.workflows.bench import bench as bench
    from attn_export.exporter.workflows.build import build_all as build
    from attn_export.exporter.workflows.clean import clean_file as clean
    from attn_export.exporter.workflows.export import export as export
    from attn_export.exporter.workflows.package import PackageSettings as PackageSettings
    from attn_export.exporter.workflows.package import package as package
    from attn_export.exporter.workflows.predict import predict as predict
    from attn_export.exporter.workflows.served import ServedOptions as ServedOptions
    from attn_export.exporter.workflows.settings import BenchSettings as BenchSettings
    from attn_export.exporter.workflows.settings import ExportSettings as ExportSettings
    from attn_export.exporter.workflows.validate import validate_artifacts as validate

# Public name -> module below this package, and the name there.
_HOMES = {
    "AttnExportError": ("errors", "AttnExportError"),
    "BenchResult": ("records.results", "Benched"),
    "BenchSettings": ("workflows.settings", "BenchSettings"),
    "BuildResult": ("records.results", "BuildResult"),
    "CleanResult": ("records.results", "CleanResult"),
    "ComparisonReport": ("records.compare", "ComparisonReport"),
    "EngineSettings": ("engine.settings", "EngineSettings"),
    "ExportResult": ("records.results", "ExportResult"),
    "ExportSettings": ("workflows.settings", "ExportSettings"),
    "Input": ("artifacts", "Input"),
    "LoadedModel": ("artifacts", "LoadedModel"),
    "Normalization": ("artifacts", "Normalization"),
    "PackageSettings": ("workflows.package", "PackageSettings"),
    "Postprocessing": ("artifacts", "Postprocessing"),
    "Precision": ("artifacts", "Precision"),
    "Report": ("records.report", "Report"),
    "ServedOptions": ("workflows.served", "ServedOptions"),
    "Schedule": ("records.latency", "Schedule"),
    "Target": ("artifacts", "Target"),
    "ValidationResult": ("records.results", "Validated"),
    "Verdict": ("records.verdict", "Verdict"),
    "bench": ("workflows.bench", "bench"),
    "build": ("workflows.build", "build_all"),
    "clean": ("workflows.clean", "clean_file"),
    "compare": ("comparison.compare", "compare_files"),
    "export": ("workflows.export", "export"),
    "inspect": ("cleanup.inspect", "inspect_file"),
    "load": ("checkpoint.load", "load"),
    "package": ("workflows.package", "package"),
    "predict": ("workflows.predict", "predict"),
    "validate": ("workflows.validate", "validate_artifacts"),
    "write_report": ("report.write", "write_report"),
}
__all__ = [
    "AttnExportError",
    "BenchResult",
    "BenchSettings",
    "BuildResult",
    "CleanResult",
    "ComparisonReport",
    "EngineSettings",
    "ExportResult",
    "ExportSettings",
    "Input",
    "LoadedModel",
    "Normalization",
    "PackageSettings",
    "Postprocessing",
    "Precision",
    "Report",
    "Schedule",
    "ServedOptions",
    "Target",
    "ValidationResult",
    "Verdict",
    "bench",
    "build",
    "clean",
    "compare",
    "export",
    "inspect",
    "load",
    "package",
    "predict",
    "validate",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _HOMES:
        module, original = _HOMES[name]
        return getattr(import_module(f"{__name__}.{module}"), original)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
