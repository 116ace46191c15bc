"""Everything that was made, timed against each other."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.building import EngineFile
from attn_export.exporter.deploying import Deployed
from attn_export.exporter.latency import Timing, measure
from attn_export.exporter.progress import Progress
from attn_export.exporter.proving import Proven
from attn_export.exporter.runtimes import RUNS_FILES, RUNTIMES, Runtime, Settings

if TYPE_CHECKING:
    from attn_export.exporter.workflow import ExportSettings

# On an idle machine the 90th percentile lies within a few percent of the median.
RESTLESS = 1.5


def time_all(
    model: LoadedModel,
    proven: Sequence[Proven],
    deployed: Sequence[Deployed],
    runtime_settings: Settings,
    settings: "ExportSettings",
    progress: Progress,
) -> list[Timing]:
    """Open every runtime for every artifact that it runs, and time them against each other.

    Engines are timed where there is a GPU for them and their profile takes the batch that is timed.

    Raises:
        RuntimeUnavailableError: a runtime can't be had.
    """
    import numpy as np

    if not settings.runtimes:
        return []
    names = [name for name in settings.runtimes if name in RUNTIMES]
    shape = (settings.batch, *model.input_shape)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    # A runtime that compiles for a shape compiles for the one that is timed.
    timed = [replace(p.file, signature=replace(p.file.signature, input_shape=shape)) for p in proven]
    wanted: list[tuple[str, Runtime]] = []
    for name in names:
        files = timed if name in RUNS_FILES else timed[:1]
        wanted += [(name, RUNTIMES[name](model, file, runtime_settings)) for file in files]
    for file, made in zip(timed, deployed, strict=False):
        wanted += [
            (engine.path.name, _engine(engine, file, runtime_settings))
            for engine in made.engines
            if engine.record["not_run"] is None and engine.taken(file.signature.input_name).covers(shape)
        ]
    if not wanted:
        return []
    with ExitStack() as stack:
        opened = []
        for name, runtime in wanted:
            with progress.stage(f"Opening {name}"):
                opened.append(stack.enter_context(runtime))
        with progress.stage("Timing, in turns") as advance:
            timings = measure(opened, images, settings.schedule, advance)
    for timing in timings:
        if timing.p90_ms > RESTLESS * timing.median_ms:
            progress.note(
                f"{timing.runtime}'s latencies vary a lot (p90 is {timing.p90_ms / timing.median_ms:.1f} times the "
                "median): something else was running here, so don't rely on them"
            )
    return timings


def _engine(engine: EngineFile, file: OnnxFile, settings: Settings) -> Runtime:
    from attn_export.exporter.runtimes.tensorrt import TensorRT

    return TensorRT(engine.path, file.signature, settings)
