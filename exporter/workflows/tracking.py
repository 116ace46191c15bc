"""Logs a report to an MLflow server, as a run of its own: https://mlflow.org/docs/latest/ml/tracking/."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from attn_export.exporter.errors import RuntimeUnavailableError, first_line
from attn_export.exporter.records.report import OnnxRecord, Report

EXPERIMENT = "attn-export"
# MLflow asks a server that isn't there for minutes unless the user says otherwise.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
FORBIDDEN = r"[^\w\-. /]+"  # in names of metrics


def log(report: Report, source: Path, uri: str) -> str:
    """Log a report: its network and versions as parameters, errors and latencies as metrics, the file as an artifact.

    ``source`` is the report's file.

    Returns:
        The run's id.

    Raises:
        RuntimeUnavailableError: mlflow-skinny isn't installed, or the server doesn't take the run.
    """
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise RuntimeUnavailableError(
            "logging to MLflow needs mlflow-skinny, which isn't installed", hint="pip install 'attn-export[mlflow]'"
        ) from error
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(EXPERIMENT)
        place = known.experiment_id if known is not None else client.create_experiment(EXPERIMENT)
        run = str(client.create_run(place, run_name=report.model.name if report.model else source.stem).info.run_id)
        for name, value in _parameters(report):
            client.log_param(run, name, value)
        for name, number in _metrics(report):
            client.log_metric(run, re.sub(FORBIDDEN, "_", name), number)
        client.log_artifact(run, str(source))
        client.set_terminated(run)
    except Exception as error:  # MLflow's, requests' and urllib3's
        raise RuntimeUnavailableError(
            f"{uri} doesn't take the run: {first_line(error)}",
            hint="Is it the address of an MLflow tracking server, such as http://localhost:5000?",
        ) from error
    return run


def _parameters(report: Report) -> Iterator[tuple[str, str]]:
    if report.model is not None:
        yield "network", report.model.name
        yield "checkpoint_sha256", report.model.sha256 or ""
    yield "command", " ".join(report.command or ())[:500]
    yield "threads", str(report.latency.threads)
    yield "cpu", report.environment.cpu
    yield from ((f"version {package}", version) for package, version in report.environment.packages.items())


def _metrics(report: Report) -> Iterator[tuple[str, float]]:
    """The worst error ratio of each artifact, and the latencies with their intervals."""
    for one in report.artifacts:
        ratio = one.validation.worst.ratio if isinstance(one, OnnxRecord) and one.validation else None
        if ratio is not None:
            yield f"{Path(one.path).name}/error ratio", ratio
    for timing in report.latency.timings:
        name = f"{timing.label}/batch {timing.batch}"
        low, high = timing.median_interval_ms
        yield f"{name} median ms", timing.median_ms
        yield f"{name} median ms low", low
        yield f"{name} median ms high", high
        yield f"{name} p99 ms", timing.p99_ms
