"""A few images through checkpoints and ONNX files, side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from attn_export.exporter.artifacts import (
    CHECKPOINTS,
    ONNX_ENDING,
    Axis,
    Input,
    LoadedModel,
    LoadOptions,
    Normalization,
    Signature,
    names_network,
)
from attn_export.exporter.errors import InputError, UsageError
from attn_export.exporter.images.preprocessing import PictureOptions
from attn_export.exporter.images.read import Given, ImageSet, read_images
from attn_export.exporter.network.axes import BATCH as BATCH_AXIS
from attn_export.exporter.network.axes import opened
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.prediction import Guess, Prediction, PredictionSummary
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.system.files import paths_of, unique_names
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.validation.accuracy import probabilities
from attn_export.exporter.validation.artifact import ENGINES, read_artifact
from attn_export.exporter.validation.matching import Match
from attn_export.exporter.workflows.artifact_facts import facts_of
from attn_export.exporter.workflows.evaluate import BATCH, run_all
from attn_export.exporter.workflows.settings import cpu_settings
from attn_export.exporter.workflows.subject import Subject
from attn_export.exporter.workflows.user_images import (
    announced,
    inputs_of,
    known_of,
    options_of,
)

TOP = 5


@dataclass(frozen=True)
class PredictSettings:
    """Names of the classes (empty: those of each artifact), how many are shown, and how pictures become inputs."""

    class_names: tuple[str, ...] = ()
    top: int = TOP
    pictures: PictureOptions = field(default_factory=PictureOptions)
    loading: LoadOptions = field(default_factory=LoadOptions)
    threads: int | None = None


@dataclass(frozen=True)
class _Candidate:
    """An artifact that can be asked; a size of 0 takes any. The normalization is that of the network."""

    inputs: tuple[Input, ...]
    options: PictureOptions
    normalization: Normalization | None
    class_names: tuple[str, ...]
    runtime: Callable[[Arrays], Runtime]
    notes: tuple[str, ...] = ()


def is_artifact(path: Path) -> bool:
    """Whether a path is that of a checkpoint, an ONNX file or an engine, or names a network; images are all others."""
    return names_network(path) or path.suffix.lower() in (*CHECKPOINTS, *ENGINES, ONNX_ENDING)


def predict(
    artifacts: Path | str | Sequence[Path | str],
    images: Given,
    *,
    settings: PredictSettings | None = None,
    progress: Progress | None = None,
) -> PredictionSummary:
    """Ask artifacts about images: ``predict(["model.pt", "model.int8.onnx"], "photo.jpg")``.

    Args:
        artifacts: checkpoints and ONNX files. Where one doesn't say how its images are normalized, or what its classes
            are called, it is taken to be as in the first that does.
        images: see `read_images`.

    Raises:
        UsageError: nothing is named, or nothing says how the images are normalized.
        InputError: an artifact or image can't be read, or it returns no scores (N, classes).
        RuntimeUnavailableError: a runtime can't run an artifact.
    """
    paths, settings, progress = paths_of(artifacts), settings or PredictSettings(), progress or NullProgress()
    if not paths:
        raise UsageError("no artifact was named", hint="attn-export predict model.onnx photo.jpg")
    own, names = cpu_settings(settings.threads), unique_names(paths)
    with progress.stage("Reading the artifacts"):
        found = {name: _candidate(path, settings, own) for name, path in zip(names, paths, strict=True)}
    for note in dict.fromkeys(note for each in found.values() for note in each.notes):
        progress.note(note)
    known = next((each.normalization for each in found.values() if each.normalization), None)
    named = next((each.class_names for each in found.values() if each.class_names), ())
    sets, guesses, runtimes = {}, {}, {}
    for name, candidate in found.items():
        options = candidate.options
        if candidate.inputs[0].dtype.startswith("float"):
            options = replace(options, normalization=options.normalization or known)
        sets[name] = read_images(images, candidate.inputs, options)
        with progress.stage(f"Running {name}"):
            runtimes[name], guesses[name] = _asked(candidate, sets[name], name, settings, named)
    for source in {images.source: images for images in sets.values()}.values():
        announced(source, progress)
    return PredictionSummary(
        artifacts=tuple(names),
        runtimes=runtimes,
        sources={name: images.source for name, images in sets.items()},
        images=tuple(_predictions(sets[names[0]].names, guesses)),
    )


def _candidate(path: Path, settings: PredictSettings, own: Settings) -> _Candidate:
    from attn_export.exporter.checkpoint.load import load_with

    if names_network(path) or path.suffix.lower() in CHECKPOINTS:
        return _of_network(load_with(path, settings.loading), settings, own)
    artifact = read_artifact(path)
    if artifact.parsed is None:
        raise InputError(
            f"{path} is an engine, and predict asks checkpoints and ONNX files", hint="Name the ONNX file beside it."
        )
    model, outputs = artifact.parsed.model, tuple(tensor.name for tensor in artifact.outputs)
    inputs = tuple(inputs_of(model))
    if not inputs:
        raise InputError(f"{path} takes nothing", hint="Expected is a file that takes images.")

    def runtime(arrays: Arrays) -> Runtime:
        sized = tuple(_sized(taken, arrays[taken.name]) for taken in inputs)
        return Subject(artifact, Match(Signature(sized, outputs), sized, ()), own, trust=False).runtime()

    options = options_of(model, settings.pictures)
    known = facts_of(artifact)
    normalization, names = options.normalization or known.of_pixels, known.class_names or ()
    return _Candidate(inputs, options, normalization, names, runtime)


def _of_network(model: LoadedModel, settings: PredictSettings, own: Settings) -> _Candidate:
    from attn_export.exporter.runtimes.eager import Eager
    from attn_export.exporter.validation.compute_reference import returned

    signature = Signature(opened(model.inputs), tuple(entry.name for entry in returned(model)))
    options = known_of(model, settings.pictures)
    names = model.class_names or ()
    return _Candidate(
        model.inputs, options, options.normalization, names, lambda _: Eager(model, signature, own), model.notes
    )


def _sized(taken: Input, array: Array) -> Input:
    """An input in the size of an array; its batch is dynamic unless the file says it."""
    batch = taken.shape[0]
    return replace(taken, shape=(batch or 1, *array.shape[1:]), axes=() if batch else (Axis(BATCH_AXIS, 0),))


def _asked(
    candidate: _Candidate, images: ImageSet, name: str, settings: PredictSettings, named: tuple[str, ...]
) -> tuple[str, list[tuple[Guess, ...]]]:
    """The runtime's name, and for each image the likeliest classes; ``named`` are the classes of another artifact."""
    labels, found = settings.class_names or candidate.class_names, list[tuple[Guess, ...]]()
    with candidate.runtime(images.load([0])) as runtime:
        for start in range(0, len(images), BATCH):
            outputs = run_all(runtime, images.load(range(start, min(start + BATCH, len(images)))))
            found += _guesses(outputs, labels or _fitting(named, outputs), settings.top, name)
    return runtime.name, found


