"""One job: an ONNX file to a cleaned ONNX file, every rewrite proven and the whole compared with its parent."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.pipeline import clean
from attn_export.exporter.errors import CleanupError, OutputError, UnreadableGraphError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.randomness import random_outputs
from attn_export.exporter.graph.read import files_of, read
from attn_export.exporter.images.preprocessing import PictureOptions
from attn_export.exporter.network.batches import MOST_REAL
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.cleanup import RevertedRewrite
from attn_export.exporter.records.results import CleanResult
from attn_export.exporter.records.verdict import Verdict, number
from attn_export.exporter.system.bounds import bounded_work
from attn_export.exporter.system.files import total_bytes
from attn_export.exporter.system.generation import publish_together
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.memory import forget_weights, trim
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.system.scratch import scratch_folder
from attn_export.exporter.validation.inner_tensors import Tensor
from attn_export.exporter.validation.source_graph import SourceRun, compare_with_source, run_perturbed, run_source
from attn_export.exporter.workflows.user_images import announced, images_for

if TYPE_CHECKING:
    from attn_export.exporter.images.read import Given

FIRST_OPSET = 11


def clean_file(
    source: Path | str,
    out: Path | str,
    *,
    target: Target = Target.ANY,
    threads: int | None = None,
    images: "Given | None" = None,
    pictures: PictureOptions | None = None,
    progress: Progress | None = None,
) -> CleanResult:
    """Clean an ONNX file: ``clean_file("model.onnx", "clean.onnx")``.

    Args:
        source: any ONNX file of opset 11 and up, from any exporter.
        out: the result, which may be the same path; it appears when it is proven, or not at all.
        target: whose preferences decide where two forms compute the same.
        threads: for the comparison in ONNX Runtime; all usable CPUs if None.
        images: on which the graphs are compared too, see `read_images`; at most 16.
        pictures: how they become inputs.

    Returns:
        The result. Rewrites that would have changed what is computed were reverted, see ``cleaned.reverted``.

    Raises:
        UnreadableGraphError: the file isn't there, is damaged, or isn't valid ONNX.
        CleanupError: a step failed, or the result doesn't compute what the file computes.
        InputError: the images can't be read or don't fit.
        OutputError: the result can't be written.
    """
    source, out, progress = Path(source), Path(out), progress or NullProgress()
    threads = threads or usable_cpus()
    with progress.stage("Reading the graph"), bounded_work(total_bytes(source)):
        model = read(source)
        _check_opset(model, source)
        before, sources = len(model.graph), files_of(model)
    size = total_bytes(source, *sources)
    with progress.stage("Running it"), bounded_work(size, parts=2):  # the cleaned graph needs as much
        real = None
        if images is not None:
            real = announced(images_for(model, images, pictures).spread(MOST_REAL), progress).all
        runs = run_source(model, source.parent, threads, real)
        random = random_outputs(model)
    with bounded_work(size), scratch_folder(out.parent) as scratch:
        with progress.stage("Cleaning the graph"):
            cleaned = clean(model, target)
            after = len(model.graph)
            file = scratch / out.name
            onnx_file.save(model, file)
            forget_weights(model)
            del model
            trim()
        with progress.stage("Comparing it with its parent"):
            try:
                child = read(file)
            except UnreadableGraphError as error:
                raise CleanupError(
                    f"the cleaned graph is not valid ONNX: {error.message}",
                    hint="This is a defect of the cleanup. Please report it with the file.",
                ) from error
            verdict = _compared(runs, source, child, file, threads) if not isinstance(runs, str) else None
        weights = onnx_file.external_data_of(out)
        if onnx_file.external_data_of(file).exists() and weights.resolve() in sources and not _is_same(source, out):
            raise OutputError(
                f"{out} would need {weights.name} for its weights, and {source} has its own there",
                hint="Choose another name for the result.",
            )
        keep = set[Path]() if _is_same(source, out) else sources
        publish_together(onnx_file.moves_of(file, out, keep), scratch)
    if _is_same(source, out):
        progress.note(f"{out} was replaced by what it was cleaned to")
    missed = runs if isinstance(runs, str) else ""
    if missed:
        progress.note(f"the whole graph was not compared with its parent: {missed}; every rewrite was proven")
    elif random:
        progress.note(
            f"not compared, as they depend on random numbers: {', '.join(f'{n} ({o})' for n, o in random.items())}"
        )
    if verdict is not None and verdict.powerless:
        progress.note(
            f"comparing {', '.join(verdict.powerless)} proves little: with these inputs it changes by no more than "
            f"rounding errors; --images takes inputs that move it; every rewrite was proven"
        )
    return CleanResult(out, cleaned, verdict, missed, before, after)


def _check_opset(model: ir.Model, source: Path) -> None:
    """Refuse opsets whose operators the rules don't know."""
    opset = model.graph.opset_imports.get("")
    if opset is not None and opset < FIRST_OPSET:
        raise UnreadableGraphError(
            f"{source} is of opset {opset}; the cleanup is for {FIRST_OPSET} and later",
            hint="Export it again with a newer opset, or convert it with onnx.version_converter.",
        )


def _is_same(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()


def _compared(runs: Sequence[SourceRun], source: Path, child: ir.Model, file: Path, threads: int) -> Verdict:
    """The verdict on a cleaned graph, which agrees with its source."""

    def run_again(run: SourceRun) -> dict[Tensor, Array]:
        return run_perturbed(run, read(source), source.parent, threads)

    verdict = compare_with_source(runs, child, file.parent, threads, run_again)
    if isinstance(verdict, Verdict) and verdict.agrees:
        return verdict
    reason = verdict if isinstance(verdict, str) else _difference(verdict)
    raise CleanupError(
        f"the cleaned graph doesn't compute what {source} computes: {reason}",
        hint="No file was written. This is a defect of the cleanup: please report it with the file.",
    )


def _difference(verdict: Verdict) -> str:
    """The worst output, and the first tensor that differs."""
    worst = next((c for c in (verdict.worst_of("output"),) if c is not None and not c.agrees), verdict.worst)
    first = verdict.first_disagreement
    begins = f"; the first to differ is the {first.role} {first.tensor}" if first not in (None, worst) else ""
    return (
        f"{worst.tensor} differs by {number(worst.error)}, baseline error {number(worst.baseline)} "
        f"(max error ratio {worst.limit:g}){begins}"
    )


def error_of(reverted: Sequence[RevertedRewrite]) -> CleanupError | None:
    """What is to be said of rules that were wrong, None if there were none."""
    if reverted:
        first, count = reverted[0], len(reverted)
        return CleanupError(
            f"the rule {first.rule!r} would have changed the result at {first.place} by {first.error:.1e} "
            f"({first.tolerance:.1e} is allowed); {count} rewrite{'s were' if count > 1 else ' was'} reverted",
            hint="The file was written without it, and is right. The rule is not: please report it with the file.",
        )
    return None
