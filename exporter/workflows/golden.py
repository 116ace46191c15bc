"""Compares an artifact with golden outputs."""

from pathlib import Path

from attn_export.exporter.artifacts import Signature
from attn_export.exporter.bundle.golden import GoldenVectors, signature_of
from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.records.engine import Profile
from attn_export.exporter.records.verdict import SIZE, Verdict
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.system.progress import Progress, counted
from attn_export.exporter.validation.validate_golden import validate_golden


def judge_engine(engine: Path, golden: GoldenVectors, profile: Profile, progress: Progress) -> Verdict:
    """Validate a new engine on this machine's GPU.

    Returns:
        The verdict, which agrees.

    Raises:
        DisagreementError: an output differs.
        RuntimeUnavailableError, UnreadableEngineError: the engine doesn't run on this machine.
    """
    runtime = open_engine(engine, signature_of(golden, profile), Settings(threads=1), trust=False)
    verdict = run_golden(golden, runtime, "Comparing the engine with its graph", progress)
    if (error := disagreement(engine, verdict)) is not None:
        raise error
    return verdict


def run_golden(golden: GoldenVectors, runtime: Runtime, title: str, progress: Progress) -> Verdict:
    """Run the golden inputs and compare the outputs, as a stage with a title."""
    with progress.stage(title) as advance, runtime:
        return validate_golden(golden, runtime.run, runtime.provenance, counted(advance, golden.batches))


def open_engine(path: Path, signature: Signature, settings: Settings, trust: bool) -> Runtime:
    """TensorRT on this machine's GPU."""
    from attn_export.exporter.runtimes.tensorrt import TensorRT

    return TensorRT(path, signature, settings, trust=trust)


def disagreement(artifact: Path, verdict: Verdict) -> DisagreementError | None:
    """The error of a verdict; None if it agrees."""
    if verdict.agrees:
        return None
    worst = verdict.worst
    if worst.kind == SIZE:
        what = f"{worst.tensor} is missing or has another size"
    elif worst.error is None or worst.ratio is None:
        what = f"{worst.tensor} on {worst.kind} images has NaN or infinite values"
    else:
        what = (
            f"{worst.tensor} on {worst.kind} images has an error of {worst.error:.1e}, {worst.ratio:.0f} times "
            f"{verdict.baseline} (limit: {worst.limit:g} times)"
        )
    return DisagreementError(
        f"{artifact} doesn't compute the golden outputs ({verdict.reference}): {what}",
        hint="Was it made from this network? If so, please report it with the versions on the device.",
    )
