"""One job: how fast artifacts are, of any origin, and what attention costs in them. Compares no results."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import CPU, Axis, LoadedModel, OnnxFile, Signature
from attn_export.exporter.budgets.parse import refuse_untimed
from attn_export.exporter.cleanup.inspect import blocks_of
from attn_export.exporter.errors import InputError, RuntimeUnavailableError, UsageError
from attn_export.exporter.latency.interleaved import Candidate, TimingSettings, time_interleaved
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.records.budget import Budget
from attn_export.exporter.records.latency import Schedule, joined
from attn_export.exporter.records.results import Benched, ReportAssets
from attn_export.exporter.runtimes import RUNS_ENGINES, RUNS_FILES, RUNTIMES, check_devices, check_names
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.system import gpus
from attn_export.exporter.system.files import unique_names
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.validation.artifact import ENGINE, ONNX, ONNX_ENDING, numpy_name, read_artifact
from attn_export.exporter.validation.matching import FLOATS
from attn_export.exporter.workflows.assets import show

if TYPE_CHECKING:
    from attn_export.exporter.records.attention import AttentionCost

AXES = ("batch", "channels", "height", "width")
IMAGE = "1x3x224x224"
OF_THE_MODULE = ("eager",)
OF_A_FILE = ("onnxruntime",)
QUANTIZED = "what attention costs is not measured in a file that rounds to whole numbers"


@dataclass(frozen=True)
class BenchSettings:
    """How artifacts are timed.

    Attributes:
        runtimes: for the module and for ONNX files; none named: eager and onnxruntime. Engines have their own.
        batches: N of each run; none named: the one that the files fix, or 1.
        threads: of every runtime; all CPUs if None.
        cpus: that all of them are to use; None: those that the process may.
        schedule: of each run.
        device: where PyTorch and ONNX Runtime run.
        isolate: whether each runtime that runs a file is timed in an isolated worker.
        cost: whether to find out what attention costs in ONNX files.
        show: whether the record is to hold what a report shows.
    """

    runtimes: tuple[str, ...] = ()
    batches: tuple[int, ...] = ()
    threads: int | None = None
    cpus: tuple[int, ...] | None = None
    schedule: Schedule = field(default_factory=lambda: Schedule(seconds=20.0))
    device: str = CPU
    isolate: bool = False
    cost: bool = True
    show: bool = False


def bench(
    model: LoadedModel | None,
    paths: Sequence[Path | str],
    *,
    input_shape: tuple[int, ...] | None = None,
    settings: BenchSettings | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> Benched:
    """Time a network and artifacts against each other. Whether they compute the same is for `validate_artifacts`.

    Args:
        model: the network, timed first, so that it is the baseline; None times artifacts alone.
        paths: ONNX files, and engines with their records.
        input_shape: (C, H, W), for files that leave them open; the network's own where there is one.
        settings: see `BenchSettings`.
        trust: take engines that were changed since their records were written.
        progress: receives stages and notes.

    Raises:
        UsageError: nothing is to be timed, or something twice, or the settings contradict each other.
        InputError: an artifact can't be read, or doesn't take what is timed.
        RuntimeUnavailableError: a runtime isn't there, or there is no GPU for an engine.
    """
    settings, progress = settings or BenchSettings(), progress or NullProgress()
    files = [Path(path) for path in paths]
    if len({path.resolve() for path in files}) < len(files):
        raise UsageError("an artifact was named twice", hint="Name each once.")
    names = check_names(settings.runtimes)
    own = Settings(settings.threads or len(settings.cpus or ()) or usable_cpus(), settings.device)
    check_devices(names or (OF_THE_MODULE if model else ()) + OF_A_FILE, own)
    with progress.stage("Reading the artifacts"):
        artifacts, called = tuple(read_artifact(path, trust=trust) for path in files), unique_names(files)
        refuse_engines_without_gpu(artifacts)
        settings = replace(settings, batches=settings.batches or (fixed_batch(artifacts),))
        shape = model.input_shape if model else input_shape
        signatures = [signature_of(a, settings.batches, shape) for a in artifacts]
        refuse_different_images(artifacts, signatures)
        of_all = zip(artifacts, signatures, called, strict=True)
        onnx = tuple(
            a.as_file(signature, blocks=blocks_of(a.parsed), label=name)
            for a, signature, name in of_all
            if a.parsed is not None
        )
    if model is None and not artifacts:
        raise UsageError("nothing was named that can be timed", hint="attn-export bench model.pt model.onnx")
    for artifact in artifacts:
        if model is not None and artifact.source_sha256 and artifact.source_sha256 != model.sha256:
            progress.note(f"{artifact.path} was made of another checkpoint than {model.path}")
    together = TimingSettings(settings.schedule, own.threads, settings.cpus, settings.isolate)
    image = shape or signatures[0].input_shape[1:]
    latencies = []
    for batch in settings.batches:
        wanted = contestants(model, artifacts, signatures, called, (batch, *image), names, own, trust=trust)
        latencies.append(time_interleaved(wanted, (batch, *image), together, progress))
    assets = show(model, onnx, own, progress) if settings.show else ReportAssets()
    if settings.cost:
        with together.pin():
            pairs = zip(onnx, of_onnx(artifacts), strict=True)
            costs = [cost_of(file, artifact, settings, own, progress) for file, artifact in pairs]
        assets = replace(assets, costs=tuple(cost for cost in costs if cost is not None))
    return Benched(model, artifacts, called, onnx, joined(latencies), assets)


def cost_of(
    file: OnnxFile, artifact: Artifact, settings: BenchSettings, own: Settings, progress: Progress
) -> "AttentionCost | None":
    """What attention costs in one file, or why that isn't known; None where it has none."""
    from attn_export.exporter.latency.attention_cost.costs import attention_costs
    from attn_export.exporter.records.attention import AttentionCost

    batch = settings.batches[0]
    if artifact.quantized:
        attentive = bool(file.blocks or artifact.gates)
        return AttentionCost(file.name, *OF_A_FILE, batch, missed=QUANTIZED) if attentive else None
    costs = attention_costs([file], batch, own, settings.schedule, progress)
    return costs[0] if costs else None


