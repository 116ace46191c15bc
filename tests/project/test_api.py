"""The public interface: its list is pinned, and every name leads somewhere."""

import inspect
from importlib import import_module
from importlib.metadata import version

import pytest

import attn_export.exporter as api

# Functions with their parameters, types alone.
PUBLIC: dict[str, str | None] = {
    "bench": "model, paths, *, inputs, settings, trust, progress",
    "build": "source, out, *, precisions, settings, threads, progress",
    "clean": "source, out, *, target, threads, images, pictures, progress",
    "compare": "old, new, *, slower",
    "export": "module, input_shape, out, *, inputs, name, served, settings, progress",
    "inspect": "path",
    "load": "path, *, arch, input_shape, inputs, code, factory, kwargs, trust, weights, key",
    "package": "files, settings, progress",
    "predict": "artifacts, images, *, settings, progress",
    "validate": "model, paths, *, threads, trust, images, pictures, evaluation, class_names, requirement, cache, "
    "progress",
    "write_report": "report, path",
} | dict.fromkeys(
    (
        *("AttnExportError", "BenchResult", "BuildResult", "CleanResult", "ComparisonReport", "ExportResult"),
        *("ValidationResult", "Report", "Verdict", "Input", "LoadedModel", "Normalization", "Postprocessing"),
        *("BenchSettings", "EngineSettings", "ExportSettings", "PackageSettings", "ServedOptions"),
        *("Precision", "Schedule", "Target"),
    )
)


def test_the_public_names_are_these() -> None:
    assert set(api.__all__) == set(PUBLIC)
    assert sorted(api.__all__) == api.__all__


@pytest.mark.parametrize("name", [name for name, parameters in PUBLIC.items() if parameters])
def test_the_parameters_of_a_function_are_these(name: str) -> None:
    """Others would break the code of callers."""
    parameters = list(inspect.signature(getattr(api, name)).parameters.values())
    keyword = next((i for i, each in enumerate(parameters) if each.kind is each.KEYWORD_ONLY), len(parameters))
    names = [each.name for each in parameters]
    assert ", ".join([*names[:keyword], *(["*"] if names[keyword:] else []), *names[keyword:]]) == PUBLIC[name]


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
