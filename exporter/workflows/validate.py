"""Validates artifacts of any origin against a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import LoadedModel, fixed
from attn_export.exporter.errors import AttnExportError, DisagreementError, InputError, UsageError
from attn_export.exporter.images.labelled import Labelled
from attn_export.exporter.images.preprocessing import PictureOptions
from attn_export.exporter.network.batches import MOST_REAL
from attn_export.exporter.records.accuracy import Evaluation
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.records.results import Validated
from attn_export.exporter.records.verdict import QualityRequirement
from attn_export.exporter.system.files import paths_of, unique_names
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.validation.artifact import read_artifact
from attn_export.exporter.validation.matching import batches_for, match
from attn_export.exporter.workflows.artifact_facts import facts_of
from attn_export.exporter.workflows.compare_artifact import compare
from attn_export.exporter.workflows.compare_quantized import compare_quantized
from attn_export.exporter.workflows.evaluate import evaluate, labelled_images
from attn_export.exporter.workflows.reference import reference_outputs
from attn_export.exporter.workflows.settings import cpu_settings
from attn_export.exporter.workflows.subject import Subject
from attn_export.exporter.workflows.user_images import STAND_INS, images_of

if TYPE_CHECKING:
    from attn_export.exporter.images.labelled import LabelledGiven
    from attn_export.exporter.images.read import Given, ImageSet
    from attn_export.exporter.validation.cache import Cache

# Of the user's images for a quantized artifact; `--eval` takes any number.
MOST_JUDGED = 512
OTHER_SIZE = "it takes images of another size than the network's usual one"


@dataclass(frozen=True)
class ValidationSettings:
    """Of a validation; see the arguments of `validate_artifacts`."""

    threads: int | None = None
    trust: bool = False
    images: "Given | ImageSet | None" = None
    pictures: PictureOptions = field(default_factory=PictureOptions)
    evaluation: "LabelledGiven | None" = None
    class_names: tuple[str, ...] = ()
    requirement: QualityRequirement | None = None
    cache: "Cache | None" = None


@dataclass(frozen=True)
class Validation:
    """The validation of several artifacts, whose pre- and postprocessing ``model`` has, on these images."""

    model: LoadedModel
    results: tuple[Validated, ...]
    images: "ImageSet | None" = None
    evaluation: Evaluation | None = None


def validate_artifacts(
    model: LoadedModel | Path | str,
    paths: Path | str | Sequence[Path | str],
    *,
    threads: int | None = None,
    trust: bool = False,
    images: "Given | ImageSet | None" = None,
    pictures: PictureOptions | None = None,
    evaluation: "LabelledGiven | None" = None,
    class_names: Sequence[str] = (),
    requirement: QualityRequirement | None = None,
    cache: "Cache | None" = None,
    progress: Progress | None = None,
) -> list[Validated]:
    """Compare artifacts with the network in double precision. Nothing is written beside them.

    Args:
        model: the network, or the path of a checkpoint that says it.
        paths: one or several ONNX files, or engines with their sidecars.
        threads: of every runtime; all usable CPUs if None.
        trust: accept engines that were changed after they were built.
        images: real ones in addition to the generated ones, see `read_images`; at most `MOST_REAL` are used, and for
            quantized artifacts `MOST_JUDGED`, on which alone their quality is judged then.
        pictures: how they become inputs.
        evaluation: labelled images, see `read_labelled`, on which the accuracy of all artifacts is measured.
        class_names: in the order of the network's scores; empty for the checkpoint's.
        requirement: for all artifacts on labelled images, or else for quantized artifacts.
        cache: of reference outputs; None computes them.

    Returns:
        One for each path, in their order. `failure` makes an error of those that don't agree, can't be read, or have
        other inputs and outputs than the network.

    Raises:
        UsageError: no artifact is named, or one twice, or there is a requirement and no quantized artifact.
        InputError: no artifact can be compared, or the network can't be a reference.
    """
    settings = ValidationSettings(
        threads, trust, images, pictures or PictureOptions(), evaluation, tuple(class_names), requirement, cache
    )
    return list(validation(model, paths, settings, progress).results)


def validation(
    model: LoadedModel | Path | str,
    paths: Path | str | Sequence[Path | str],
    settings: ValidationSettings,
    progress: Progress | None = None,
) -> Validation:
    """As `validate_artifacts`, with what else is known afterwards."""
    from attn_export.exporter.checkpoint.load import model_of

    progress = progress or NullProgress()
    model, files = model_of(model), paths_of(paths)
    if not files:
        raise UsageError("no artifact was named", hint="attn-export validate model.pt model.onnx model.engine")
    if len(set(files)) < len(files):
        raise UsageError("an artifact was named twice", hint="Name each once.")
    with progress.stage("Reading the artifacts"):
        from attn_export.exporter.validation.compute_reference import returned
        from attn_export.exporter.validation.reference import constant_outputs

        artifacts, refused = read_all(files, trust=settings.trust)
        model = as_artifacts_say(model, artifacts)
        if settings.requirement and not settings.evaluation and not any(artifact.quantized for artifact in artifacts):
            raise UsageError(
                "--require is for artifacts that round to whole numbers, and none of these does",
                hint="Others are judged by PyTorch's own error, or on labelled images (--eval).",
            )
        least = least_batch(artifacts)
        outputs, own = returned(model, least), cpu_settings(settings.threads)
        subjects: list[Subject] = []
        for artifact in artifacts:
            try:
                subjects.append(Subject(artifact, match(artifact, model.inputs, outputs), own, settings.trust))
            except InputError as error:
                refused.append(Validated(artifact.path, artifact, error=error))
        refuse_if_none(subjects, refused)
    most = MOST_JUDGED if any(artifact.quantized for artifact in artifacts) else MOST_REAL
    labelled = labelled_images(model, settings.evaluation, settings.pictures, settings.class_names, progress)
    real = images_of(model, settings.images, settings.pictures, progress, most)
    if real is None and labelled is not None and most == MOST_JUDGED:
        real = labelled.images.spread(STAND_INS)
    pixels = real.all if real else None
    batches = [batches_for(subject.artifact, subject.match, pixels) for subject in subjects]
    distinct = list({batch.names: batch for several in batches for batch in several}.values())
    precisions = [subject.artifact.precision for subject in subjects]
    reference = reference_outputs(model, distinct, precisions, progress, settings.cache, least)
    for output in constant_outputs(reference):
        progress.note(f"output {output} of {model.name} is the same for all images: it proves nothing")
    results, required = refused, None if labelled else settings.requirement
    for subject, chosen in zip(subjects, batches, strict=True):
        for note in subject.match.notes:
            progress.note(note)
        if subject.artifact.quantized:
            results.append(compare_quantized(subject, reference.for_batches(chosen), required, progress))
        else:
            results.append(compare(model, subject, reference.for_batches(chosen), progress))
    evaluation = evaluated(subjects, model, labelled, settings.requirement, progress) if labelled else None
    ordered = sorted(results, key=lambda result: files.index(result.path))
    return Validation(model, tuple(ordered), real, evaluation)


def evaluated(
    subjects: Sequence[Subject],
    model: LoadedModel,
    labelled: Labelled,
    requirement: QualityRequirement | None,
    progress: Progress,
) -> Evaluation:
    """The accuracy of the artifacts that take the network's own size, by distinct names."""
    names = unique_names([subject.artifact.path for subject in subjects])
    sizes = [own.shape[1:] for own in model.inputs]
    runtimes = {
        name: subject.runtime() if [own.shape[1:] for own in subject.match.inputs] == sizes else OTHER_SIZE
        for name, subject in zip(names, subjects, strict=True)
    }
    return evaluate(model, runtimes, labelled, requirement, subjects[0].settings, progress)