def fixed_batch(artifacts: Sequence[Artifact]) -> int:
    """N that the first takes which doesn't take 1: an ONNX file's own, an engine's usual one; 1 where all do."""
    for artifact in artifacts:
        if artifact.range is not None and artifact.range.min[0] > 1:
            return artifact.range.opt[0]
        dims = artifact.inputs[0].dims if artifact.inputs and artifact.range is None else None
        if dims and isinstance(dims[0], int) and dims[0] > 0:
            return dims[0]
    return 1


def refuse_budgets(budgets: Sequence[Budget], settings: BenchSettings, *, module: bool, files: Sequence[Path]) -> None:
    """Find out before the work begins that a budget is for what won't be known.

    Args:
        budgets: that were asked for.
        settings: of the bench.
        module: whether there is a checkpoint.
        files: the artifacts.

    Raises:
        UsageError: there is such a budget.
    """
    for budget in budgets:
        if not budget.metric.timed:
            raise UsageError(
                f"--budget {budget.text}: a bench compares no results",
                hint=f"An export does: attn-export model.pt --onnx --budget {budget.text}",
            )
    engines = any(path.suffix.lower() != ONNX_ENDING for path in files)
    usual = (*(OF_THE_MODULE if module else ()), *(OF_A_FILE if files else ()))
    refuse_untimed(budgets, (*(settings.runtimes or usual), *(RUNS_ENGINES if engines else ())))


