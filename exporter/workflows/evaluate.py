"""The accuracy of a network and its artifacts on labelled images: every image goes through each of them once."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from attn_export.exporter.artifacts import LoadedModel, Signature
from attn_export.exporter.errors import InputError, RuntimeUnavailableError
from attn_export.exporter.images.labelled import Labelled, LabelledGiven, read_labelled
from attn_export.exporter.images.preprocessing import PictureOptions
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.images import REAL
from attn_export.exporter.records.accuracy import Evaluation, Flip
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.gates import PYTORCH
from attn_export.exporter.records.results import Proven
from attn_export.exporter.records.verdict import QualityRequirement
from attn_export.exporter.runtimes import runtime_of_file
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.runtimes.eager import Eager
from attn_export.exporter.system.progress import Progress, counted
from attn_export.exporter.validation.accuracy import (
    NONE,
    TOP,
    Answers,
    accuracy_of,
    answers_of,
    flipped,
    joined,
    judged,
    of_all,
)
from attn_export.exporter.validation.compute_reference import returned
from attn_export.exporter.validation.gate_activations import thumbnail
from attn_export.exporter.workflows.export_job import ExportJob
from attn_export.exporter.workflows.user_images import announced, known_of

BATCH = 16
MOST_FLIPS = 12


@dataclass(frozen=True)
class Scores:
    """Which output has the scores (N, classes); or of the ``top`` best, whose classes the next one names."""

    outputs: tuple[str, ...]
    index: int
    classes: int
    top: int = 0

    @property
    def ranked(self) -> int:
        """Of how many classes the order is known, as far as a top-5 goes."""
        return self.top if 0 < self.top < TOP else self.classes

    def of(self, returned: Mapping[str, Array], names: Sequence[str]) -> Array:
        """The scores (N, classes) among an artifact's outputs, which have these names."""
        found = returned[names[self.index]]
        return of_all(found, returned[names[self.index + 1]], self.classes) if self.top else found


def scores_of_network(model: LoadedModel) -> Scores:
    """Where a network returns scores: its first output (N, classes). Raises InputError: nowhere."""
    outputs = returned(model)
    names = tuple(output.name for output in outputs)
    if (after := model.postprocessing) is not None and after.top:
        return Scores(names, 0, after.classes, after.top)
    for index, entry in enumerate(outputs):
        if len(entry.shape) == 1 and entry.shape[0] > 1 and not entry.whole:
            return Scores(names, index, entry.shape[0])
    raise InputError(
        f"{model.name} returns {', '.join(map(str, outputs))}, and accuracy is that of scores (N, classes)",
        hint="Leave --eval out.",
    )


def labelled_images(
    model: LoadedModel, given: LabelledGiven | None, options: PictureOptions, names: Sequence[str], progress: Progress
) -> Labelled | None:
    """Labelled images for a network; None without any.

    Without ``names`` the classes are called as in the checkpoint.

    Raises:
        InputError: they can't be read, don't fit, or the network returns no scores.
    """
    if given is None:
        return None
    classes = scores_of_network(model).classes
    known = names or model.class_names or ()
    found = read_labelled(given, model.inputs, known_of(model, options), classes, known)
    announced(found.images, progress)
    progress.note(f"{found.images.source.path or 'labels'}: classes are matched {found.matched}")
    return found


def evaluate(
    model: LoadedModel,
    runtimes: Mapping[str, Runtime | str],
    data: Labelled,
    requirement: QualityRequirement | None,
    settings: Settings,
    progress: Progress,
) -> Evaluation:
    """Run the network in float32 and its artifacts on the same images.

    Each of the artifacts' runtimes isn't open, or is the reason why there is none.
    """
    scores = scores_of_network(model)
    missing = {name: runtime for name, runtime in runtimes.items() if isinstance(runtime, str)}
    ready = {name: runtime for name, runtime in runtimes.items() if not isinstance(runtime, str)}
    module = Eager(model, Signature(opened(model.inputs), scores.outputs), settings)
    with ExitStack() as stack, progress.stage("Evaluating on labelled images") as advance:
        ran: dict[str, Runtime] = {PYTORCH: stack.enter_context(module)}
        ran |= _opened(ready, stack, missing)
        found = _answers(ran, data, scores, advance, missing)
    flips = flipped({name: answers for name, answers in found.items() if name != PYTORCH}, found[PYTORCH])
    results = [
        accuracy_of(answers, found[PYTORCH], artifact=name, runtime=ran[name].name, classes=scores.ranked)
        for name, answers in found.items()
    ]
    for name, reason in missing.items():
        progress.note(f"{name} is not evaluated: {reason}")
    return Evaluation(
        source=data.images.source,
        classes=scores.classes,
        matched=data.matched,
        results=(results[0], *(judged(result, requirement) for result in results[1:])),
        flips=tuple(_flip(i, found, data, model) for i in flips[:MOST_FLIPS]),
        flipped=len(flips),
        requirement=requirement,
        not_evaluated=missing,
    )


