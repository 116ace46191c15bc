"""From a plan to its cells, and to the jobs that compute them."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from attn_export.exporter.artifacts import (
    CHECKPOINTS,
    CPU,
    LIBRARIES,
    ONNX_ENDING,
    LoadOptions,
    Normalization,
    Target,
    names_network,
)
from attn_export.exporter.engine.targets import JETSON, parse_targets
from attn_export.exporter.errors import InputError, RuntimeUnavailableError, UsageError
from attn_export.exporter.records.sweep import Cell
from attn_export.exporter.sweep.inputs import CALIBRATION, CODE, digest_of
from attn_export.exporter.sweep.job import Job, Make, Measure, Network, job
from attn_export.exporter.sweep.plan import Model, Plan
from attn_export.exporter.system.files import unique_names
from attn_export.exporter.system.packages import installed, versions

# The precision of the float file that each is made of or, where it is one itself, its own.
PRECISIONS = {"fp32": "fp32", "tf32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "fp32", "fp8": "fp32"}
QUANTIZED = ("int8", "fp8")
OF_ENGINES = ("tf32", "bf16", "fp8")
OF_CHECKPOINTS = ("eager", "compile")
ON_CPU = (*OF_CHECKPOINTS, "onnxruntime")
ENGINES = ("tensorrt", "tensorrt-rtx")
ON_GPU = ("onnxruntime-cuda", *ENGINES)
RUNTIMES = (*ON_CPU, *ON_GPU)
MOST_NAMES = 3
Options = Callable[[Model], LoadOptions]
Unoffered = Callable[[str, str], str]


@dataclass(frozen=True)
class Source:
    """A network of the plan with its files by role: "model", "code", "weights", "calibration"."""

    name: str
    network: Network
    files: Mapping[str, Path] = field(default_factory=dict)
    normalization: Normalization | None = None


@dataclass(frozen=True)
class Grid:
    """The cells of a plan and their jobs.

    Attributes:
        cells: in the plan's order, with the keys of their jobs.
        jobs: by key, those that cells need included.
        files: local paths by their digest.
        left_out: how many combinations make no cell, by reason.
    """

    cells: Mapping[Cell, str]
    jobs: Mapping[str, Job]
    files: Mapping[str, Path]
    left_out: Mapping[str, int]

    def chain(self, key: str) -> list[Job]:
        """A job after those that it needs, directly or not."""
        own = self.jobs[key]
        return [*(each for need in own.needs.values() for each in self.chain(need)), own]


def grid_of(plan: Plan, folder: Path, options: Options, unoffered: Unoffered | None = None) -> Grid:
    """The cells of a plan.

    ``options`` says how an entry is loaded, with its paths as they stand in the plan. ``unoffered`` gives
    the reason why a runtime can't serve a target, empty where it can; None if that is seen later.

    Raises:
        RuntimeUnavailableError: nothing serves a target.
        InputError: a model or its calibration images are missing.
        UsageError: a name is unknown, a model is named twice, or a part of the plan makes no cell.
    """
    _check_known("precisions", plan.precisions, list(PRECISIONS))
    _check_known("runtimes", plan.runtimes, RUNTIMES)
    targets = [canonical(name) for name in plan.targets]
    if double := [name for name, count in Counter(targets).items() if count > 1]:
        named = ", ".join(given for given, target in zip(plan.targets, targets, strict=True) if target == double[0])
        raise UsageError(f"targets: {named} are the same", hint=f"All mean {double[0]}: name it once.")
    sources = sources_of(plan, folder, options)
    digests = {path: digest_of(role, path) for source in sources for role, path in source.files.items()}
    software = {**versions(), **{name: installed(name) or "" for name in (*ENGINES, *LIBRARIES)}}
    cells: dict[Cell, str] = {}
    jobs: dict[str, Job] = {}
    left_out: Counter[str] = Counter()
    refused: dict[str, str] = {}
    for source, precision, target, batch, runtime in itertools.product(
        sources, plan.precisions, targets, plan.batches, plan.runtimes
    ):
        if reason := misfit(source.network, precision, target, runtime):
            left_out[reason] += 1
            continue
        if unoffered and (reason := unoffered(runtime, target)):
            left_out[reason] += 1
            refused[target] = reason
            continue
        chain = _jobs(source, Cell(source.name, precision, target, batch, runtime), plan, digests, software)
        jobs |= {each.key: each for each in chain}
        cells[Cell(source.name, precision, target, batch, runtime)] = chain[-1].key
    if idle := sorted(set(refused) - {cell.target for cell in cells}):
        raise RuntimeUnavailableError(
            f"nobody offers {idle[0]}: {refused[idle[0]]}",
            hint="--ray takes a cluster whose nodes have such GPUs; tensorrt-rtx builds for GPUs that aren't here.",
        )
    _check_used(plan, targets, cells, left_out)
    return Grid(cells, jobs, {digest: path for path, digest in digests.items()}, left_out)


def canonical(name: str) -> str:
    """``cpu``, or the architecture of a GPU: "RTX 4090" -> "sm89". Raises UsageError: it is unknown."""
    if name.strip().lower() == CPU:
        return CPU
    try:
        found = parse_targets([name])
    except UsageError as error:
        raise UsageError(f"targets: {name!r} is unknown", hint=error.hint) from error
    if found.current:
        raise UsageError(f"targets: {name!r} is another one on each machine", hint="Name the GPU, such as sm86.")
    return (*found.architectures, *found.bundles)[0]


def misfit(network: Network, precision: str, target: str, runtime: str) -> str:
    """The reason why a combination makes no cell; empty where it makes one."""
    if (target == CPU) != (runtime in ON_CPU):
        return f"{runtime} doesn't run on {target}"
    if runtime == "tensorrt-rtx" and target in JETSON:
        return f"tensorrt-rtx has no engines for {target}"
    if runtime in OF_CHECKPOINTS and network.kind == "onnx":
        return f"{runtime} runs checkpoints, not ONNX files"
    if runtime in OF_CHECKPOINTS and precision != "fp32":
        return f"{runtime} runs the checkpoint, which is fp32"
    if precision in OF_ENGINES and runtime not in ENGINES:
        return f"{precision} is for engines"
    return ""


def sources_of(plan: Plan, folder: Path, options: Options) -> list[Source]:
    """The networks of a plan, patterns expanded.

    Raises:
        InputError: a file is missing, or is neither a checkpoint nor an ONNX file.
        UsageError: a network is named twice, int8 lacks images, or an option doesn't fit.
    """
    found = [(entry, path) for entry in plan.entries for path in _files_of(entry, folder)]
    places = [str(path or entry.path) for entry, path in found]
    if double := [place for place, count in Counter(places).items() if count > 1]:
        raise UsageError(f"models: {double[0]} is named twice", hint="A pattern may match it too.")
    stems = iter(unique_names([path.with_suffix("") for entry, path in found if path and not entry.name]))
    names = [entry.name or (next(stems) if path else entry.path) for entry, path in found]
    if double := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"models: two are called {double[0]}", hint="Give one another name: {path = …, name = …}.")
    quantized = [precision for precision in plan.precisions if precision in QUANTIZED]
    return [
        _source(name, entry, path, folder, options(entry), quantized)
        for name, (entry, path) in zip(names, found, strict=True)
    ]


def _source(
    name: str, entry: Model, path: Path | None, folder: Path, options: LoadOptions, quantized: Sequence[str]
) -> Source:
    files = {"model": path} if path else {}
    if options.code:
        files[CODE] = _existing(folder / options.code, "code", folders=True)
    if options.weights:
        files["weights"] = _existing(folder / options.weights, "weights")
    if quantized:
        images = entry.calibration
        if not images:
            raise UsageError(
                f"{quantized[0]} needs images to choose ranges from, and {name} has none",
                hint='calibration = "images": a folder of a hundred typical pictures, or an array, .npy or .npz.',
            )
        files[CALIBRATION] = _existing(folder / images, "the calibration images", folders=True)
    normalization = Normalization(entry.mean, entry.std) if entry.mean else None
    bare = replace(options, code=None, weights=None)  # their content counts, and not where they are
    if path is None:
        return Source(name, Network("zoo", entry.path, bare), files, normalization)
    onnx = path.suffix.lower() == ONNX_ENDING
    if onnx and options != LoadOptions(inputs=options.inputs):
        raise UsageError(
            f"models: {path} is an ONNX file, which needs no code and no options of checkpoints",
            hint="Of its table only path, name, input and what concerns calibration count.",
        )
    return Source(name, Network("onnx" if onnx else "checkpoint", "", bare), files, normalization)


def _files_of(entry: Model, folder: Path) -> Sequence[Path | None]:
    """The files of an entry; None for a network of the zoo."""
    path = folder / entry.path
    if path.is_file():
        found = [path]
    elif any(letter in entry.path for letter in "*?["):
        pattern = Path(entry.path)
        root = Path(pattern.anchor) if pattern.is_absolute() else folder
        try:
            found = sorted(root.glob(str(pattern.relative_to(pattern.anchor))))
        except (OSError, ValueError, NotImplementedError, RecursionError) as error:  # no folder, or no sense
            raise InputError(
                f"models: {entry.path} can't be looked for: {error}", hint="Expected is a pattern such as nets/*.pt."
            ) from error
        if not found:
            raise InputError(f"models: nothing matches {entry.path}", hint=f"It is looked for in {folder.resolve()}.")
    elif path.suffix.lower() in (*CHECKPOINTS, ONNX_ENDING) or "/" in entry.path:
        found = [_existing(path, "the model")]
    else:
        if not names_network(entry.path):
            _check_zoo(entry.path, folder)
        return [None]
    for file in found:
        if file.suffix.lower() not in (*CHECKPOINTS, ONNX_ENDING):
            raise InputError(
                f"models: {file} is no checkpoint and no ONNX file",
                hint=f"Endings: {', '.join((*CHECKPOINTS, ONNX_ENDING))}.",
            )
    return found


def _existing(path: Path, what: str, *, folders: bool = False) -> Path:
    if path.is_dir() and not folders:
        raise InputError(f"{what} {path} is a folder, and one file is expected", hint="A pattern: nets/*.pt.")
    if not path.exists():
        raise InputError(f"{what} {path} is missing", hint="Paths are relative to the plan.")
    return path


def _check_zoo(name: str, folder: Path) -> None:
    from attn_export.models.registry import architecture

    try:
        architecture(name)
    except ValueError as error:
        raise InputError(
            f"models: {name} is no file in {folder.resolve()} and no network of the zoo",
            hint=f"{error}. `attn-export models` lists the zoo.",
        ) from error


def _jobs(
    source: Source, cell: Cell, plan: Plan, digests: Mapping[Path, str], software: Mapping[str, str]
) -> tuple[Job, ...]:
    """The job of a cell after those that it needs."""
    model = {role: digests[path] for role, path in source.files.items() if role != CALIBRATION}
    task = Measure(source.network, cell.precision, cell.target, cell.batch, cell.runtime, plan.seconds, plan.ci / 100)
    if cell.runtime in OF_CHECKPOINTS:
        return (job(str(cell), task, files=model, needs={}, versions=software, target=cell.target, timed=True),)
    first = Make(source.network, PRECISIONS[cell.precision], Target.TENSORRT.value)
    made = [
        job(f"{cell.model} {first.precision}", first, files=model, needs={}, versions=software, target=CPU, timed=False)
    ]
    if cell.precision in QUANTIZED:
        form = Target.TENSORRT if cell.runtime in ENGINES else Target.ONNXRUNTIME
        images = {**model, CALIBRATION: digests[source.files[CALIBRATION]]}
        quantized = Make(source.network, cell.precision, form.value, source.normalization)
        name = f"{cell.model} {cell.precision} for {form}"
        needs = {"float32": made[0].key}
        made.append(job(name, quantized, files=images, needs=needs, versions=software, target=CPU, timed=False))
    needs = {"onnx": made[-1].key}
    last = job(str(cell), task, files={}, needs=needs, versions=software, target=cell.target, timed=True)
    return (*made, last)


def _check_known(key: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"{key}: {name!r} is unknown", hint=f"Known are {', '.join(known)}.")


def _check_used(plan: Plan, targets: Sequence[str], cells: Mapping[Cell, str], left_out: Mapping[str, int]) -> None:
    """Refuse a part of the plan that makes no cell at all."""
    for key, values, used in (
        ("targets", targets, {cell.target for cell in cells}),
        ("runtimes", plan.runtimes, {cell.runtime for cell in cells}),
        ("precisions", plan.precisions, {cell.precision for cell in cells}),
    ):
        if idle := [value for value in values if value not in used]:
            reasons = "; ".join(list(left_out)[:MOST_NAMES])
            raise UsageError(f"{key}: {idle[0]} makes no cell", hint=f"{reasons}. Take it out, or add what it needs.")