def of_onnx(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """The ONNX files among them."""
    return [artifact for artifact in artifacts if artifact.format == ONNX]


def refuse_engines_without_gpu(artifacts: Sequence[Artifact]) -> None:
    """An engine can only be timed where its GPU is.

    Raises:
        RuntimeUnavailableError: there is an engine, and no GPU.
    """
    engines = [artifact.path for artifact in artifacts if artifact.format == ENGINE]
    if engines and not gpus.found():
        raise RuntimeUnavailableError(
            f"{engines[0]} can't be timed here: there is no GPU, or no driver for it",
            runtime="tensorrt",
            hint="Leave it out, or run this on the device: an engine's latency is that of its GPU.",
        )


def refuse_different_images(artifacts: Sequence[Artifact], signatures: Sequence[Signature]) -> None:
    """What is timed against each other has to do the same work.

    Raises:
        InputError: two artifacts take images of different sizes.
    """
    for artifact, signature in zip(artifacts, signatures, strict=True):
        own, first = signature.input_shape[1:], signatures[0].input_shape[1:]
        if own != first:
            raise InputError(
                f"{artifacts[0].path} takes images of {'x'.join(map(str, first))}, and {artifact.path} of "
                f"{'x'.join(map(str, own))}: they can't be timed against each other",
                hint="Time them one after the other, or say one size that both take with --input.",
            )


def signature_of(artifact: Artifact, batches: Sequence[int], image: tuple[int, ...] | None) -> Signature:
    """What an artifact is given.

    Args:
        artifact: any.
        batches: N that it has to take.
        image: (C, H, W); None where the artifact has to say it.

    Raises:
        InputError: it takes something else, or leaves open what nobody said.
    """
    if len(artifact.inputs) != 1:
        names = ", ".join(map(str, artifact.inputs)) or "nothing"
        raise InputError(f"{artifact.path} takes {names}", hint="What can be timed takes one batch of images.")
    (taken,) = artifact.inputs
    if (dtype := numpy_name(taken.dtype)) not in ("", *FLOATS):
        raise InputError(f"{artifact.path} takes {taken} as {dtype}", hint="What can be timed takes floats.")
    dims = taken.dims or (None,) * (len(image or ()) + 1)
    usual = artifact.range.opt if artifact.range else dims
    sizes = tuple(image) if image else tuple(usual[1:])
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InputError(
            f"{artifact.path} takes {taken}, and nothing says how large its images are", hint=f"Say it: --input {IMAGE}"
        )
    for batch in batches:
        _refuse_other_shape(artifact, (batch, *map(int, sizes)))  # type: ignore[arg-type]
    axes = tuple(Axis(AXES[i] if i < len(AXES) else f"axis_{i}", i) for i, d in enumerate(dims) if not _fixed(d))
    returned = tuple(output.name for output in artifact.outputs)
    return Signature(taken.name, (batches[0], *map(int, sizes)), axes, returned)  # type: ignore[arg-type]


def _fixed(size: object) -> bool:
    return isinstance(size, int) and size > 0


def _refuse_other_shape(artifact: Artifact, shape: tuple[int, ...]) -> None:
    (taken,) = artifact.inputs
    if artifact.range is not None:
        fits, what = artifact.range.covers(shape), f"{artifact.range.min} to {artifact.range.max}"
    else:
        dims = taken.dims if taken.dims is not None else (None,) * len(shape)
        fits = len(dims) == len(shape) and all(not _fixed(d) or d == n for d, n in zip(dims, shape, strict=True))
        what = str(taken)
    if not fits:
        raise InputError(
            f"{artifact.path} takes {what}, and {'x'.join(map(str, shape))} was to be timed",
            hint="Choose other batches or another --input, or export with these axes open.",
        )


def contestants(
    model: LoadedModel | None,
    artifacts: Sequence[Artifact],
    signatures: Sequence[Signature],
    called: Sequence[str],
    shape: tuple[int, ...],
    names: Sequence[str],
    settings: Settings,
    *,
    trust: bool,
) -> list[Candidate]:
    """Everything that is timed at one shape, the module's runtimes first.

    Raises:
        UsageError: a runtime was named that nothing here runs in, or something is left without any.
    """
    wanted: list[Candidate] = []
    if model is not None:
        chosen = [name for name in names or OF_THE_MODULE if name in RUNTIMES and name not in RUNS_FILES]
        if chosen:
            wanted += of_the_module(model, chosen, shape, settings)
    for artifact, signature, title in zip(artifacts, signatures, called, strict=True):
        at = replace(signature, input_shape=shape)
        if artifact.format == ENGINE:
            engine = _engine(artifact, at, settings, trust=trust)
            engine.artifact = title
            wanted.append((title, engine))
            continue
        for name in names or OF_A_FILE:
            if name in RUNS_FILES:
                runtime = RUNTIMES[name](None, artifact.as_file(at), settings)  # type: ignore[arg-type]
                if artifact.quantized:
                    runtime.precision = artifact.quantized_type
                runtime.artifact = title
                wanted.append((f"{title} in {name}", runtime))
    if not wanted:
        raise UsageError(
            f"nothing that was named runs in {', '.join(names)}",
            hint="A checkpoint runs in eager and compile, an ONNX file in onnxruntime.",
        )
    return wanted


def of_the_module(
    model: LoadedModel, names: Sequence[str], shape: tuple[int, ...], settings: Settings
) -> list[Candidate]:
    """The runtimes of the module itself."""
    from attn_export.exporter.validation.compute_reference import returned

    signature = Signature("input", shape, (), tuple(output.name for output in returned(model)))
    file = OnnxFile(Path(), signature, model.sha256, 0, 0, ())
    return [(name, RUNTIMES[name](model, file, settings)) for name in names]


def _engine(artifact: Artifact, signature: Signature, settings: Settings, *, trust: bool) -> Runtime:
    from attn_export.exporter.runtimes.tensorrt import TensorRT

    return TensorRT(artifact.path, signature, settings, trust=trust)
