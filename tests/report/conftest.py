"""Pages of several reports, rendered once."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from attn_export.exporter.records.report import BundleRecord, Report
from attn_export.exporter.report.page.render import render
from tests.report import page
from tests.report.sample import bare_sample, bench_sample, changed, engine, gpu_conditions, sample


def everything() -> Report:
    """A report with all parts, and with a failed budget and a noisy run."""
    report = sample(
        blocks=4,
        runtimes=("eager", "onnxruntime", "compile"),
        batches=(1, 4),
        precisions=("float32", "float16"),
        rounds=12,
    )
    places = [block.place for block in report.onnx_files[0].attention]
    others = (engine("model", places, "CBAM"), BundleRecord("model.bundle.zip", "ab" * 32, 1000))
    return changed(
        replace(report, artifacts=(*report.artifacts, *others)),
        {
            "latency/runs/0/conditions/gpus": [gpu_conditions()],
            "latency/runs/1/reached": False,
            "latency/runs/1/interval": 0.08,
            "model/notes": ["the weights are those of an exponential moving average"],
        },
    )


SAMPLES: dict[str, Callable[[], Report]] = {
    "everything": everything,
    "one": lambda: sample(blocks=1, kind="SE", runtimes=("eager",), rounds=2),
    "bench": lambda: bench_sample(rounds=5),
    "bare": bare_sample,
}


@pytest.fixture(scope="session", params=SAMPLES, ids=str)
def record(request: pytest.FixtureRequest) -> Report:
    return SAMPLES[request.param]()


@pytest.fixture(scope="session")
def html(record: Report) -> str:
    return render(record)


@pytest.fixture(scope="session")
def document(html: str) -> page.Element:
    return page.read(html)


@pytest.fixture(scope="session")
def full_record() -> Report:
    return everything()


@pytest.fixture(scope="session")
def full_html(full_record: Report) -> str:
    return render(full_record)


@pytest.fixture(scope="session")
def full_document(full_html: str) -> page.Element:
    return page.read(full_html)
