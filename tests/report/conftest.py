"""Pages of several records, drawn once."""

import json
from collections.abc import Callable

import pytest

from attn_export.exporter.report.page.render import render
from tests.report import page
from tests.report.sample import Record, bare_sample, bench_sample, engine, gpu_conditions, sample


def everything() -> Record:
    """A record in which nothing is absent, and something is wrong."""
    record = sample(
        blocks=4,
        runtimes=("eager", "onnxruntime", "compile"),
        batches=(1, 4),
        precisions=("float32", "float16"),
        rounds=12,
    )
    record["artifacts"].append(engine("model", [b["module_path"] for b in record["artifacts"][0]["attention"]], "CBAM"))
    record["artifacts"].append({"path": "model.bundle.zip", "format": "bundle", "sha256": "ab" * 32, "bytes": 1000})
    record["latency"]["runs"][0]["conditions"]["gpus"] = [gpu_conditions()]
    record["latency"]["runs"][1].update(reached=False, interval=0.08)
    record["model"]["notes"] = ["the weights are those of an exponential moving average"]
    return record


SAMPLES: dict[str, Callable[[], Record]] = {
    "everything": everything,
    "one": lambda: sample(blocks=1, kind="SE", runtimes=("eager",), rounds=2),
    "bench": lambda: bench_sample(rounds=5),
    "bare": bare_sample,
}


@pytest.fixture(scope="session", params=SAMPLES, ids=str)
def record(request: pytest.FixtureRequest) -> Record:
    """As it is read from a file."""
    return json.loads(json.dumps(SAMPLES[request.param]()))


@pytest.fixture(scope="session")
def html(record: Record) -> str:
    return render(record)


@pytest.fixture(scope="session")
def document(html: str) -> page.Element:
    return page.read(html)


@pytest.fixture(scope="session")
def full_record() -> Record:
    return json.loads(json.dumps(everything()))


@pytest.fixture(scope="session")
def full_html(full_record: Record) -> str:
    return render(full_record)


@pytest.fixture(scope="session")
def full_document(full_html: str) -> page.Element:
    return page.read(full_html)