def evaluate_files(job: ExportJob, proven: Sequence[Proven], data: Labelled) -> Evaluation:
    """The accuracy of the ONNX files of an export, on the CPU."""
    on_cpu = Settings(job.runtimes.threads)
    runtimes: dict[str, Runtime | str] = {
        artifact.file.path.name: runtime_of_file(artifact.file, on_cpu) for artifact in proven
    }
    return evaluate(job.model, runtimes, data, job.settings.requirement, on_cpu, job.progress)


def _answers(
    ran: Mapping[str, Runtime], data: Labelled, where: Scores, advance: Callable[[float], None], missing: dict[str, str]
) -> dict[str, Answers]:
    """The answers of each runtime, PyTorch's first; batch by batch, so that no picture is decoded twice.

    ``missing`` receives the reason of an artifact that fails on the way.
    """
    starts, parts = range(0, len(data.labels), BATCH), list[dict[str, Answers]]()
    step = counted(advance, len(starts))
    for start in starts:
        rows = range(start, min(start + BATCH, len(data.labels)))
        arrays, labels = data.images.load(rows), np.array([data.labels[i] for i in rows])
        reference = _scores(ran[PYTORCH], arrays, where)
        scores = {PYTORCH: reference}
        for name in [name for name in ran if name not in (PYTORCH, *missing)]:
            try:
                scores[name] = _like(_scores(ran[name], arrays, where), reference)
            except RuntimeUnavailableError as error:
                missing[name] = error.message
        parts.append({name: answers_of(own, labels, reference) for name, own in scores.items()})
        step()
    return {name: joined([part[name] for part in parts]) for name in ran if name not in missing}


def _scores(runtime: Runtime, arrays: Arrays, where: Scores) -> Array:
    return where.of(run_all(runtime, arrays), runtime.signature.output_names)


def _like(scores: Array, reference: Array) -> Array:
    """Scores in the shape of PyTorch's: a file may return (N, classes, 1, 1)."""
    if scores.size != reference.size:
        raise RuntimeUnavailableError(
            f"it returns {scores.shape} for {len(reference)} images of {reference.shape[1]} classes", hint=""
        )
    return scores.reshape(reference.shape)


def _opened(runtimes: Mapping[str, Runtime], stack: ExitStack, missing: dict[str, str]) -> dict[str, Runtime]:
    """The runtimes that can run here, opened; the others' reasons go into ``missing``."""
    found: dict[str, Runtime] = {}
    for name, runtime in runtimes.items():
        try:
            found[name] = stack.enter_context(runtime)
        except RuntimeUnavailableError as error:
            missing[name] = error.message
    return found


def run_all(runtime: Runtime, arrays: Arrays) -> dict[str, Array]:
    """The outputs of any number of images; a static batch that isn't full is filled with the last image."""
    taken, count = runtime.signature, len(next(iter(arrays.values())))
    size = count if any(axis.index == 0 for axis in taken.inputs[0].axes) else taken.batch
    parts = []
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        parts.append(runtime.run(taken.feeds({name: array[rows] for name, array in arrays.items()})))
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def _flip(i: int, found: Mapping[str, Answers], data: Labelled, model: LoadedModel) -> Flip:
    answers = {name: int(of.answers[i]) for name, of in found.items()}
    others = [of.margins[i] for of in found.values() if of.answers[i] != answers[PYTORCH]]
    image = next(iter(data.images.load([i]).values()))[0]
    return Flip(
        image=data.images.names[i],
        label=data.names[data.labels[i]],
        answers={name: "not a number" if answer == NONE else data.names[answer] for name, answer in answers.items()},
        margin=float(max(others)),
        picture=thumbnail(image, model, REAL),
    )
