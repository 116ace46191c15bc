"""The public interface: its list is pinned, and every name leads somewhere."""

from importlib import import_module
from importlib.metadata import version

import pytest

import attn_export.exporter as api

PUBLIC = {
    *(
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
    ),
    *(
        "BenchResult",
        "BuildResult",
        "CleanResult",
        "ComparisonReport",
        "ExportResult",
        "ValidationResult",
        "Report",
        "Verdict",
    ),
    *("Normalization", "PackageSettings", "Postprocessing", "ServedOptions"),
    *("BenchSettings", "EngineSettings", "ExportSettings", "Schedule", "Precision", "Target", "LoadedModel"),
    "AttnExportError",
}


def test_the_public_names_are_these() -> None:
    assert set(api.__all__) == PUBLIC
    assert sorted(api.__all__) == api.__all__


def test_every_public_name_is_there_and_described() -> None:
    for name in api.__all__:
        assert getattr(api, name).__doc__, name


def test_a_function_is_never_hidden_by_a_package_of_its_name() -> None:
    from attn_export.exporter import comparison, report

    assert comparison.__name__.endswith("comparison")
    assert report.__name__.endswith("report")
    assert callable(api.compare)


def test_the_version_is_that_of_the_installed_distribution() -> None:
    package = import_module("attn_export")
    assert package.__version__ == version("attn-export")
    with pytest.raises(AttributeError):
        package.nothing_of_this_name  # noqa: B018