def as_artifacts_say(model: LoadedModel, artifacts: Sequence[Artifact]) -> LoadedModel:
    """The network with the preprocessing and postprocessing of the artifacts, where all have the same.

    Class names and normalization are theirs too where the network has none.

    Raises:
        InputError: they don't fit the network.
    """
    from attn_export.exporter.network.served import with_postprocessing, with_preprocessing

    said = [facts_of(artifact) for artifact in artifacts]
    names = {facts.class_names for facts in said if facts.class_names}
    normalized = {facts.of_pixels for facts in said} - {None}
    served = {(facts.preprocessing, facts.postprocessing) for facts in said}
    if not model.class_names and len(names) == 1:
        model = replace(model, class_names=names.pop())
    if not (model.normalization or model.preprocessing) and len(normalized) == 1:
        model = replace(model, normalization=normalized.pop())
    if len(served) != 1 or model.preprocessing or model.postprocessing:
        return model
    ((before, after),) = served
    model = with_preprocessing(model, before) if before is not None else model
    return with_postprocessing(model, after) if after is not None else model


def read_all(paths: Sequence[Path], *, trust: bool) -> tuple[list[Artifact], list[Validated]]:
    """The artifacts, and the results for those that can't be read. Raises InputError: none can."""
    artifacts, refused = [], []
    for path in paths:
        try:
            artifacts.append(read_artifact(path, trust=trust))
        except InputError as error:
            refused.append(Validated(path, error=error))
    refuse_if_none(artifacts, refused)
    return artifacts, refused


def refuse_if_none(usable: Sequence[object], refused: Sequence[Validated]) -> None:
    """Raise the error of the refused artifacts where no other is left."""
    if not usable and (error := failure(refused)) is not None:
        raise error


def least_batch(artifacts: Sequence[Artifact]) -> int:
    """The N at which an image runs alone: that of the artifacts where all have the same static one, because a network
    that is exported for one batch need not run at another.
    """
    batches = {artifact.inputs[0].dims[0] for artifact in artifacts if artifact.inputs and artifact.inputs[0].dims}
    (only,) = batches if len(batches) == 1 else (1,)
    return fixed(only) or 1


def failure(results: Sequence[Validated]) -> AttnExportError | None:
    """The error for all artifacts together; None if all agree.

    A disagreement comes before an artifact that doesn't fit, and that before one that can't be run.
    """
    errors = [result.error for result in results if result.error is not None]
    if not errors:
        return None
    order = {DisagreementError.exit_code: 0, InputError.exit_code: 1}
    worst, *others = sorted(errors, key=lambda error: order.get(error.exit_code, len(order)))
    if others:
        messages = "".join(f"\n{error.message}" for error in others)
        worst.message += f"\n{len(others)} more of {len(results)} artifacts:{messages}"
    return worst