def _fitting(named: tuple[str, ...], outputs: Mapping[str, Array]) -> tuple[str, ...]:
    """The names, if there is a score for each of them, or all numbers of classes are below theirs."""
    numbers = [array for array in outputs.values() if array.ndim == 2 and array.dtype.kind in "iu"]
    if numbers:
        return named if all(array.max() < len(named) for array in numbers) else ()
    return named if any(array.ndim == 2 and array.shape[1] == len(named) for array in outputs.values()) else ()


def _guesses(outputs: Mapping[str, Array], labels: Sequence[str], top: int, name: str) -> list[tuple[Guess, ...]]:
    """The likeliest classes of each image, from scores of all classes or from the best ones with their numbers."""
    scores = next((a for a in outputs.values() if a.ndim == 2 and a.shape[1] > 1 and a.dtype.kind == "f"), None)
    if scores is None:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in outputs.items())
        raise InputError(f"{name} returns {shapes}, and expected are scores (N, classes)", hint="Is it a classifier?")
    if not np.isfinite(scores).all():
        raise InputError(f"{name} returns NaN or infinity", hint="attn-export validate names where it starts.")
    numbers = next((a for a in outputs.values() if a.shape == scores.shape and a.dtype.kind in "iu"), None)
    chances = np.asarray(scores, np.float64) if numbers is not None else probabilities(np.asarray(scores, np.float64))
    classes = np.broadcast_to(np.arange(scores.shape[1]), scores.shape) if numbers is None else numbers
    if labels and (classes.max() >= len(labels) or (numbers is None and len(labels) != scores.shape[1])):
        raise InputError(
            f"{name} knows {int(classes.max()) + 1} classes, and {len(labels)} have names", hint="Check --labels."
        )
    order = np.argsort(-chances, axis=1, kind="stable")[:, :top]
    return [
        tuple(Guess(labels[classes[i, k]] if labels else str(classes[i, k]), float(chances[i, k])) for k in row)
        for i, row in enumerate(order)
    ]


def _predictions(names: Sequence[str], guesses: Mapping[str, list[tuple[Guess, ...]]]) -> Iterator[Prediction]:
    for i, image in enumerate(names):
        answers = {artifact: several[i] for artifact, several in guesses.items()}
        yield Prediction(image, answers, len({best[0].label for best in answers.values()}) == 1)
